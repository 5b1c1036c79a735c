"""Log-mel front end."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.dsp import FLOOR, mel_filters
from pcodec.networks.stft import squared_length


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
