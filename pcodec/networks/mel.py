"""Front end: log-mel frames, and the complex spectrum of the low band."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.dsp import LOW_BAND_FLOOR, MEL_FLOOR, mel_filters
from pcodec.networks.stft import squared_length


class MelSpectrogram(nn.Module):
    """Samples to log-mel frames (natural log of mel-filtered magnitudes, floor 1e-5) and low band.

    Frame f is centred on hop f: it sees samples ``hop * f - overhang ... hop * (f + 1) +
    overhang`` with ``overhang = (window - hop) / 2``.
    """

    window: Tensor
    filters: Tensor
    sign: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.n_fft, self.hop, self.low_bins = config.n_fft, config.hop, config.low_bins
        self.overhang = (config.window - config.hop) // 2
        self.register_buffer("window", torch.hann_window(config.window))
        filters = mel_filters(config.mel_bands, config.n_fft, config.sample_rate)
        self.register_buffer("filters", torch.from_numpy(filters))
        # Moves phases from the start of the frame, the origin of the FFT, to its middle.
        sign = 1.0 - 2.0 * (torch.arange(1, self.low_bins + 1) % 2)
        self.register_buffer("sign", sign, persistent=False)

    def frames(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples with ``overhang`` more on both sides -> log-mel (B, frames, bands), low band.

        The low band (B, frames, 2 * bins) holds the real, then the imaginary parts of the frame's
        spectrum, with phases relative to the middle of the frame.
        """
        pieces = x.unfold(-1, len(self.window), self.hop)
        spectrum = torch.view_as_real(torch.fft.rfft(pieces * self.window, self.n_fft))
        magnitude = squared_length(spectrum).sqrt()
        mel = (magnitude @ self.filters.T).clamp(min=MEL_FLOOR).log()
        step = self.n_fft // len(self.window)
        low = spectrum[..., step : step * self.low_bins + 1 : step, :] * self.sign[:, None]
        return mel, low.transpose(-1, -2).flatten(-2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`frames` of samples (B, n), padded with silence; n is a multiple of the hop."""
        return self.frames(F.pad(x, (self.overhang, self.overhang)))


def level_of(low: Tensor, frames: int) -> Tensor:
    """Low band (B, columns * frames, 2 * bins) -> its level in each column, (B, columns).

    The root mean square of the complex values, plus a floor.
    """
    power = 2 * low.unflatten(1, (-1, frames)).square().mean((2, 3))
    return (power + LOW_BAND_FLOOR**2).sqrt()


def normalize(low: Tensor, level: Tensor) -> Tensor:
    """Low band (B, frames, 2 * bins) divided by the level of its columns (B, columns)."""
    columns = low.unflatten(1, (level.shape[1], -1))
    return (columns / level[..., None, None]).flatten(1, 2)
