"""The excitation of the spectral vocoder: a pulse train of the voice's pitch, or noise.

In the spirit of the neural source-filter models (Wang et al. 2019), but at the frame rate
and in closed form: what the short-time spectrum of a pulse train is, not the train itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.nn.streaming import CausalConv, ConvNeXtBlock, Past


class Pitch(NamedTuple):
    """A pitch track, (B, frames) each."""

    frequency: Tensor
    """of the fundamental, Hz"""
    phase: Tensor
    """of the pulses in the middle of the frame, radians"""
    constant: Tensor
    """what is added to the phase of every harmonic, radians: a recording's polarity"""
    voiced: Tensor
    """True or False"""
    frame: Tensor
    """number of the frame: where in the noise it is"""

    def features(self) -> Tensor:
        """(B, frames, 3): voicing, and the pitch in octaves."""
        voiced = self.voiced.float()
        octaves = voiced * (self.frequency / 150).log2()
        return torch.stack([voiced, octaves, octaves.square()], -1)


class Excitation(nn.Module):
    """Predicts the pitch from a log-mel, and gives the phases of the excitation it means."""

    LOW, BINS, BINS_AN_OCTAVE = 55.0, 108, 36
    """Pitches from 55 to 440 Hz, 33 cents a class"""
    NOISE_FRAMES = 512
    noise: Tensor
    sign: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width = 128
        self.sample_rate, self.hop, self.n_fft = (
            config.sample_rate,
            config.hop,
            config.vocoder_n_fft,
        )
        self.column = config.patch_frames
        self.embed = CausalConv(config.mel_bands, width, 7, config.vocoder_look_ahead)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, 3 * width, 7, 0.5) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1 + self.BINS)
        # The short-time spectra of one stretch of white noise, as phasors, again and again.
        length = (self.NOISE_FRAMES - 1) * self.hop + self.n_fft
        white = torch.randn(length, generator=torch.Generator().manual_seed(1))
        pieces = white.unfold(0, self.n_fft, self.hop) * torch.hann_window(self.n_fft)
        noise = torch.view_as_real(torch.fft.rfft(pieces))
        noise = noise / noise.square().sum(-1, keepdim=True).add(1e-9).sqrt()
        self.register_buffer("noise", noise, persistent=False)
        # From a phase in the middle of the frame to one at its start, where the FFT counts from.
        sign = 1.0 - 2.0 * (torch.arange(self.n_fft // 2 + 1) % 2)
        self.register_buffer("sign", sign, persistent=False)

    def logits(self, normal: Tensor, past: Past | None = None, last: bool = True) -> Tensor:
        """Normalised log-mel (B, frames, bands) -> (B, frames', 1 + BINS): voicing, pitch."""
        x = self.embed(normal, past, last)
        for block in self.blocks:
            x = block(x, past, last)
        y: Tensor = self.head(self.norm(x)).float()
        return y

    def start(self, past: Past, frame: int) -> None:
        """Begins a stream in the middle: the number of its first frame."""
        state = [[0.0, 0.0, float(frame)]]
        past[self] = torch.tensor(state, dtype=torch.float64, device=self.noise.device)

    def pitch(self, logits: Tensor, past: Past | None = None) -> Pitch:
        """The track that `logits` mean; the phase starts at each onset of voicing."""
        batch, frames, _ = logits.shape
        before = None if past is None else past.get(self)
        if before is None:
            before = logits.new_zeros(batch, 3, dtype=torch.float64)
        voiced = logits[..., 0] > 0
        scores = logits[..., 1:]
        best = scores.argmax(-1, keepdim=True)
        near = (best + torch.arange(-2, 3, device=best.device)).clamp(0, self.BINS - 1)
        shares = scores.gather(-1, near).softmax(-1)
        octaves = ((near + 0.5) * shares).sum(-1) / self.BINS_AN_OCTAVE
        frequency = self.LOW * octaves.exp2()
        # Cycles from frame to frame; how many since the onset is a difference of sums.
        advance = frequency.double() * (self.hop / self.sample_rate)
        cycles = before[:, :1] + advance.cumsum(1)
        was = torch.cat([before[:, 1:2] > 0, voiced[:, :-1]], 1)
        onset = voiced & ~was
        number = torch.arange(1, frames + 1, device=logits.device)
        since = torch.where(onset, number, 0).cummax(1).values
        start = torch.cat([torch.zeros_like(cycles[:, :1]), cycles], 1).gather(1, since)
        cycles = (cycles - start) % 1.0
        frame = before[:, 2:].long() + number - 1
        if past is not None and frames:
            past[self] = torch.stack(
                [cycles[:, -1], voiced[:, -1].double(), frame[:, -1].double() + 1], 1
            )
        phase = (2 * math.pi * cycles).float()
        return Pitch(frequency, phase, torch.zeros_like(phase), voiced, frame)

    def forward(self, pitch: Pitch) -> tuple[Tensor, Tensor]:
        """Phasors (B, frames, bins, 2) of the excitation, and its log-level (B, frames, bins).

        A pulse train under a Hann window is, at each bin, the sum of the two harmonics
        about it, each with the window's transform; in the middle of a frame that is real.
        """
        bins = torch.arange(self.n_fft // 2 + 1, device=pitch.phase.device)
        spacing = (pitch.frequency * (self.n_fft / self.sample_rate))[..., None]
        # (B, frames, 2, bins): the harmonics below and above each bin.
        harmonic = (bins / spacing).floor()[..., None, :] + bins[:2, None]
        distance = (bins - harmonic * spacing[..., None]).abs()
        # Hann's transform, sinc(d) / (1 - d^2), whose pole at 1 is taken out.
        distance = torch.where((distance - 1).abs() < 1e-3, 1.001, distance)
        height = torch.sinc(distance) / (1 - distance.square())
        height = torch.where((distance < 2) & (harmonic > 0), height, 0.0)
        angle = harmonic * pitch.phase[..., None, None] + pitch.constant[..., None, None]
        real, imaginary = (height * angle.cos()).sum(-2), (height * angle.sin()).sum(-2)
        power = real.square() + imaginary.square()
        pulses = torch.stack([real, imaginary], -1)
        pulses = pulses * ((power + 1e-6).rsqrt() * self.sign)[..., None]
        voiced = pitch.voiced[..., None]
        noise = F.embedding(pitch.frame % self.NOISE_FRAMES, self.noise.flatten(1))
        source = torch.where(voiced[..., None], pulses, noise.unflatten(-1, (-1, 2)))
        level = torch.where(voiced, 0.5 * (power + 1e-3).log(), 0.0)
        return source, level
