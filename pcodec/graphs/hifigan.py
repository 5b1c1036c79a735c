"""The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020)."""

from __future__ import annotations

from pcodec.config import (
    FRAME_KERNEL,
    HIFIGAN_DILATIONS,
    HIFIGAN_RESIDUAL_KERNELS,
    HIFIGAN_SLOPE,
    CodecConfig,
)
from pcodec.dsp import BIN_FLOOR, LOG_MEL_MEAN, LOG_MEL_STD, LOW_LEVEL_FLOOR, mel_inverse, mel_low_bins
from pcodec.graphs.graph import LAST, Graph, Tensors


def hifigan(c: CodecConfig, tensors: Tensors) -> list[Graph]:
    """Normalised log-mel and low band, with the frames around, -> samples."""
    g, tensors = Graph("hifigan"), tensors / "hifigan"
    bands, low_channels = c.mel_bands, 2 * c.low_bins
    seen = g.frames("seen", bands + low_channels)
    normal, low = g.split("Split", seen, g.integers(bands, low_channels), count=2, axis=3)
    magnitude = g.add("Exp", g.affine(normal, LOG_MEL_STD, LOG_MEL_MEAN))
    amplitude = g.add("MatMul", magnitude, g.value(mel_inverse(c)))
    amplitude = g.add("Log", g.add("Max", amplitude, g.value(BIN_FLOOR)))
    amplitude = g.affine(amplitude, 1 / LOG_MEL_STD, -LOG_MEL_MEAN / LOG_MEL_STD)
    wave = _low_band(g, c, magnitude, low, tensors)
    x = g.add("Concat", normal, amplitude, low, axis=3)
    channels = bands + c.vocoder_n_fft // 2 + 1 + low_channels
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
        folded = g.add("Reshape", wave, g.integers(0, -1, samples))
        source = g.dense(folded, tensors / "sources" / str(i))
        x = g.add("Add", x, g.add("Transpose", source, perm=[0, 2, 1]))
        x = _residual(g, x, width, tensors / "residuals" / str(i))
    history = FRAME_KERNEL - 1
    x = g.remember(_activation(g, x), history, width, history)
    x = g.add("Conv", x, *_filters(g, tensors / "final", (1, width, FRAME_KERNEL), 1))
    g.output("samples", g.add("Add", wave, g.add("Squeeze", x, g.integers(1))))
    return [g]


def _low_band(g: Graph, c: CodecConfig, magnitude: str, low: str, tensors: Tensors) -> str:
    """Mel magnitudes and low band, with the frames around, -> waveform (B, n)."""
    axis, kernel = g.integers(3), 2 * c.overlapping + 1
    there = g.add("MatMul", magnitude, g.value(mel_low_bins(c)))
    power, own = (g.add("ReduceSum", g.add("Mul", x, x), axis) for x in (there, low))
    level = g.add("Sqrt", g.add("Div", power, g.affine(own, 1, LOW_LEVEL_FLOOR)))
    spectrum = g.slice(g.add("Mul", low, level), FRAME_KERNEL - kernel, LAST)
    wave = g.convolution(spectrum, tensors / "wave", kernel, 2 * c.low_bins)
    return g.add("Reshape", wave, g.integers(0, -1))


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
