"""Short-time spectra: phasors, and the inverse transform."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcodec.dsp import PHASOR_FLOOR, WINDOW_FLOOR


def squared_length(vectors: Tensor) -> Tensor:
    """Squared length of (..., 2), as of `torch.view_as_real`; ten times faster than `sum(-1)`."""
    squares = vectors.square()
    return squares[..., 0] + squares[..., 1]


class InverseSTFT(nn.Module):
    """Overlap-add of windowed frames, framed as in `MelSpectrogram`, normalised exactly."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop, self.overhang = n_fft, hop, (n_fft - hop) // 2
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Complex (B, frames, n_fft // 2 + 1) -> samples (B, n); n = frames * hop."""
        batch, frames, _ = spectrum.shape
        slices = self.n_fft // self.hop
        pieces = torch.fft.irfft(spectrum, self.n_fft) * self.window
        # One more row with squared windows: their sum is the scale of the frames.
        weights = self.window.square().expand(1, frames, self.n_fft)
        pieces = torch.cat([pieces, weights], 0).view(batch + 1, frames, slices, self.hop)
        total = pieces.new_zeros(batch + 1, frames + slices - 1, self.hop)
        for i in range(slices):
            total[:, i : i + frames] += pieces[:, :, i]
        samples = total[:-1].flatten(1) / total[-1:].flatten(1).clamp(min=WINDOW_FLOOR)
        return samples[:, self.overhang : self.overhang + frames * self.hop]


def unit(real: Tensor, imaginary: Tensor, floor: float = PHASOR_FLOOR) -> tuple[Tensor, Tensor]:
    """Phasors scaled to length 1, except where their squared length is near `floor`."""
    factor = (real.square() + imaginary.square() + floor).rsqrt()
    return real * factor, imaginary * factor
