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
    SOURCE_BLOCKS,
    CodecConfig,
)
from pcodec.dsp import (
    BIN_FLOOR,
    LOG_MEL_MEAN,
    LOG_MEL_STD,
    LOW_LEVEL_FLOOR,
    MAX_LOG_AMPLITUDE,
    mel_interpolation,
)
from pcodec.runtime.excitation import Excited, Tracker, normal
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.spectral import Consistency, no_frames, synthesis_history
from pcodec.runtime.state import Array, State, StateKey, with_history
from pcodec.runtime.stft import Synthesis, unit

SEEN = StateKey("hifigan", "seen")
"""Frames of mel and low band that the first layer still sees."""

SAMPLES = StateKey("hifigan", "samples")
"""Samples of the source that make no whole frame yet."""


class Source:
    """`Source` of `pcodec.networks.hifigan`: samples from log-mel, low band and pitch."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config = config
        self.tracker = Tracker(config, folder, "hifigan_source", processor)
        self.consistency = Consistency(config)
        self.synthesis = Synthesis(self.consistency.window, config.hop)
        # A bin lies between two bands.
        weights, bins = mel_interpolation(config), np.arange(config.vocoder_n_fft // 2 + 1)
        self.band = np.minimum((weights > 0).argmax(0), config.mel_bands - 2)
        self.weight, self.next_weight = weights[self.band, bins], weights[self.band + 1, bins]

    def power(self, mel: Array) -> Array:
        """Normalised log-mel (B, frames, bands) -> power of the bins."""
        magnitude = np.exp(mel * np.float32(LOG_MEL_STD) + np.float32(LOG_MEL_MEAN))
        amplitude = magnitude[..., self.band] * self.weight
        amplitude += magnitude[..., self.band + 1] * self.next_weight
        power: Array = amplitude * amplitude
        return power

    def polar(self, found: Excited) -> tuple[Array, Array, Array]:
        """Amplitudes, cosines and sines of the phases, (B, frames, bins) each."""
        bands, bins = self.config.mel_bands, self.config.low_bins
        power, here = self.power(found.now[..., :bands]), slice(1, 1 + bins)
        real, imaginary = np.split(found.now[..., bands:], 2, -1)
        # The low band is relative to a level; each frame gets that of its mel. Its amplitudes are
        # the geometric mean of both: the mel is less resolved, the low band less exact.
        shape = real * real + imaginary * imaginary
        level = power[..., here].sum(-1, keepdims=True)
        shape *= level / (shape.sum(-1, keepdims=True) + np.float32(LOW_LEVEL_FLOOR))
        power[..., here] = np.sqrt(power[..., here] * shape + np.float32(BIN_FLOOR**4))
        sign = self.tracker.excitation.sign[here]
        low_cosine, low_sine = unit(real * sign, imaginary * sign)
        found.cosine[..., here], found.sine[..., here] = low_cosine, low_sine
        correction, gate = np.split(found.rest[0], 2, -1)
        amplitude = np.sqrt(power + np.float32(BIN_FLOOR**2)) * np.exp(
            correction + gate * found.level
        )
        most = np.float32(math.exp(MAX_LOG_AMPLITUDE))
        return np.minimum(amplitude, most), found.cosine, found.sine

    def __call__(self, normal: Array, state: State, last: bool) -> Array:
        """Normalised log-mel and low band (B, frames, channels) -> samples (B, n)."""
        found = self.tracker(normal, state, last)
        polar = no_frames(self.config, len(normal)) if found is None else self.polar(found)
        return self.synthesis(self.consistency(*polar, state, last), state, last)


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
        frames, rate = 0.0, 1
        residual = (max(HIFIGAN_RESIDUAL_KERNELS) - 1) * sum(HIFIGAN_DILATIONS)
        for stride, kernel in zip(config.hifigan_strides, config.hifigan_kernels, strict=True):
            frames += (-(-kernel // stride) - 1) / rate
            rate *= stride
            frames += residual / rate
        generator = math.ceil(frames + (FRAME_KERNEL - 1) / rate)
        return generator + synthesis_history(config, max(PITCH_BLOCKS, SOURCE_BLOCKS))

    def start(self, state: State, frame: int) -> None:
        """Begins a stream at a frame, by its number."""
        self.source.tracker.excitation.start(state, frame)

    def __call__(self, mel: Array, low: Array, state: State, last: bool) -> Array:
        """Log-mel (B, frames, bands) and low band -> samples (B, n), not clipped."""
        seen, hop = normal(mel, low), self.config.hop
        samples = self.source(seen, state, last)
        if SAMPLES in state:
            samples = np.concatenate([state[SAMPLES], samples], 1)
        ahead = self.config.hifigan_look_ahead
        history = self.config.hifigan_context
        seen = with_history(SEEN, seen, history, state, last, ahead)
        frames = max(0, seen.shape[1] - history)
        state[SAMPLES] = samples[:, frames * hop :].copy()
        if not frames:
            return np.zeros((len(mel), 0), np.float32)
        (result,) = self.network(state, seen=seen, source=samples[:, : frames * hop])
        return result
