"""The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020)."""

from __future__ import annotations

import numpy as np

from pcodec.config import (
    FRAME_KERNEL,
    HIFIGAN_DILATIONS,
    HIFIGAN_RESIDUAL_KERNELS,
    HIFIGAN_SLOPE,
    CodecConfig,
)
from pcodec.dsp import LEVEL_PER_MEL, LOG_MEL_MEAN, LOG_MEL_STD
from pcodec.graphs.graph import LAST, Graph, Tensors
from pcodec.graphs.spectral import float_network, pitch


def hifigan(c: CodecConfig, tensors: Tensors) -> list[Graph]:
    """Graphs of the source, pitch and amplitudes, and of the generator.

    "seen" is the normalised log-mel and low band, with the frames around.
    """
    first, g, tensors = Graph("hifigan_source"), Graph("hifigan"), tensors / "hifigan"
    channels = c.mel_bands + 2 * c.low_bins
    seen, own = first.frames("seen", channels), tensors / "source"
    first.output_frames("logits", pitch(first, c, own / "excitation", seen))
    first.output_frames("amplitudes", float_network(first, c, own / "amplitudes", seen))
    seen, source = g.frames("seen", channels), g.input("source", "B", "samples")
    level = _level(g, c, seen)
    relative = g.add("Div", source, level)
    # The first layer sees no further ahead than it has taps.
    ahead = min(c.hifigan_look_ahead, FRAME_KERNEL - 1)
    start = c.hifigan_context - c.hifigan_look_ahead + ahead - (FRAME_KERNEL - 1)
    x = g.slice(seen, start, start + FRAME_KERNEL - 1 - c.hifigan_context or LAST)
    x = g.convolution(x, tensors / "embed", FRAME_KERNEL, channels)
    x = g.add("Transpose", g.add("Squeeze", x, g.integers(1)), perm=[0, 2, 1])
    width, samples = c.hifigan_width, c.hop
    for i, (stride, kernel) in enumerate(zip(c.hifigan_strides, c.hifigan_kernels, strict=True)):
        history, half = -(-kernel // stride) - 1, width // 2
        x = g.remember(_activation(g, x), history, width, history)
        filters = _filters(g, tensors / "upsamples" / str(i), (width, half, kernel), half)
        x = g.add("ConvTranspose", x, *filters, strides=[stride])
        x = g.slice(x, history * stride, -(kernel - stride) or LAST)
        width, samples = half, samples // stride
        folded = g.add("Reshape", relative, g.integers(0, -1, samples))
        folded = g.dense(folded, tensors / "folds" / str(i))
        x = g.add("Add", x, g.add("Transpose", folded, perm=[0, 2, 1]))
        x = _residual(g, x, width, tensors / "residuals" / str(i))
    history = FRAME_KERNEL - 1
    x = g.remember(_activation(g, x), history, width, history)
    x = g.add("Conv", x, *_filters(g, tensors / "final", (1, width, FRAME_KERNEL), 1))
    x = g.add("Mul", level, g.add("Squeeze", x, g.integers(1)))
    g.output("samples", g.add("Add", source, x))
    return [first, g]


def _level(g: Graph, c: CodecConfig, seen: str) -> str:
    """What the network sees, (B, 1, frames + context, channels), -> (B, samples)."""
    frames = g.slice(seen, c.hifigan_context - c.hifigan_look_ahead - 1, -c.hifigan_look_ahead)
    mel = g.slice(frames, 0, c.mel_bands, axis=3)
    power = g.add("Exp", g.affine(mel, 2 * LOG_MEL_STD, 2 * LOG_MEL_MEAN))
    power = g.add("ReduceMean", power, axes=[3])
    level = g.affine(g.add("Sqrt", power), LEVEL_PER_MEL)
    before, now = g.slice(level, 0, -1), g.slice(level, 1, LAST)
    ramp = g.value(np.arange(1, c.hop + 1) / c.hop)
    level = g.add("Add", before, g.add("Mul", g.add("Sub", now, before), ramp))
    return g.add("Reshape", level, g.integers(0, -1))


def _activation(g: Graph, x: str) -> str:
    return g.add("LeakyRelu", x, alpha=HIFIGAN_SLOPE)


def _filters(g: Graph, layer: Tensors, shape: tuple[int, ...], biases: int) -> list[str]:
    return [g.weight(layer / "conv", "weight", *shape), g.weight(layer / "conv", "bias", biases)]


def _residual(g: Graph, x: str, width: int, tensors: Tensors) -> str:
    stacks = []
    for i, kernel in enumerate(HIFIGAN_RESIDUAL_KERNELS):
        y = x
        for j, dilation in enumerate(HIFIGAN_DILATIONS):
            history = (kernel - 1) * dilation
            z = g.remember(_activation(g, y), history, width, history)
            filters = _filters(
                g, tensors / "stacks" / str(i) / str(j), (width, width, kernel), width
            )
            y = g.add("Add", y, g.add("Conv", z, *filters, dilations=[dilation]))
        stacks.append(y)
    return g.affine(g.add("Sum", *stacks), 1 / len(stacks))
