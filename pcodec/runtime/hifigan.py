"""The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020), behind a source."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pcodec.config import (
    FRAME_KERNEL,
    HIFIGAN_DILATIONS,
    HIFIGAN_RESIDUAL_KERNELS,
    PITCH_BLOCKS,
    CodecConfig,
)
from pcodec.dsp import BIN_FLOOR, LOG_MEL_MEAN, LOG_MEL_STD, LOW_LEVEL_FLOOR, mel_interpolation
from pcodec.runtime.excitation import Excitation
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.spectral import Consistency
from pcodec.runtime.state import Array, State, StateKey, with_history
from pcodec.runtime.stft import Synthesis, unit

SEEN = StateKey("hifigan", "seen")
"""Frames of mel and low band that the first layer still sees."""

SOURCE_SEEN = StateKey("source", "seen")
"""Frames of mel and low band that the pitch still sees."""

SAMPLES = StateKey("source", "samples")
"""Samples of the source that make no whole frame yet."""


class Source:
    """`Source` of `pcodec.networks.hifigan`: samples from log-mel, low band and pitch."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config = config
        self.excitation = Excitation(config)
        self.consistency = Consistency(config)
        self.pitch = Network(config, folder, "hifigan_pitch", processor._replace(threads=1))
        self.synthesis = Synthesis(self.consistency.window, config.hop)
        self.interpolation = mel_interpolation(config)

    def polar(self, seen: Array, state: State) -> tuple[Array, Array, Array]:
        """Normalised log-mel and low band, with the frames around, -> amplitudes and phases.

        Cosines and sines of the phases; (B, frames, bins) each.
        """
        c = self.config
        start, frames = FRAME_KERNEL - 1 - c.vocoder_look_ahead, seen.shape[1] - FRAME_KERNEL + 1
        (logits,) = self.pitch(state, seen=seen)
        cosine, sine, _ = self.excitation(self.excitation.pitch(logits, state))
        now = seen[:, start : start + frames]
        mel = now[..., : c.mel_bands] * np.float32(LOG_MEL_STD) + np.float32(LOG_MEL_MEAN)
        power = (np.exp(mel) @ self.interpolation) ** 2
        here = slice(1, 1 + c.low_bins)
        real = now[..., c.mel_bands : c.mel_bands + c.low_bins]
        imaginary = now[..., c.mel_bands + c.low_bins :]
        # The low band is relative to a level; each frame gets that of its mel. Its amplitudes are
        # the geometric mean of both: the mel is less resolved, the low band less exact.
        shape = real * real + imaginary * imaginary
        level = power[..., here].sum(-1, keepdims=True)
        shape *= level / (shape.sum(-1, keepdims=True) + np.float32(LOW_LEVEL_FLOOR))
        power[..., here] = np.sqrt(power[..., here] * shape)
        sign = self.excitation.sign[here]
        cosine[..., here], sine[..., here] = unit(real * sign, imaginary * sign)
        return np.sqrt(power + np.float32(BIN_FLOOR**2)), cosine, sine

    def __call__(self, normal: Array, state: State, last: bool) -> Array:
        """Normalised log-mel and low band (B, frames, channels) -> samples (B, n)."""
        ahead = self.config.vocoder_look_ahead
        seen = with_history(SOURCE_SEEN, normal, FRAME_KERNEL - 1, state, last, ahead)
        if seen.shape[1] < FRAME_KERNEL:
            nothing = np.zeros((len(normal), 0, self.interpolation.shape[1]), np.float32)
            found = nothing, nothing, nothing
        else:
            found = self.polar(seen, state)
        return self.synthesis(self.consistency(*found, state, last), state, last)


class HifiGan:
    """The paper's vocoder: a generator that adds to a `Source` what it lacks."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config = config
        self.source = Source(config, folder, processor)
        self.network = Network(config, folder, "hifigan", processor)

    @staticmethod
    def latency(config: CodecConfig) -> int:
        """Samples that the output waits for after the last one of its own frame."""
        return config.hifigan_look_ahead * config.hop

    @staticmethod
    def history(config: CodecConfig) -> int:
        """Frames before one on which its samples depend."""
        overlap = config.vocoder_n_fft // config.hop - 1
        pitch = (FRAME_KERNEL - 1) * (1 + PITCH_BLOCKS) - config.vocoder_look_ahead
        source = pitch + 2 * overlap + config.patch_frames - 1
        frames, rate = 0.0, 1
        residual = (max(HIFIGAN_RESIDUAL_KERNELS) - 1) * sum(HIFIGAN_DILATIONS)
        for stride, kernel in zip(config.hifigan_strides, config.hifigan_kernels, strict=True):
            frames += (-(-kernel // stride) - 1) / rate
            rate *= stride
            frames += residual / rate
        generator = math.ceil(frames + (FRAME_KERNEL - 1) / rate)
        return generator + max(source, FRAME_KERNEL - 1 - config.hifigan_look_ahead)

    def start(self, state: State, frame: int) -> None:
        """Begins a stream at a frame, by its number."""
        self.source.excitation.start(state, frame)

    def __call__(self, mel: Array, low: Array, state: State, last: bool) -> Array:
        """Log-mel (B, frames, bands) and low band -> samples (B, n), not clipped."""
        c = self.config
        normal = np.concatenate([(mel - LOG_MEL_MEAN) / LOG_MEL_STD, low], -1, dtype=np.float32)
        samples = self.source(normal, state, last)
        if SAMPLES in state:
            samples = np.concatenate([state[SAMPLES], samples], 1)
        seen = with_history(SEEN, normal, FRAME_KERNEL - 1, state, last, c.hifigan_look_ahead)
        frames = max(0, seen.shape[1] - FRAME_KERNEL + 1)
        state[SAMPLES] = samples[:, frames * c.hop :].copy()
        if not frames:
            return np.zeros((len(mel), 0), np.float32)
        (result,) = self.network(state, seen=seen, source=samples[:, : frames * c.hop])
        return result
