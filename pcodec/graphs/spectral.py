"""The spectral vocoder: pitch, and the spectrum of each frame."""

from __future__ import annotations

import numpy as np

from pcodec.config import FRAME_KERNEL, CodecConfig
from pcodec.dsp import (
    BIN_FLOOR,
    LOG_MEL_MEAN,
    LOG_MEL_STD,
    LOW_PHASE_FLOOR,
    MAX_LOG_AMPLITUDE,
    PREDICTED_PHASOR_FLOOR,
)
from pcodec.graphs.blocks import blocks, float_block
from pcodec.graphs.graph import Graph, Tensors


def spectral(c: CodecConfig, tensors: Tensors) -> list[Graph]:
    """Graphs of the pitch and of the spectrum.

    "seen" and "now" are normalised log-mel and low band, with the frames around and without.
    """
    first, g, channels = Graph("pitch"), Graph("spectral"), c.mel_bands + 2 * c.low_bins
    logits = pitch(first, c, tensors / "spectral" / "excitation", first.frames("seen", channels))
    first.output_frames("logits", logits)
    bins = c.vocoder_n_fft // 2 + 1
    seen, features = g.frames("seen", channels), g.frames("features", 3)
    cosine, sine, level = (g.frames(name, bins) for name in ("cosine", "sine", "level"))
    now = g.frames("now", channels)
    parts = spectrum(g, c, tensors, seen, now, features, cosine, sine, level)
    for name, part in zip(("amplitude", "real", "imaginary"), parts, strict=True):
        g.output_frames(name, part)
    return [first, g]


def pitch(g: Graph, c: CodecConfig, tensors: Tensors, seen: str) -> str:
    """What the network sees, (B, 1, frames + taps - 1, channels), -> logits of the pitch.

    tensors: of an `Excitation`. Harmonics multiply the phase of the pulses by their numbers, so
    it is in float32.
    """
    return float_network(g, c, tensors, seen)


def float_network(g: Graph, c: CodecConfig, tensors: Tensors, seen: str) -> str:
    """A `FrameNetwork`, all in float32."""
    x = g.convolution(seen, tensors / "embed", FRAME_KERNEL, c.mel_bands + 2 * c.low_bins)
    x = blocks(g, x, tensors / "blocks", float_block)
    return g.dense(g.norm(x, tensors / "norm"), tensors / "head")


def spectrum(
    g: Graph,
    c: CodecConfig,
    tensors: Tensors,
    seen: str,
    now: str,
    features: str,
    cosine: str,
    sine: str,
    level: str,
) -> tuple[str, str, str]:
    """What the network sees, and the excitation, -> amplitude, cosine and sine of the phase.

    (B, 1, frames, bins) each. features: of the pitch.
    """
    tensors, bins = tensors / "spectral", c.vocoder_n_fft // 2 + 1
    x = g.convolution(seen, tensors / "embed", FRAME_KERNEL, c.mel_bands + 2 * c.low_bins)
    x = g.norm(x, tensors / "norm")
    x = g.add("Add", x, g.dense(features, tensors / "embed_pitch"))
    x = blocks(g, x, tensors / "blocks")
    x = g.norm(x, tensors / "final_norm")
    both = tensors / "head", tensors / "source"
    weight, bias = (
        g.add("Concat", *(g.weight(layer, name) for layer in both), axis=0)
        for name in ("weight", "bias")
    )
    heads = g.split("Split", g.linear(x, weight, bias), count=6, axis=3)
    correction, real, imaginary, gate, a, b = heads
    sizes = g.integers(c.mel_bands, c.low_bins, c.low_bins)
    normal, low_cosine, low_sine = g.split("Split", now, sizes, count=3, axis=3)
    mel = g.add("Exp", g.affine(normal, LOG_MEL_STD, LOG_MEL_MEAN))
    prior = g.add("MatMul", mel, g.add("Abs", g.weight(tensors, "inverse")))
    prior = g.add("Log", g.add("Max", prior, g.value(BIN_FLOOR)))
    log_amplitude = g.add("Add", prior, correction)
    log_amplitude = g.add("Add", log_amplitude, g.add("Mul", gate, level))
    amplitude = g.add("Exp", g.add("Min", log_amplitude, g.value(MAX_LOG_AMPLITUDE)))
    # The excitation's phasor, multiplied by a + ib, plus an absolute part.
    turned = g.add("Sub", g.add("Mul", a, cosine), g.add("Mul", b, sine))
    real = g.add("Add", real, turned)
    turned = g.add("Add", g.add("Mul", a, sine), g.add("Mul", b, cosine))
    imaginary = g.add("Add", imaginary, turned)
    # The low band's phasor at the start of the frame, multiplied by c + id.
    length = _length(g, low_cosine, low_sine, LOW_PHASE_FLOOR)
    sign = g.value(1 - 2 * (np.arange(1, 1 + c.low_bins) % 2))
    low_cosine, low_sine = (
        g.add("Mul", g.add("Div", part, length), sign) for part in (low_cosine, low_sine)
    )
    c_, d_ = g.split("Split", g.dense(x, tensors / "low"), count=2, axis=3)
    above = g.integers(0, 0, 0, 1, 0, 0, 0, bins - 1 - c.low_bins)
    turned = g.add("Sub", g.add("Mul", c_, low_cosine), g.add("Mul", d_, low_sine))
    real = g.add("Add", real, g.add("Pad", turned, above))
    turned = g.add("Add", g.add("Mul", c_, low_sine), g.add("Mul", d_, low_cosine))
    imaginary = g.add("Add", imaginary, g.add("Pad", turned, above))
    length = _length(g, real, imaginary, PREDICTED_PHASOR_FLOOR)
    return amplitude, g.add("Div", real, length), g.add("Div", imaginary, length)


def _length(g: Graph, real: str, imaginary: str, floor: float) -> str:
    """Length of phasors; the floor bounds it where it is near zero."""
    squares = (g.add("Mul", part, part) for part in (real, imaginary))
    return g.add("Sqrt", g.add("Add", g.add("Add", *squares), g.value(floor)))
