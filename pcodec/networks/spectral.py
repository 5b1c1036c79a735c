"""The spectral vocoder: log-mel and low band to samples.

A vocoder is a module called as ``vocoder(mel, low)`` with mel (B, frames, bands) and low
(B, frames, 2 * bins); it gives samples (B, n), n = frames * hop. As Vocos (Siuzdak 2023) and FreeV
(Lv et al. 2024), this one works at the frame rate only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import FRAME_KERNEL, CodecConfig
from pcodec.dsp import (
    BIN_FLOOR,
    COLUMN_WINDOW_FLOOR,
    LOW_PHASE_FLOOR,
    MAX_LOG_AMPLITUDE,
    OVERRELAXATION,
    PREDICTED_PHASOR_FLOOR,
    mel_inverse,
)
from pcodec.networks.excitation import Excitation, Pitch, seen
from pcodec.networks.layers import CausalConv, ConvNeXtBlock
from pcodec.networks.stft import InverseSTFT, unit


class Spectrum(NamedTuple):
    """A predicted spectrum in polar form, (B, frames, n_fft // 2 + 1) each."""

    log_amplitude: Tensor
    """Natural log of the amplitude."""
    cosine: Tensor
    sine: Tensor
    """Cosine of the phase."""

    def complex(self) -> Tensor:
        """(B, frames, n_fft // 2 + 1)"""
        amplitude = self.log_amplitude.clamp(max=MAX_LOG_AMPLITUDE).exp()
        return torch.complex(self.cosine * amplitude, self.sine * amplitude)


class Consistency(nn.Module):
    """One over-relaxed step of Griffin & Lim (1984) without look-ahead: consistent phases.

    Frames come in columns. The samples of a frame are overlap-added with those of the frames before
    it, and of the later frames of its own column; before and after is silence. The spectrum of that
    has the consistent phases. The step is over-relaxed: old + 1.6 * (consistent - old), as in
    Perraudin et al. (2013).
    """

    window: Tensor
    scale: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.n_fft, self.hop, self.column = config.vocoder_n_fft, config.hop, config.patch_frames
        self.overlap = self.n_fft // self.hop - 1
        # Frames of the first column that the vocoder has, less its look-ahead.
        self.lead = config.vocoder_look_ahead % self.column
        window = torch.hann_window(self.n_fft)
        weights = window.square().expand(1, self.overlap + self.column, -1)
        scale = window / self.seen(weights)[0].clamp(min=COLUMN_WINDOW_FLOOR)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def seen(self, pieces: Tensor) -> Tensor:
        """Whole columns of pieces (B, overlap + frames, n_fft) -> overlap-added frames."""
        pieces = pieces.unflatten(2, (-1, self.hop))
        columns = pieces.unfold(1, self.overlap + self.column, self.column).movedim(-1, 2)
        total = F.pad(columns[:, :, :, 0], (0, 0, 0, self.overlap))
        for i in range(1, self.overlap + 1):
            total[:, :, i : i + columns.shape[2]] += columns[:, :, :, i]
        seen = total.unfold(2, self.overlap + 1, 1)[:, :, self.overlap :]
        return seen.transpose(3, 4).flatten(3)  # (B, columns, frames of one, n_fft)

    def forward(self, spectrum: Spectrum) -> Spectrum:
        """The spectrum with consistent phases."""
        frames = spectrum.cosine.shape[1]
        pieces = torch.fft.irfft(spectrum.complex(), self.n_fft) * self.window
        rest = -(self.lead + frames) % self.column
        pieces = F.pad(pieces, (0, 0, self.overlap + self.lead, rest))
        again = torch.fft.rfft(self.seen(pieces) * self.scale).flatten(1, 2)
        again = torch.view_as_real(again[:, self.lead : self.lead + frames])
        cosine, sine = unit(again[..., 0], again[..., 1])
        beyond = 1 + OVERRELAXATION
        cosine = torch.lerp(spectrum.cosine, cosine, beyond)
        sine = torch.lerp(spectrum.sine, sine, beyond)
        return Spectrum(spectrum.log_amplitude, *unit(cosine, sine))


class SpectralVocoder(nn.Module):
    """ConvNeXt blocks at the frame rate, then one inverse STFT.

    Predicts the amplitude as a correction of the pseudo-inverse mel. Predicts the phase relative to
    that of the low band, and above it relative to that of an excitation, whose pulses are where
    the low band puts them.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width, blocks = config.vocoder_width, config.vocoder_blocks
        self.low_bins = config.low_bins
        channels = config.mel_bands + 2 * config.low_bins
        self.embed = CausalConv(channels, width, FRAME_KERNEL, config.vocoder_look_ahead)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, 3 * width, FRAME_KERNEL, 1 / blocks) for _ in range(blocks)
        )
        self.final_norm = nn.LayerNorm(width)
        self.inverse = nn.Parameter(torch.from_numpy(mel_inverse(config)))
        self.head = nn.Linear(width, 3 * self.inverse.shape[1])
        self.excitation = Excitation(config)
        self.embed_pitch = nn.Linear(3, width)
        self.source = nn.Linear(width, 3 * self.inverse.shape[1])
        for layer in (self.embed_pitch, self.source):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # Initially the phases of the low band are taken unchanged.
        self.low = nn.Linear(width, 2 * self.low_bins)
        nn.init.zeros_(self.low.weight)
        taken = torch.cat([torch.ones(self.low_bins), torch.zeros(self.low_bins)])
        self.low.bias = nn.Parameter(taken)
        self.consistency = Consistency(config)
        self.inverse_stft = InverseSTFT(config.vocoder_n_fft, config.hop)

    def low_phasors(self, low: Tensor) -> tuple[Tensor, Tensor]:
        """The low band's cosines and sines at the start of the frame, (B, frames, bins) each.

        Their length is below 1 where the low band is weak and its phase uncertain.
        """
        real, imaginary = low.float().chunk(2, -1)
        cosine, sine = unit(real, imaginary, LOW_PHASE_FLOOR)
        sign = self.excitation.sign[1 : 1 + self.low_bins]
        return cosine * sign, sine * sign

    def spectrum(
        self, mel: Tensor, low: Tensor, pitch: Pitch | None = None, first: int = 0
    ) -> Spectrum:
        """Log-mel (B, frames, bands) and low band (B, frames, 2 * bins) -> spectrum of the frames.

        pitch: replaces the predicted pitch in training. first: index of the first frame.
        """
        normal = seen(mel, low)
        x = self.norm(self.embed(normal))
        if pitch is None:
            pitch = self.excitation.pitch(self.excitation.logits(normal), first)
        source, level = self.excitation(pitch)
        x = x + self.embed_pitch(pitch.features())
        for block in self.blocks:
            x = block(x)
        x = self.final_norm(x)
        heads = torch.cat([self.head(x), self.source(x)], -1).float().chunk(6, -1)
        correction, real, imaginary, gate, a, b = heads
        prior = mel.float().exp() @ self.inverse.abs()
        log_amplitude = prior.clamp(min=BIN_FLOOR).log() + correction + gate * level
        cosine, sine = source
        real = real + a * cosine - b * sine
        imaginary = imaginary + a * sine + b * cosine
        cosine, sine = self.low_phasors(low)
        c, d = self.low(x).float().chunk(2, -1)
        above = (1, real.shape[-1] - 1 - self.low_bins)
        real = real + F.pad(c * cosine - d * sine, above)
        imaginary = imaginary + F.pad(c * sine + d * cosine, above)
        # The floor bounds the gradient where a phasor is near zero.
        return Spectrum(log_amplitude, *unit(real, imaginary, PREDICTED_PHASOR_FLOOR))

    def synthesize(self, spectrum: Spectrum) -> Tensor:
        """Spectrum -> samples (B, n)."""
        samples: Tensor = self.inverse_stft(spectrum.complex())
        return samples

    def forward(self, mel: Tensor, low: Tensor, first: int = 0) -> Tensor:
        """Log-mel (B, frames, bands) and low band -> samples (B, n), not clipped.

        first: index of the first frame, in the middle of a recording.
        """
        return self.synthesize(self.consistency(self.spectrum(mel, low, first=first)))
