"""The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pcodec.config import FRAME_KERNEL, HIFIGAN_DILATIONS, HIFIGAN_RESIDUAL_KERNELS, CodecConfig
from pcodec.dsp import LOG_MEL_MEAN, LOG_MEL_STD
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.state import Array, State, StateKey, with_history

SEEN = StateKey("hifigan", "seen")
"""Frames of mel and low band that the first layer still sees."""


class HifiGan:
    """The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020)."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.look_ahead = config.overlapping
        self.network = Network(config, folder, "hifigan", processor)

    @staticmethod
    def latency(config: CodecConfig) -> int:
        """Samples that the output waits for after the last one of its own frame."""
        return config.overlapping * config.hop

    @staticmethod
    def history(config: CodecConfig) -> int:
        """Frames before one on which its samples depend."""
        frames, rate = float(FRAME_KERNEL - 1 - config.overlapping), 1
        residual = (max(HIFIGAN_RESIDUAL_KERNELS) - 1) * sum(HIFIGAN_DILATIONS)
        for stride, kernel in zip(config.hifigan_strides, config.hifigan_kernels, strict=True):
            frames += (-(-kernel // stride) - 1) / rate
            rate *= stride
            frames += residual / rate
        return math.ceil(frames + (FRAME_KERNEL - 1) / rate)

    def start(self, state: State, frame: int) -> None:
        """Nothing to prepare: a stream may begin at any frame."""

    def __call__(self, mel: Array, low: Array, state: State, last: bool) -> Array:
        """Log-mel (B, frames, bands) and low band -> samples (B, n), not clipped."""
        normal = np.concatenate([(mel - LOG_MEL_MEAN) / LOG_MEL_STD, low], -1, dtype=np.float32)
        seen = with_history(SEEN, normal, FRAME_KERNEL - 1, state, last, self.look_ahead)
        if seen.shape[1] < FRAME_KERNEL:
            return np.zeros((len(mel), 0), np.float32)
        (samples,) = self.network(state, seen=seen)
        return samples
