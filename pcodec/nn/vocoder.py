"""Vocoders: log-mel frames to samples, behind one interface.

A vocoder is a module called as ``vocoder(mel, past, last)`` with mel (B, frames, bands),
giving samples (B, n), n = frames * hop offline. `SpectralVocoder` is of the family of
Vocos (Siuzdak 2023) and FreeV (Lv et al. 2024): it works at the frame rate only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.nn.mel import InverseSTFT, mel_inverse
from pcodec.nn.patch_vqvae import MEAN, SPREAD
from pcodec.nn.streaming import CausalConv, ConvNeXtBlock, Past, with_past


class Spectrum(NamedTuple):
    """A predicted spectrum in polar form."""

    log_amplitude: Tensor
    """(B, frames, n_fft // 2 + 1), natural log"""
    phasor: Tensor
    """(B, frames, n_fft // 2 + 1, 2), cosine and sine of the phase"""


class SpectralVocoder(nn.Module):
    """ConvNeXt blocks at the frame rate, then one inverse STFT.

    Predicts the phase, and the amplitude as a correction of the pseudo-inverse mel.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width, blocks = config.vocoder_width, config.vocoder_blocks
        self.look_ahead = config.vocoder_look_ahead
        self.embed = CausalConv(config.mel_bands, width, 7, self.look_ahead)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, 3 * width, 7, 1 / blocks) for _ in range(blocks)
        )
        self.final_norm = nn.LayerNorm(width)
        self.inverse = nn.Parameter(mel_inverse(config))
        self.head = nn.Linear(width, 3 * self.inverse.shape[1])
        self.inverse_stft = InverseSTFT(config.vocoder_n_fft, config.hop)

    def spectrum(self, mel: Tensor, past: Past | None = None, last: bool = True) -> Spectrum:
        """Log-mel (B, frames, bands) -> the spectrum of as many frames as are complete."""
        x = self.norm(self.embed((mel - MEAN) / SPREAD, past, last))
        mel = with_past(self, mel, self.look_ahead, past, last, self.look_ahead)[:, : x.shape[1]]
        for block in self.blocks:
            x = block(x, past, last)
        correction, real, imaginary = self.head(self.final_norm(x)).float().chunk(3, -1)
        prior = mel.float().exp() @ self.inverse.float().abs()
        log_amplitude = prior.clamp(min=1e-5).log() + correction
        phasor = torch.stack([real, imaginary], -1)
        phasor = phasor * (phasor.square().sum(-1, keepdim=True) + 1e-9).rsqrt()
        return Spectrum(log_amplitude, phasor)

    def synthesize(self, spectrum: Spectrum, past: Past | None = None, last: bool = True) -> Tensor:
        """Spectrum -> samples (B, n)."""
        amplitude = spectrum.log_amplitude.clamp(max=6.0).exp()
        complex_ = torch.view_as_complex(spectrum.phasor * amplitude[..., None])
        samples: Tensor = self.inverse_stft(complex_, past, last)
        return samples

    def forward(self, mel: Tensor, past: Past | None = None, last: bool = True) -> Tensor:
        """Log-mel (B, frames, bands) -> samples (B, n), |sample| not limited."""
        return self.synthesize(self.spectrum(mel, past, last), past, last)
