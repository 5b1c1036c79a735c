"""Log-mel front end and short-time Fourier transforms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.dsp import FLOOR, mel_filters


def squared_length(vectors: Tensor) -> Tensor:
    """Of (..., 2), as `torch.view_as_real` gives, to (...). `sum(-1)` takes ten times as long."""
    squares = vectors.square()
    return squares[..., 0] + squares[..., 1]


class MelSpectrogram(nn.Module):
    """Samples to log-mel frames: natural log of mel-filtered magnitudes, floor 1e-5.

    Frame f is centred on hop f: it sees samples ``hop * f - overhang ... hop * (f + 1) +
    overhang`` with ``overhang = (window - hop) / 2``.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, n_fft: int, window: int, hop: int, bands: int) -> None:
        super().__init__()
        self.n_fft, self.hop, self.overhang = n_fft, hop, (window - hop) // 2
        self.register_buffer("window", torch.hann_window(window))
        filters = torch.from_numpy(mel_filters(bands, n_fft, sample_rate))
        self.register_buffer("filters", filters)

    def frames(self, x: Tensor) -> Tensor:
        """Samples with ``overhang`` more on both sides -> log-mel (B, frames, bands)."""
        pieces = x.unfold(-1, len(self.window), self.hop)
        spectrum = torch.view_as_real(torch.fft.rfft(pieces * self.window, self.n_fft))
        magnitude = squared_length(spectrum).sqrt()
        return (magnitude @ self.filters.T).clamp(min=FLOOR).log()

    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, n) -> log-mel (B, frames, bands); n a multiple of the hop."""
        return self.frames(F.pad(x, (self.overhang, self.overhang)))


class InverseSTFT(nn.Module):
    """Overlap-add of windowed frames, framed as in `MelSpectrogram`, normalised exactly."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop, self.overhang = n_fft, hop, (n_fft - hop) // 2
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, spectrum: Tensor) -> Tensor:
        """Complex (B, frames, n_fft // 2 + 1) -> samples (B, n); n = frames * hop."""
        batch, frames, _ = spectrum.shape
        slices = self.n_fft // self.hop
        pieces = torch.fft.irfft(spectrum, self.n_fft) * self.window
        # One more row, of squared windows: their sum is what the frames were scaled by.
        weights = self.window.square().expand(1, frames, self.n_fft)
        pieces = torch.cat([pieces, weights], 0).view(batch + 1, frames, slices, self.hop)
        total = pieces.new_zeros(batch + 1, frames + slices - 1, self.hop)
        for i in range(slices):
            total[:, i : i + frames] += pieces[:, :, i]
        samples = total[:-1].flatten(1) / total[-1:].flatten(1).clamp(min=1e-6)
        return samples[:, self.overhang : self.overhang + frames * self.hop]
