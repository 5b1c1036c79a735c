"""The excitation of the spectral vocoder: a pulse train of the voice's pitch, or noise.

In the spirit of the neural source-filter models (Wang et al. 2019), but at the frame rate
and in closed form: what the short-time spectrum of a pulse train is, not the train itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.nn.mel import squared_length
from pcodec.nn.streaming import CausalConv, ConvNeXtBlock, Past


def hann_transform(bins: Tensor) -> Tensor:
    """The Fourier transform of a Hann window, so many bins from its middle; 1 there.

    sinc(x) / (1 - x^2) as a polynomial of x^2 (by Chebyshev's nodes, to 1e-5); 0 from two
    bins on.
    """
    square = bins.square().clamp(max=4.0)
    result = square * -7.96422997e-05 + 1.95010996e-03
    for coefficient in (-2.34392063e-02, 1.66346642e-01, -6.44777566e-01, 9.99991325e-01):
        result = result * square + coefficient
    return result


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
        octaves = voiced * (self.frequency.double() / 150).log2().float()
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
        noise = noise / squared_length(noise)[..., None].add(1e-9).sqrt()
        self.register_buffer("noise", noise.movedim(-1, 0).contiguous(), persistent=False)
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
        # In double precision: the last bit of a float32 exponential depends on the chunk.
        shares = scores.gather(-1, near).double().softmax(-1)
        octaves = ((near + 0.5) * shares).sum(-1) / self.BINS_AN_OCTAVE
        frequency = self.LOW * octaves.exp2()
        # Cycles from frame to frame; how many since the onset is a difference of sums.
        advance = frequency * (self.hop / self.sample_rate)
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
        return Pitch(frequency.float(), phase, torch.zeros_like(phase), voiced, frame)

    def forward(self, pitch: Pitch) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Cosine and sine of the excitation's phase, and its log-level: (B, frames, bins) each.

        A pulse train under a Hann window is, at each bin, the sum of the two harmonics
        about it, each with the window's transform; in the middle of a frame that is real.
        """
        bins = torch.arange(self.n_fft // 2 + 1, device=pitch.phase.device)
        spacing = (pitch.frequency * (self.n_fft / self.sample_rate))[..., None]
        place = bins / spacing
        lower = place.floor()
        below = (place - lower) * spacing
        low, high = hann_transform(torch.stack([below, spacing - below])).unbind(0)
        low = low * (lower > 0)
        # The upper harmonic is the lower one, turned by one pulse's phase.
        along = low + high * pitch.phase.cos()[..., None]
        across = high * pitch.phase.sin()[..., None]
        power = along.square() + across.square()
        factor = (power + 1e-6).rsqrt() * self.sign
        along, across = along * factor, across * factor
        angle = lower * pitch.phase[..., None] + pitch.constant[..., None]
        cosine, sine = angle.cos(), angle.sin()
        voiced = pitch.voiced[..., None]
        noise = self.noise[:, pitch.frame % self.NOISE_FRAMES]
        source = (
            torch.where(voiced, cosine * along - sine * across, noise[0]),
            torch.where(voiced, sine * along + cosine * across, noise[1]),
        )
        level = torch.where(voiced, 0.5 * (power + 1e-3).log(), 0.0)
        return source, level
