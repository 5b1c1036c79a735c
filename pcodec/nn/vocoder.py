"""Vocoders: log-mel frames to samples, behind one interface.

A vocoder is a module called as ``vocoder(mel, past, last)`` with mel (B, frames, bands),
giving samples (B, n), n = frames * hop offline. `SpectralVocoder` is of the family of
Vocos (Siuzdak 2023) and FreeV (Lv et al. 2024): it works at the frame rate only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.nn.excitation import Excitation, Pitch
from pcodec.nn.mel import InverseSTFT, mel_inverse, squared_length
from pcodec.nn.patch_vqvae import MEAN, SPREAD
from pcodec.nn.streaming import CausalConv, ConvNeXtBlock, Past, with_past


def unit(phasors: Tensor, floor: float = 1e-14) -> Tensor:
    """Phasors (..., 2) brought to length 1, but where their squared length is near `floor`."""
    return phasors * (squared_length(phasors)[..., None] + floor).rsqrt()


class Spectrum(NamedTuple):
    """A predicted spectrum in polar form."""

    log_amplitude: Tensor
    """(B, frames, n_fft // 2 + 1), natural log"""
    phasor: Tensor
    """(B, frames, n_fft // 2 + 1, 2), cosine and sine of the phase"""
    frame: Tensor
    """(B, frames), the frames' numbers in the stream"""

    def complex(self) -> Tensor:
        """(B, frames, n_fft // 2 + 1)"""
        amplitude = self.log_amplitude.clamp(max=6.0).exp()
        return torch.view_as_complex(self.phasor * amplitude[..., None])


class Consistency(nn.Module):
    """One step of Griffin & Lim (1984), with no look-ahead: phases that agree with each other.

    Frames come in columns. A frame's samples are overlapped and added with those of the
    frames before it, and of those after it that come with the same column. The result goes
    from the phases that it had to those of what that gives, and beyond (Perraudin et al. 2013).
    """

    BEYOND = 0.6
    """how far beyond the step's own result it goes, in steps"""
    window: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.n_fft, self.hop, self.column = config.vocoder_n_fft, config.hop, config.patch_frames
        # The last frame that a column brings: the vocoder holds back those it looks ahead at.
        self.end = (-1 - config.vocoder_look_ahead) % self.column
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    def forward(self, spectrum: Spectrum, past: Past | None = None, last: bool = True) -> Spectrum:
        """The spectrum with other phases, of as many frames as are complete."""
        place = (spectrum.frame % self.column)[..., None, None]
        amplitude = spectrum.log_amplitude[..., None]
        place = place.expand_as(amplitude).to(amplitude)
        new = torch.cat([amplitude, spectrum.phasor, place], -1)
        overlap = self.n_fft // self.hop - 1
        x = None if past is None else past.get(self)
        if x is None:  # before the stream there was silence
            x = new.new_zeros(new.shape[0], overlap, *new.shape[2:])
            x[..., 0] = -30.0
        x = torch.cat([x, new], 1)
        count = x.shape[1] - overlap
        if past is not None and not last:
            ends = (x[0, overlap:, 0, 3] == self.end).nonzero()
            count = int(ends[-1]) + 1 if len(ends) else 0
            past[self] = x[:, count:]
        x = x[:, : overlap + count]
        log_amplitude, phasor = x[..., 0], x[..., 1:3]
        later = (self.end - x[0, :, 0, 3]) % self.column
        frame = torch.arange(overlap + count, device=x.device)
        frames = Spectrum(log_amplitude, phasor.contiguous(), frame[None])
        if count == 0:
            return Spectrum(*(part[:, overlap:] for part in frames))
        pieces = torch.fft.irfft(frames.complex(), self.n_fft) * self.window
        # One more row, of squared windows: their sum is what the frames were scaled by.
        weights = self.window.square().expand(1, overlap + count, -1)
        pieces = torch.cat([pieces, weights])
        # All that a column's frames see, with as many frames before it as overlap with it.
        lead = self.column - 1 - int(later[overlap])
        rest = -(lead + count) % self.column
        pieces = F.pad(pieces, (0, 0, lead, rest)).unflatten(2, (-1, self.hop))
        columns = pieces.unfold(1, overlap + self.column, self.column).movedim(-1, 2)
        total = F.pad(columns[:, :, :, 0], (0, 0, 0, overlap))
        for i in range(1, overlap + 1):
            total[:, :, i : i + columns.shape[2]] += columns[:, :, :, i]
        seen = total.unfold(2, overlap + 1, 1)[:, :, overlap:].transpose(3, 4)
        seen = seen.flatten(3).flatten(1, 2)[:, lead : lead + count]
        again = torch.fft.rfft(seen[:-1] / seen[-1].clamp(min=1e-3) * self.window)
        agreed = unit(torch.view_as_real(again))
        beyond = unit(torch.lerp(phasor[:, overlap:], agreed, 1 + self.BEYOND))
        return Spectrum(log_amplitude[:, overlap:], beyond, frame[None, overlap:])


class SpectralVocoder(nn.Module):
    """ConvNeXt blocks at the frame rate, then one inverse STFT.

    Predicts the amplitude as a correction of the pseudo-inverse mel, and the phase relative
    to an excitation of the predicted pitch: a mel does not tell where the pulses of a voice
    stand, so that a phase predicted from it alone does not hang together over frames.
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
        self.excitation = Excitation(config)
        self.embed_pitch = nn.Linear(3, width)
        self.source = nn.Linear(width, 3 * self.inverse.shape[1])
        for layer in (self.embed_pitch, self.source):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.consistency = Consistency(config)
        self.inverse_stft = InverseSTFT(config.vocoder_n_fft, config.hop)

    def spectrum(
        self,
        mel: Tensor,
        past: Past | None = None,
        last: bool = True,
        pitch: Pitch | None = None,
    ) -> Spectrum:
        """Log-mel (B, frames, bands) -> the spectrum of as many frames as are complete.

        pitch: what to excite with instead of the predicted pitch, when training.
        """
        normal = (mel - MEAN) / SPREAD
        x = self.norm(self.embed(normal, past, last))
        if pitch is None:
            pitch = self.excitation.pitch(self.excitation.logits(normal, past, last), past)
        source, level = self.excitation(pitch)
        x = x + self.embed_pitch(pitch.features())
        mel = with_past(self, mel, self.look_ahead, past, last, self.look_ahead)[:, : x.shape[1]]
        for block in self.blocks:
            x = block(x, past, last)
        x = self.final_norm(x)
        correction, real, imaginary = self.head(x).float().chunk(3, -1)
        gate, a, b = self.source(x).float().chunk(3, -1)
        prior = mel.float().exp() @ self.inverse.float().abs()
        log_amplitude = prior.clamp(min=1e-5).log() + correction + gate * level
        real = real + a * source[..., 0] - b * source[..., 1]
        imaginary = imaginary + a * source[..., 1] + b * source[..., 0]
        phasor = torch.stack([real, imaginary], -1)
        # The floor bounds the gradient where a phasor passes near zero.
        return Spectrum(log_amplitude, unit(phasor, 1e-2), pitch.frame)

    def synthesize(self, spectrum: Spectrum, past: Past | None = None, last: bool = True) -> Tensor:
        """Spectrum -> samples (B, n)."""
        samples: Tensor = self.inverse_stft(spectrum.complex(), past, last)
        return samples

    def forward(self, mel: Tensor, past: Past | None = None, last: bool = True) -> Tensor:
        """Log-mel (B, frames, bands) -> samples (B, n), |sample| not limited."""
        spectrum = self.consistency(self.spectrum(mel, past, last), past, last)
        return self.synthesize(spectrum, past, last)
