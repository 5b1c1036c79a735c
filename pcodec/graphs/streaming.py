"""Whole encoder and decoder as one streaming graph each, for `pcodec export`.

They compute in one call what `pcodec.streams` computes in several networks and NumPy between them;
Fourier transforms are matrix products. A memory whose length is 0 at the start, or differs from
call to call, has a name as that dimension.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from pcodec.config import (
    CONCEALMENT_LOOK_AHEAD,
    CONCEALMENT_TAPS,
    FRAME_KERNEL,
    CodecConfig,
)
from pcodec.dsp import (
    COLUMN_WINDOW_FLOOR,
    HANN_TRANSFORM,
    HARMONIC_LEVEL_FLOOR,
    HARMONIC_POWER_FLOOR,
    LOG_MEL_STD,
    LOW_BAND_FLOOR,
    NOISE_FRAMES,
    OVERRELAXATION,
    PHASOR_FLOOR,
    PITCH_BINS,
    PITCH_BINS_PER_OCTAVE,
    PITCH_MIN_HZ,
    PITCH_REFERENCE_HZ,
    WINDOW_FLOOR,
    hann,
    noise_phases,
)
from pcodec.graphs import concealment, decoder, encoder, quantizer, spectral
from pcodec.graphs.graph import LAST, Graph, Tensors
from pcodec.runtime.biquad import Biquad, high_pass, low_shelf
from pcodec.streams import StreamDecoder


class Streaming(Graph):
    """A graph whose features are (B, time, channels), with what both directions need."""

    def __init__(self, name: str, dtype: type) -> None:
        super().__init__(name, dtype)
        self.initial: dict[str, list[int]] = {}
        """Shape of each memory at the start of a stream, by its name."""
        self.whole_inputs = False
        """Whether layers see all of their input in each call, so that they need no memory."""

    def state(self, name: str, *shape: int, moving: bool = False, dtype: Any = None) -> str:
        """A memory that begins as zeros of this shape. moving: its first dimension changes."""
        sizes: list[int | str] = list(shape)
        if moving:
            sizes[0] = name
        memory = self.memory(*sizes, dtype=dtype)
        self.initial[memory] = list(shape)
        return memory

    def remember(self, x: str, history: int, *shape: int) -> str:
        if self.whole_inputs:
            return self.add("Pad", x, self.integers(0, 0, history, 0, 0, 0, 0, 0))
        padded = super().remember(x, history, *shape)
        if history:
            self.initial[list(self.memories)[-1]] = list(shape)
        return padded

    # Arithmetic

    def plus(self, *values: str) -> str:
        first, *rest = values
        for value in rest:
            first = self.add("Add", first, value)
        return first

    def times(self, a: str, b: str) -> str:
        return self.add("Mul", a, b)

    def minus(self, a: str, b: str) -> str:
        return self.add("Sub", a, b)

    def whole(self, number: int) -> str:
        """A scalar, int64."""
        return self.value(number, np.int64)

    def cut(self, x: str, start: Any, stop: Any, axis: int) -> str:
        """x[..., start:stop, ...]; start and stop are numbers, or values (1,)."""
        ends = (end if isinstance(end, str) else self.integers(end) for end in (start, stop))
        return self.add("Slice", x, *ends, self.integers(axis))

    def join(self, *values: str, axis: int) -> str:
        return self.add("Concat", *values, axis=axis)

    def length(self, x: str, axis: int) -> str:
        """Of a dimension, (1,), int64."""
        return self.add("Gather", self.add("Shape", x), self.integers(axis))

    def zeros(self, like: str, count: str, axis: int) -> str:
        """Zeros as ``like``, but with ``count`` (1,) in one dimension."""
        shape = self.add("Shape", like)
        shape = self.join(
            self.cut(shape, 0, axis, 0), count, self.cut(shape, axis + 1, LAST, 0), axis=0
        )
        none = helper.make_tensor(
            "none", helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)), [1], [0]
        )
        return self.add("ConstantOfShape", shape, value=none)

    def range(self, count: str) -> str:
        """0, 1, ..., count - 1; count (1,)."""
        count = self.add("Squeeze", count)
        return self.add("Range", self.whole(0), count, self.whole(1))

    def places(self, count: str, step: int, size: int) -> str:
        """Of ``count`` windows of ``size``, one per ``step``, the places: (count, size)."""
        first = self.add(
            "Unsqueeze", self.times(self.range(count), self.whole(step)), self.integers(1)
        )
        return self.plus(first, self.integers(*range(size)))

    def fourier(self, size: int, bins: int, inputs: int) -> tuple[str, str]:
        """Cosine and minus sine of 2 pi k n / size, (inputs, bins) each."""
        with self.constant():
            angle = 2 * np.pi * np.arange(size) / size
            rows = self.add("Unsqueeze", self.range(self.integers(inputs)), self.integers(1))
            turns = self.add(
                "Mod", self.times(rows, self.range(self.integers(bins))), self.whole(size)
            )
            tables = self.value(np.cos(angle)), self.value(-np.sin(angle))
            cosine, sine = (self.add("Gather", table, turns) for table in tables)
        return cosine, sine

    def with_history(self, x: str, memory: str, history: int, ahead: int, last: str) -> str:
        """`pcodec.runtime.state.with_history` of (B, T, ...)."""
        x = self.join(memory, x, axis=1)
        if ahead:
            after = self.times(last, self.integers(ahead))
            x = self.join(x, self.zeros(x, after, 1), axis=1)
        self.keep(memory, self.cut(x, -history, LAST, 1))
        return x

    def row(self, x: str) -> str:
        """(B, T, C) -> (B, 1, T, C), as networks have features."""
        return self.add("Unsqueeze", x, self.integers(1))

    def flat(self, x: str) -> str:
        """(B, 1, T, C) -> (B, T, C)"""
        return self.add("Squeeze", x, self.integers(1))

    def hypotenuse(self, a: str, b: str, floor: float = 0.0) -> str:
        squares = self.plus(self.times(a, a), self.times(b, b))
        return self.add("Sqrt", self.plus(squares, self.value(floor)) if floor else squares)


# The encoder


def first_samples(c: CodecConfig) -> int:
    """Samples of the first call for one column; each further column takes `column_samples`."""
    return c.column_samples + (c.window - c.hop) // 2


def stream_encoder(c: CodecConfig, folder: Path) -> Streaming:
    """Samples (B, n) -> indices (B, columns, rows), int64.

    n is `first_samples` plus whole columns in the first call, whole columns in later ones.
    """
    g = Streaming("encoder", np.float64)
    samples = g.cast(g.input("samples", "B", "n", dtype=np.float32), np.float64)
    filtered = _filtered(g, high_pass(c.sample_rate), samples)
    window = g.state("samples", (c.window - c.hop) // 2, moving=True)
    x = g.join(window, filtered, axis=1)
    rest = g.minus(g.length(x, 1), g.integers(c.window))
    frames = g.plus(g.add("Div", rest, g.integers(c.hop)), g.integers(1))
    g.keep(window, g.cut(x, g.times(frames, g.integers(c.hop)), LAST, 1))
    pieces = g.add("Gather", x, g.places(frames, c.hop, c.window), axis=1)
    front = Tensors(folder / "encoder.safetensors")
    pieces = g.times(pieces, g.weight(front / "mel", "window"))
    bins = c.n_fft // 2 + 1
    real, imaginary = (g.add("MatMul", pieces, m) for m in g.fourier(c.n_fft, bins, c.window))
    step = c.n_fft // c.window
    sign = g.value(1.0 - 2.0 * (np.arange(1, c.low_bins + 1) % 2))
    places = g.integers(*range(step, step * c.low_bins + 1, step))
    parts = (g.times(g.add("Gather", part, places, axis=2), sign) for part in (real, imaginary))
    low = g.join(*parts, axis=2)
    columns = g.add("Reshape", low, g.integers(0, -1, c.patch_frames * 2 * c.low_bins))
    power = g.add("ReduceMean", g.times(columns, columns), axes=[2], keepdims=1)
    level = g.add("Sqrt", g.affine(power, 2, LOW_BAND_FLOOR**2))
    low = g.add("Reshape", g.add("Div", columns, level), g.integers(0, -1, 2 * c.low_bins))
    found = encoder.latents(g, c, front, g.row(g.hypotenuse(real, imaginary)), g.row(low))
    nearest = quantizer.nearest(g, Tensors(folder / "codebook.safetensors"), found)
    batch = g.length(samples, 0)
    shape = g.join(batch, g.integers(-1, c.rows), axis=0)
    g.output("indices", g.add("Reshape", nearest, shape))
    return g


def _filtered(g: Streaming, biquad: Biquad, samples: str) -> str:
    """Samples (B, n) through a filter, in double precision; n in whole blocks."""
    x = g.add("Reshape", samples, g.integers(0, -1, Biquad.BLOCK))
    inflow = g.add("MatMul", x, g.value(biquad.onward, np.float64))
    memory = g.state(biquad.memory.part, 2, dtype=np.float64)
    carried = g.value(biquad.carried.T, np.float64)
    # One step per block: state @ carried + inflow, and the state before it.
    kinds = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in ("s", "u")]
    nodes = [
        helper.make_node("MatMul", ["s", carried], ["t"]),
        helper.make_node("Add", ["t", "u"], ["after"]),
        helper.make_node("Identity", ["s"], ["before"]),
    ]
    outputs = [helper.make_empty_tensor_value_info(n) for n in ("after", "before")]
    body = helper.make_graph(nodes, "biquad", kinds, outputs)
    after, begun = g.split(
        "Scan", memory, inflow, count=2, body=body, num_scan_inputs=1,
        scan_input_axes=[1], scan_output_axes=[1],
    )  # fmt: skip
    g.keep(memory, after)
    inside = g.add("MatMul", x, g.value(biquad.inside, np.float64))
    y = g.plus(inside, g.add("MatMul", begun, g.value(biquad.ringing, np.float64)))
    return g.add("Reshape", y, g.integers(0, -1))


# The decoder

FIRST_COLUMNS = 2
"""Of the first call of the decoder, which looks ahead."""


def stream_decoder(c: CodecConfig, folder: Path) -> Streaming:
    """Indices (B, columns, rows), which of them are lost, and whether they are the last ones,
    -> samples (B, n).

    The vocoder is the spectral one.
    """
    g = Streaming("decoder", np.float32)
    indices = g.input("indices", "B", "columns", c.rows, dtype=np.int64)
    lost = g.cast(g.input("lost", "B", "columns", dtype=np.bool_), np.float32)
    last = g.add("Reshape", g.input("last", dtype=np.int64), g.integers(1))
    book = g.weight(Tensors(folder / "codebook.safetensors") / "quantizer", "codebook")
    latents = g.add("Gather", book, indices)
    latents = g.add("Reshape", latents, g.integers(0, 0, c.rows * c.latent_dim))
    latents, level, held = _concealed(g, c, folder, latents, lost)

    ahead, size = c.decoder_look_ahead, c.rows * c.latent_dim
    before = g.state("latents", 1, size, moving=True)
    # The last column may have been predicted anew.
    newest = held(g.cut(before, -1, LAST, 1))
    seen = g.join(g.cut(before, 0, -1, 1), newest, latents, axis=1)
    seen = g.join(seen, g.zeros(seen, g.times(last, g.integers(ahead)), 1), axis=1)
    g.keep(before, g.cut(seen, -(1 + ahead), LAST, 1))
    columns = g.minus(g.length(seen, 1), g.integers(1 + ahead))
    now = g.cut(seen, 1, g.plus(columns, g.integers(1)), 1)
    weights = Tensors(folder / "decoder.safetensors")
    normal, low = decoder.picture(g, c, weights, g.row(seen), g.row(now))
    waiting = g.state("level", 0, moving=True)
    level = g.join(waiting, level, axis=1)
    frames = g.times(columns, g.integers(c.patch_frames))
    g.keep(waiting, g.cut(level, frames, LAST, 1))
    level = g.add("Unsqueeze", g.cut(level, 0, frames, 1), g.integers(1, 3))
    normal = g.plus(normal, g.affine(level, 1 / LOG_MEL_STD))
    g.output("samples", _vocoder(g, c, folder, g.flat(g.join(normal, low, axis=3)), last))
    return g


def _concealed(g: Streaming, c: CodecConfig, folder: Path, latents: str, lost: str) -> Any:
    """`StreamDecoder.conceal` of latents (B, columns, rows * dim); lost (B, columns), 0 or 1.

    Gives the latents, the offset of the log-mel (B, frames), and a function that replaces the
    newest latent of the decoder's memory, (B, 1, rows * dim), by a better one.
    """
    history, size = c.concealment_history, c.rows * c.latent_dim
    past, gone = g.state("past", 0, size, moving=True), g.state("past lost", 0, moving=True)
    run = g.state("lost columns", 1)
    missing = g.add("Unsqueeze", lost, g.integers(2))
    known = g.times(latents, g.minus(g.value(1), missing))
    count = g.length(past, 1)
    everything, flags = g.join(past, known, axis=1), g.join(gone, lost, axis=1)
    g.keep(past, g.cut(everything, -history, LAST, 1))
    g.keep(gone, g.cut(flags, -history, LAST, 1))

    # Of each column the place, from 1, of the last one received; 0 if there is none.
    place = g.plus(g.range(g.length(flags, 1)), g.whole(1))
    earlier = g.cast(
        g.add("LessOrEqual", place, g.add("Unsqueeze", place, g.integers(1))), np.float32
    )
    received = g.times(g.minus(g.value(1), flags), g.cast(place, np.float32))
    received = g.times(g.add("Unsqueeze", received, g.integers(1)), earlier)
    heard = g.add("ReduceMax", received, axes=[2], keepdims=0)

    def predicted() -> str:
        """`Concealment` of all columns."""
        padded = g.join(g.zeros(everything, g.integers(1), 1), everything, axis=1)
        index = g.add("Unsqueeze", g.cast(heard, np.int64), g.integers(2))
        index = g.add("Expand", index, g.add("Shape", everything))
        hold = g.add("GatherElements", padded, index, axis=1)
        if not (folder / "concealment.safetensors").exists():
            return hold
        there = g.add("Unsqueeze", flags, g.integers(2))
        ahead = g.join(hold, g.cut(hold, -1, LAST, 1), axis=1)
        lost_ahead = g.join(there, g.affine(g.cut(there, -1, LAST, 1), 0, 1), axis=1)
        x = g.join(ahead, g.times(ahead, g.minus(g.value(1), lost_ahead)), lost_ahead, axis=2)
        before = CONCEALMENT_TAPS - 1 - CONCEALMENT_LOOK_AHEAD
        x = g.add("Pad", x, g.integers(0, before, 0, 0, CONCEALMENT_LOOK_AHEAD, 0))
        weights = Tensors(folder / "concealment.safetensors")
        g.whole_inputs = True
        change = g.flat(concealment.correction(g, c, weights, g.row(x)))
        g.whole_inputs = False
        return g.plus(hold, g.times(g.cut(change, 0, -1, 1), there))

    losses = g.plus(g.add("ReduceSum", lost, keepdims=0), g.add("ReduceSum", run, keepdims=0))
    found = g.choose(g.add("Greater", losses, g.value(0)), predicted, everything)

    # The number of columns lost in a row, up to each.
    ours = g.cut(heard, count, LAST, 1)
    here = g.plus(g.range(g.length(lost, 1)), g.whole(1))
    here, place = (g.cast(numbers, np.float32) for numbers in (here, g.cut(place, count, LAST, 0)))
    never = g.add("Equal", ours, g.value(0))
    rows = g.times(lost, g.add("Where", never, g.plus(run, here), g.minus(place, ours)))
    before = g.join(run, rows, axis=1)
    g.keep(run, g.cut(before, -1, LAST, 1))
    frame = g.affine(g.add("Unsqueeze", rows, g.integers(2)), c.patch_frames, -c.patch_frames)
    frame = g.plus(frame, g.value(np.arange(c.patch_frames)))
    late = g.add("Max", g.affine(frame, 1, -StreamDecoder.KEPT_FRAMES), g.value(0))
    forgotten = g.add("Greater", rows, g.value(history))
    silent = g.add("Unsqueeze", g.add("Or", never, forgotten), g.integers(2))
    level = g.add(
        "Where", silent, g.value(StreamDecoder.SILENCE), g.affine(late, -StreamDecoder.FADE)
    )
    level = g.add(
        "Reshape",
        g.times(level, missing),
        g.join(g.length(rows, 0), g.times(g.length(rows, 1), g.integers(c.patch_frames)), axis=0),
    )

    def newest(old: str) -> str:
        better = g.cut(g.join(old, g.cut(found, 0, count, 1), axis=1), -1, LAST, 1)
        begun = g.add("Unsqueeze", g.add("Greater", run, g.value(0)), g.integers(2))
        return g.add("Where", begun, better, old)

    return g.cut(found, count, LAST, 1), level, newest


def _vocoder(g: Streaming, c: CodecConfig, folder: Path, normal: str, last: str) -> str:
    """`SpectralVocoder` of normalised log-mel and low band (B, frames, channels)."""
    channels, ahead = c.mel_bands + 2 * c.low_bins, c.vocoder_look_ahead
    memory = g.state("frames", FRAME_KERNEL - 1 - ahead, channels, moving=True)
    seen = g.with_history(normal, memory, FRAME_KERNEL - 1, ahead, last)
    frames = g.minus(g.length(seen, 1), g.integers(FRAME_KERNEL - 1))
    start = FRAME_KERNEL - 1 - ahead
    now = g.cut(seen, start, g.plus(frames, g.integers(start)), 1)
    weights = Tensors(folder / "spectral.safetensors")
    excitation = weights / "spectral" / "excitation"
    logits = g.flat(spectral.pitch(g, c, excitation, g.row(seen)))
    features, cosine, sine, level = _excitation(g, c, logits, frames)
    parts = features, cosine, sine, level
    rows = (g.row(part) for part in parts)
    found = spectral.spectrum(g, c, weights, g.row(seen), g.row(now), *rows)
    amplitude, cosine, sine = map(g.flat, found)
    real, imaginary = _consistent(g, c, amplitude, cosine, sine, frames)
    samples = g.cast(_synthesis(g, c, real, imaginary, last), np.float64)
    samples = g.cast(_filtered(g, low_shelf(c.sample_rate), samples), np.float32)
    return g.add("Clip", samples, g.value(-1), g.value(1))


def _excitation(g: Streaming, c: CodecConfig, logits: str, frames: str) -> tuple[str, ...]:
    """`Excitation`: logits -> features of the pitch, cosine, sine, level, (B, frames, ...) each."""
    number = g.state("frame", 1, dtype=np.int64)
    g.keep(number, g.plus(number, frames))
    row = g.add("Mod", g.plus(number, g.range(frames)), g.whole(NOISE_FRAMES))
    noise = noise_phases(c.vocoder_n_fft, c.hop)
    noise_cosine, noise_sine = (g.add("Gather", g.value(part), row) for part in noise)

    sizes = g.integers(1, PITCH_BINS, 1, 1, 1, 1)
    voicing, scores, *phasors = g.split("Split", logits, sizes, count=6, axis=2)
    voiced = g.add("Greater", voicing, g.value(0))
    best = g.add("ArgMax", scores, axis=2, keepdims=1)
    near = g.plus(best, g.value([[np.arange(-2, 3)]], np.int64))
    near = g.add("Clip", near, g.whole(0), g.whole(PITCH_BINS - 1))
    shares = g.add("Softmax", g.add("GatherElements", scores, near, axis=2), axis=2)
    class_ = g.affine(g.cast(near, np.float32), 1, 0.5)
    octaves = g.add("ReduceSum", g.times(class_, shares), g.integers(2), keepdims=1)
    octaves = g.affine(octaves, 1 / PITCH_BINS_PER_OCTAVE)
    spacing = g.add("Exp", g.affine(octaves, np.log(2)))
    spacing = g.affine(spacing, PITCH_MIN_HZ * c.vocoder_n_fft / c.sample_rate)
    pulses, constant = (_angle(g, phasors[i], phasors[i + 1]) for i in (0, 2))
    v = g.cast(voiced, np.float32)
    pitch = g.times(v, g.affine(octaves, 1, np.log2(PITCH_MIN_HZ / PITCH_REFERENCE_HZ)))
    features = g.join(v, pitch, g.times(pitch, pitch), axis=2)

    bins = np.arange(c.vocoder_n_fft // 2 + 1)
    place = g.add("Div", g.value(bins), spacing)
    lower = g.add("Floor", place)
    below = g.times(g.minus(place, lower), spacing)
    low = g.times(
        _hann_transform(g, below), g.cast(g.add("Greater", lower, g.value(0)), np.float32)
    )
    high = _hann_transform(g, g.minus(spacing, below))
    along = g.plus(low, g.times(high, g.add("Cos", pulses)))
    across = g.times(high, g.add("Sin", pulses))
    power = g.plus(g.times(along, along), g.times(across, across))
    root = g.add("Sqrt", g.affine(power, 1, HARMONIC_POWER_FLOOR))
    factor = g.add("Div", g.value(1 - 2 * (bins % 2)), root)
    along, across = g.times(along, factor), g.times(across, factor)
    angle = g.plus(g.times(lower, pulses), constant)
    turned_cosine, turned_sine = g.add("Cos", angle), g.add("Sin", angle)
    cosine = g.minus(g.times(turned_cosine, along), g.times(turned_sine, across))
    sine = g.plus(g.times(turned_sine, along), g.times(turned_cosine, across))
    level = g.affine(g.add("Log", g.affine(power, 1, HARMONIC_LEVEL_FLOOR)), 0.5)
    cosine = g.add("Where", voiced, cosine, noise_cosine)
    sine = g.add("Where", voiced, sine, noise_sine)
    return features, cosine, sine, g.add("Where", voiced, level, g.value(0))


def _angle(g: Streaming, x: str, y: str) -> str:
    """atan2(y, x) as twice the half angle, whose tangent is y / (length + x) = (length - x) / y."""
    length = g.hypotenuse(x, y)
    right = g.add("GreaterOrEqual", x, g.value(0))
    tiny = g.add("Where", g.add("Less", y, g.value(0)), g.value(-1e-30), g.value(1e-30))
    over = g.add("Where", right, y, g.minus(length, x))
    under = g.add("Where", right, g.plus(length, x), y)
    none = g.add("Equal", under, g.value(0))
    tangent = g.add("Div", over, g.add("Where", none, tiny, under))
    return g.affine(g.add("Atan", tangent), 2)


def _hann_transform(g: Streaming, bins: str) -> str:
    square = g.add("Min", g.times(bins, bins), g.value(4))
    first, *rest = HANN_TRANSFORM
    result = g.affine(square, first, rest[0])
    for coefficient in rest[1:]:
        result = g.plus(g.times(result, square), g.value(coefficient))
    return result


def _inverse_fourier(g: Streaming, c: CodecConfig, real: str, imaginary: str) -> str:
    """Spectra (B, frames, bins) -> windowed pieces (B, frames, n_fft)."""
    n_fft, bins = c.vocoder_n_fft, c.vocoder_n_fft // 2 + 1
    share = np.full((bins, 1), 2 / n_fft)
    share[[0, -1]] /= 2
    cosine, sine = g.fourier(n_fft, n_fft, bins)
    with g.constant():
        scale = g.value(share * hann(n_fft))
        matrix = g.join(g.times(cosine, scale), g.times(sine, scale), axis=0)
    return g.add("MatMul", g.join(real, imaginary, axis=2), matrix)


def _consistent(
    g: Streaming, c: CodecConfig, amplitude: str, cosine: str, sine: str, frames: str
) -> tuple[str, str]:
    """`Consistency`: real and imaginary part of the spectrum with consistent phases."""
    n_fft, hop, column = c.vocoder_n_fft, c.hop, c.patch_frames
    slices, overlap, lead = n_fft // hop, n_fft // hop - 1, c.vocoder_look_ahead % c.patch_frames
    new = _inverse_fourier(g, c, g.times(amplitude, cosine), g.times(amplitude, sine))
    memory = g.state("pieces", overlap + lead, n_fft, moving=True)
    skipped = g.minus(g.length(memory, 1), g.integers(overlap))
    pieces = g.join(memory, new, axis=1)
    g.keep(memory, g.cut(pieces, -overlap, LAST, 1))
    ready = g.plus(skipped, frames)
    rest = g.add("Mod", g.minus(g.integers(0), ready), g.integers(column))
    pieces = g.join(pieces, g.zeros(pieces, rest, 1), axis=1)
    columns = g.add("Div", g.plus(ready, rest), g.integers(column))
    seen = g.add("Gather", pieces, g.places(columns, column, overlap + column), axis=1)
    # Slices of the frames of a column, and of those before it, to overlap-added slices.
    added = np.zeros((column, slices, overlap + column, slices))
    for j, s, i in np.ndindex(column, slices, overlap + column):
        if 0 <= s + j + overlap - i < slices:
            added[j, s, i, s + j + overlap - i] = 1
    seen = g.add("Reshape", seen, g.integers(0, 0, (overlap + column) * slices, hop))
    seen = g.add("MatMul", g.value(added.reshape(column * slices, -1)), seen)
    seen = g.add("Reshape", seen, g.integers(0, -1, column, n_fft))
    window = hann(n_fft)
    weights = np.tile(np.square(window).reshape(slices, hop), (overlap + column, 1))
    total = (added.reshape(column * slices, -1) @ weights).reshape(column, n_fft)
    seen = g.times(seen, g.value(window / np.maximum(total, COLUMN_WINDOW_FLOOR)))
    seen = g.add("Reshape", seen, g.integers(0, -1, n_fft))
    seen = g.cut(seen, skipped, g.plus(skipped, frames), 1)
    bins = n_fft // 2 + 1
    matrices = g.fourier(n_fft, bins, n_fft)
    again = _unit(g, *(g.add("MatMul", seen, matrix) for matrix in matrices))
    beyond = 1 + OVERRELAXATION
    parts = (
        g.plus(old, g.affine(g.minus(new_, old), beyond))
        for old, new_ in zip((cosine, sine), again, strict=True)
    )
    cosine, sine = _unit(g, *parts)
    return g.times(amplitude, cosine), g.times(amplitude, sine)


def _unit(g: Streaming, real: str, imaginary: str) -> tuple[str, str]:
    length = g.hypotenuse(real, imaginary, PHASOR_FLOOR)
    return g.add("Div", real, length), g.add("Div", imaginary, length)


def _synthesis(g: Streaming, c: CodecConfig, real: str, imaginary: str, last: str) -> str:
    """`Synthesis`: spectra -> samples (B, n)."""
    n_fft, hop = c.vocoder_n_fft, c.hop
    slices, overhang = n_fft // hop, (n_fft - hop) // 2
    pieces = _inverse_fourier(g, c, real, imaginary)
    memory = g.state("tails", slices - 1, 2 * n_fft)
    # Beside each piece its squared window: what the samples are divided by.
    squares = np.square(hann(n_fft))
    weight = g.plus(g.affine(pieces, 0), g.value(squares))
    x = g.join(memory, g.join(pieces, weight, axis=2), axis=1)
    g.keep(memory, g.cut(x, -(slices - 1), LAST, 1))
    x = g.join(x, g.zeros(x, g.times(last, g.integers(slices - 1)), 1), axis=1)
    count = g.minus(g.length(x, 1), g.integers(slices - 1))
    x = g.add("Reshape", x, g.integers(0, 0, 2, slices, hop))
    sums = []
    for i in range(slices):
        frames = g.cut(x, slices - 1 - i, g.plus(count, g.integers(slices - 1 - i)), 1)
        sums.append(g.add("Gather", frames, g.whole(i), axis=3))
    both = g.add("Sum", *sums)
    signal, weight = (g.add("Gather", both, g.whole(i), axis=2) for i in (0, 1))
    samples = g.add("Div", signal, g.add("Max", weight, g.value(WINDOW_FLOOR)))
    samples = g.add("Reshape", samples, g.integers(0, -1))
    begun = g.state("begun", 1, dtype=np.int64)
    g.keep(begun, g.plus(g.times(begun, g.whole(0)), g.whole(1)))
    fresh = g.minus(g.integers(1), g.cut(g.add("Reshape", begun, g.integers(-1)), 0, 1, 0))
    start = g.times(fresh, g.integers(overhang))
    tail = g.times(last, g.integers(n_fft - hop - overhang))
    return g.cut(samples, start, g.minus(g.length(samples, 1), tail), 1)
