"""The excitation of the vocoders: a pulse train at the pitch of the voice, or noise.

As in neural source-filter models (Wang et al. 2019), but at the frame rate and in closed form:
the short-time spectrum of a pulse train instead of the train.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcodec.config import FRAME_KERNEL, PITCH_BLOCKS, PITCH_WIDTH, CodecConfig
from pcodec.dsp import (
    HANN_TRANSFORM,
    HARMONIC_LEVEL_FLOOR,
    HARMONIC_POWER_FLOOR,
    LOG_MEL_MEAN,
    LOG_MEL_STD,
    NOISE_FRAMES,
    PITCH_BINS,
    PITCH_BINS_PER_OCTAVE,
    PITCH_MIN_HZ,
    PITCH_REFERENCE_HZ,
    noise_phases,
)
from pcodec.networks.layers import CausalConv, ConvNeXtBlock


def hann_transform(bins: Tensor) -> Tensor:
    """The Fourier transform of a Hann window, ``bins`` from its middle, where it is 1."""
    square = bins.square().clamp(max=4.0)
    result = torch.zeros_like(square)
    for coefficient in HANN_TRANSFORM:
        result = result * square + coefficient
    return result


def seen(mel: Tensor, low: Tensor) -> Tensor:
    """Log-mel and low band as networks see them, normalised: (B, frames, bands + 2 * bins)."""
    return torch.cat([(mel - LOG_MEL_MEAN) / LOG_MEL_STD, low], -1)


class Pitch(NamedTuple):
    """A pitch track, (B, frames) each."""

    frequency: Tensor
    """Fundamental frequency, Hz."""
    phase: Tensor
    """Phase of the pulses in the middle of the frame, radians."""
    constant: Tensor
    """Offset of the phase of every harmonic, radians; it holds the polarity of a recording."""
    voiced: Tensor
    """Voicing, bool."""
    frame: Tensor
    """Frame index; selects the row of the noise table."""

    def features(self) -> Tensor:
        """(B, frames, 3): voicing, and the pitch in octaves."""
        voiced = self.voiced.float()
        octaves = voiced * (self.frequency / PITCH_REFERENCE_HZ).log2()
        return torch.stack([voiced, octaves, octaves.square()], -1)


class FrameNetwork(nn.Module):
    """A causal convolution, ConvNeXt blocks and a dense layer, on what `seen` gives."""

    def __init__(self, config: CodecConfig, width: int, blocks: int, outputs: int) -> None:
        super().__init__()
        channels = config.mel_bands + 2 * config.low_bins
        self.embed = CausalConv(channels, width, FRAME_KERNEL, config.vocoder_look_ahead)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, 3 * width, FRAME_KERNEL, 1 / blocks) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def outputs(self, normal: Tensor) -> Tensor:
        """`seen`, (B, frames, channels) -> (B, frames, outputs)."""
        x = self.embed(normal)
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(self.norm(x))
        return y


class Excitation(FrameNetwork):
    """Predicts pitch and pulses from log-mel and low band; gives the phases of the excitation."""

    noise: Tensor
    sign: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config, PITCH_WIDTH, PITCH_BLOCKS, 1 + PITCH_BINS + 4)
        self.sample_rate, self.hop = config.sample_rate, config.hop
        self.n_fft, self.column = config.vocoder_n_fft, config.patch_frames
        noise = torch.from_numpy(noise_phases(self.n_fft, self.hop))
        self.register_buffer("noise", noise, persistent=False)
        # From a phase in the middle of the frame to one at its start, where the FFT counts from.
        sign = 1.0 - 2.0 * (torch.arange(self.n_fft // 2 + 1) % 2)
        self.register_buffer("sign", sign, persistent=False)

    def logits(self, normal: Tensor) -> Tensor:
        """`seen`, (B, frames, channels) -> (B, frames, 1 + PITCH_BINS + 4).

        Voicing, classes of pitch, and two phasors, real and imaginary part each: of the pulses, and
        of the offset of the phase of every harmonic.
        """
        return self.outputs(normal).float()

    def pitch(self, logits: Tensor, first: int = 0) -> Pitch:
        """The track by `logits`. It has no memory: each frame has its own phase.

        first: index of the first frame, in the middle of a recording.
        """
        batch, frames, _ = logits.shape
        voiced = logits[..., 0] > 0
        scores = logits[..., 1 : 1 + PITCH_BINS]
        best = scores.argmax(-1, keepdim=True)
        near = (best + torch.arange(-2, 3, device=best.device)).clamp(0, PITCH_BINS - 1)
        shares = scores.gather(-1, near).softmax(-1)
        octaves = ((near + 0.5) * shares).sum(-1) / PITCH_BINS_PER_OCTAVE
        frequency = PITCH_MIN_HZ * octaves.exp2()
        pulses, constant = logits[..., 1 + PITCH_BINS :].unflatten(-1, (2, 2)).unbind(-2)
        phase = torch.atan2(pulses[..., 1], pulses[..., 0])
        polarity = torch.atan2(constant[..., 1], constant[..., 0])
        frame = first + torch.arange(frames, device=logits.device).expand(batch, -1)
        return Pitch(frequency, phase, polarity, voiced, frame)

    def forward(self, pitch: Pitch) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Cosine and sine of the excitation's phase, and its log-level: (B, frames, bins) each.

        The spectrum of a pulse train under a Hann window is, at each bin, the sum of the two
        nearest harmonics, weighted by the window's transform, which is real in the middle of
        a frame.
        """
        bins = torch.arange(self.n_fft // 2 + 1, device=pitch.phase.device)
        spacing = (pitch.frequency * (self.n_fft / self.sample_rate))[..., None]
        place = bins / spacing
        lower = place.floor()
        below = (place - lower) * spacing
        low, high = hann_transform(torch.stack([below, spacing - below])).unbind(0)
        low = low * (lower > 0)
        # The upper harmonic is the lower one, rotated by the phase of the pulses.
        along = low + high * pitch.phase.cos()[..., None]
        across = high * pitch.phase.sin()[..., None]
        power = along.square() + across.square()
        factor = (power + HARMONIC_POWER_FLOOR).rsqrt() * self.sign
        along, across = along * factor, across * factor
        angle = lower * pitch.phase[..., None] + pitch.constant[..., None]
        cosine, sine = angle.cos(), angle.sin()
        voiced = pitch.voiced[..., None]
        noise = self.noise[:, pitch.frame % NOISE_FRAMES]
        source = (
            torch.where(voiced, cosine * along - sine * across, noise[0]),
            torch.where(voiced, sine * along + cosine * across, noise[1]),
        )
        level = torch.where(voiced, 0.5 * (power + HARMONIC_LEVEL_FLOOR).log(), 0.0)
        return source, level
