"""The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pcodec.config import (
    FRAME_KERNEL,
    HIFIGAN_DILATIONS,
    HIFIGAN_RESIDUAL_KERNELS,
    HIFIGAN_SLOPE,
    CodecConfig,
)
from pcodec.dsp import (
    BIN_FLOOR,
    LOG_MEL_MEAN,
    LOG_MEL_STD,
    mel_inverse,
)
from pcodec.runtime.graph import LAST, Graph, Network, Processor
from pcodec.runtime.state import Array, State, StateKey, with_history
from pcodec.runtime.weights import Weights, read_weights

SEEN = StateKey("hifigan", "seen")
"""Frames of mel and low band that the first layer still sees."""


class HifiGan:
    """The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020)."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config, self.look_ahead = config, config.vocoder_look_ahead
        with read_weights(folder, "hifigan") as weights:
            self.network = Network(self._graph(weights / "hifigan"), processor)

    def _graph(self, weights: Weights) -> Graph:
        c, g = self.config, Graph("hifigan")
        bands, low_channels = c.mel_bands, 2 * c.low_bins
        seen = g.frames("seen", bands + low_channels)
        normal, low = g.split("Split", seen, g.integers(bands, low_channels), count=2, axis=3)
        amplitude = g.linear(
            g.add("Exp", g.affine(normal, LOG_MEL_STD, LOG_MEL_MEAN)), mel_inverse(c).T
        )
        amplitude = g.add("Log", g.add("Max", amplitude, g.value(BIN_FLOOR)))
        amplitude = g.affine(amplitude, 1 / LOG_MEL_STD, -LOG_MEL_MEAN / LOG_MEL_STD)
        x = g.add("Concat", normal, amplitude, low, axis=3)
        channels = bands + c.vocoder_n_fft // 2 + 1 + low_channels
        x = g.convolution(x, weights / "embed", FRAME_KERNEL, channels)
        x = g.add("Transpose", g.add("Squeeze", x, g.integers(1)), perm=[0, 2, 1])
        width = c.hifigan_width
        for i, (stride, kernel) in enumerate(
            zip(c.hifigan_strides, c.hifigan_kernels, strict=True)
        ):
            history, half = -(-kernel // stride) - 1, width // 2
            x = g.remember(self._activation(g, x), history, width, history)
            filters = self._filters(g, weights / "upsamples" / str(i), (width, half, kernel), half)
            x = g.add("ConvTranspose", x, *filters, strides=[stride])
            x = g.slice(x, history * stride, -(kernel - stride) or LAST)
            x, width = self._residual(g, x, half, weights / "residuals" / str(i)), half
        history = FRAME_KERNEL - 1
        x = g.remember(self._activation(g, x), history, width, history)
        x = g.add("Conv", x, *self._filters(g, weights / "final", (1, width, FRAME_KERNEL), 1))
        g.output(g.add("Squeeze", g.add("Tanh", x), g.integers(1)))
        return g

    def _activation(self, g: Graph, x: str) -> str:
        return g.add("LeakyRelu", x, alpha=HIFIGAN_SLOPE)

    @staticmethod
    def _filters(g: Graph, layer: Weights, shape: tuple[int, ...], biases: int) -> list[str]:
        weights = layer / "conv"
        return [
            g.value(weights["weight"].reshape(shape)),
            g.value(weights["bias"].reshape(biases)),
        ]

    def _residual(self, g: Graph, x: str, width: int, weights: Weights) -> str:
        stacks = []
        for i, kernel in enumerate(HIFIGAN_RESIDUAL_KERNELS):
            y = x
            for j, dilation in enumerate(HIFIGAN_DILATIONS):
                history = (kernel - 1) * dilation
                z = g.remember(self._activation(g, y), history, width, history)
                layer = weights / "stacks" / str(i) / str(j)
                filters = self._filters(g, layer, (width, width, kernel), width)
                y = g.add("Add", y, g.add("Conv", z, *filters, dilations=[dilation]))
            stacks.append(y)
        return g.affine(g.add("Sum", *stacks), 1 / len(stacks))

    @staticmethod
    def latency(config: CodecConfig) -> int:
        """Samples that the output waits for after the last one of its own frame."""
        return config.vocoder_look_ahead * config.hop

    @staticmethod
    def history(config: CodecConfig) -> int:
        """Frames before one on which its samples depend."""
        frames, rate = float(FRAME_KERNEL - 1 - config.vocoder_look_ahead), 1
        residual = (max(HIFIGAN_RESIDUAL_KERNELS) - 1) * sum(HIFIGAN_DILATIONS)
        for stride, kernel in zip(config.hifigan_strides, config.hifigan_kernels, strict=True):
            frames += (-(-kernel // stride) - 1) / rate
            rate *= stride
            frames += residual / rate
        return math.ceil(frames + (FRAME_KERNEL - 1) / rate)

    def start(self, state: State, frame: int) -> None:
        """Nothing to prepare: a stream may begin at any frame."""

    def __call__(self, mel: Array, low: Array, state: State, last: bool) -> Array:
        """Log-mel (B, frames, bands) and low band -> samples (B, n), within [-1, 1]."""
        normal = np.concatenate([(mel - LOG_MEL_MEAN) / LOG_MEL_STD, low], -1, dtype=np.float32)
        seen = with_history(SEEN, normal, FRAME_KERNEL - 1, state, last, self.look_ahead)
        if seen.shape[1] < FRAME_KERNEL:
            return np.zeros((len(mel), 0), np.float32)
        (samples,) = self.network(state, seen=seen)
        return samples
