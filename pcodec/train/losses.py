"""Losses of the regression stages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.nn.mel import mel_filters
from pcodec.nn.vocoder import Spectrum


def loudness_weights(log_mel: Tensor) -> Tensor:
    """How much a cell of a log-mel (B, frames, bands) matters, mean 1 an item.

    Loudness grows with about the 0.4th power of amplitude (Zwicker); a floor keeps the
    quiet cells from being forgotten.
    """
    level = log_mel - log_mel.logsumexp((1, 2), keepdim=True)
    loudness = (0.4 * level).exp()
    return 0.3 + 0.7 * loudness / loudness.mean((1, 2), keepdim=True)


def mel_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Loudness-weighted mean |difference| of log-mels (B, frames, bands)."""
    return ((predicted - target).abs() * loudness_weights(target)).mean()


class MultiResolutionMelLoss(nn.Module):
    """`mel_loss` of waveforms at window lengths from ``shortest`` samples to 128 ms."""

    RESOLUTIONS = ((2048, 160), (1024, 128), (512, 80), (256, 48), (128, 24))

    def __init__(self, sample_rate: int, shortest: int = 128) -> None:
        super().__init__()
        self.resolutions = [(n_fft, b) for n_fft, b in self.RESOLUTIONS if n_fft >= shortest]
        for n_fft, bands in self.resolutions:
            self.register_buffer(f"window{n_fft}", torch.hann_window(n_fft), persistent=False)
            filters = mel_filters(bands, n_fft, sample_rate).T.contiguous()
            self.register_buffer(f"filters{n_fft}", filters, persistent=False)

    def log_mel(self, x: Tensor, n_fft: int) -> Tensor:
        window, filters = getattr(self, f"window{n_fft}"), getattr(self, f"filters{n_fft}")
        pieces = F.pad(x, (n_fft // 2, n_fft // 2)).unfold(-1, n_fft, n_fft // 4) * window
        spectrum = torch.view_as_real(torch.fft.rfft(pieces))
        magnitude = (spectrum.square().sum(-1) + 1e-10).sqrt()
        return (magnitude @ filters).clamp(min=1e-5).log()

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Samples (B, n) twice -> scalar."""
        losses = []
        for n_fft, _ in self.resolutions:
            with torch.no_grad():
                wanted = self.log_mel(target, n_fft)
            losses.append(mel_loss(self.log_mel(predicted, n_fft), wanted))
        return torch.stack(losses).mean()


def phase_loss(predicted: Spectrum, target: Tensor) -> Tensor:
    """Distance of phases, and of their differences along frequency and time.

    After APNet (Ai & Ling 2023), but measured as a chord of the unit circle (no arc
    tangent), and weighted by loudness: the phase of silence is noise.

    target: complex spectrum (B, frames, bins) framed as the prediction.
    """
    target = torch.view_as_real(target)
    amplitude = (target.square().sum(-1) + 1e-10).sqrt()
    weights = loudness_weights(amplitude.clamp(min=1e-5).log())
    a, b = predicted.phasor, target / amplitude[..., None]
    # The difference as a phasor: a times the conjugate of b.
    real = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1]
    imaginary = a[..., 1] * b[..., 0] - a[..., 0] * b[..., 1]

    def chord(cosine: Tensor) -> Tensor:
        return (2 - 2 * cosine).clamp(min=1e-4).sqrt()

    along_bins = real[..., 1:] * real[..., :-1] + imaginary[..., 1:] * imaginary[..., :-1]
    along_frames = real[:, 1:] * real[:, :-1] + imaginary[:, 1:] * imaginary[:, :-1]
    return (
        (chord(real) * weights).mean()
        + (chord(along_bins) * weights[..., 1:]).mean()
        + (chord(along_frames) * weights[:, 1:]).mean()
    )
