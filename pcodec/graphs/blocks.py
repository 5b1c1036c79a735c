"""`ConvNeXtBlock`, most of them with dense layers of integers, and stacks of them.

With one column at a time, reading weights takes most of the time; with many, multiplying does. Both
are faster with integers of few bits. `networks/folding.py` makes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pcodec.graphs.graph import Graph, Tensors
from pcodec.runtime.weights import HIDDEN, HIDDEN_ZERO, NORMAL, STEP

INT16_MAX = 127 * 256 + 127
"""Largest 16-bit integer whose digits to base 256 are signed bytes."""

DIGIT_OFFSET = 128 + 128 / 256 + 0.5 / 256
"""Offset of a number in units of 256: 128 for each digit, and half a step, so that truncating
rounds."""


def byte_product(g: Graph, x: str, tensors: Tensors, zero: int) -> str:
    """Product of numbers in steps, (..., channels), and weights: float32 (..., out_channels).

    The numbers are rounded to bytes, of which ``zero`` means 0; the weights have 7 bits.
    """
    one, byte = g.value(1), g.value(zero, np.uint8)
    x = g.add("QuantizeLinear", x, one, byte)
    weight, step = g.stored(tensors, "weight"), g.stored(tensors, "weight" + STEP)
    zeros = g.value(np.zeros(tensors.shape("weight")[1]), np.int8)
    bias = g.stored(tensors, "bias")
    return g.add("MatMulIntegerToFloat of com.microsoft", x, weight, one, step, byte, zeros, bias)


def _depthwise(g: Graph, x: str, tensors: Tensors) -> str:
    """The convolution of a block."""
    kernel, channels = tensors.shape("depthwise")
    padded = g.remember(x, kernel - 1, 1, kernel - 1, channels)
    filters = g.transposed(g.weight(tensors, "depthwise"))
    filters = g.add("Unsqueeze", filters, g.integers(1, 2))
    # Convolutions have channels first; ONNX Runtime chooses its own layout for them.
    y = g.add("Transpose", padded, perm=[0, 3, 1, 2])
    y = g.add("Conv", y, filters, g.weight(tensors, "bias"), group=channels)
    return g.add("Transpose", y, perm=[0, 2, 3, 1])


def float_block(g: Graph, x: str, tensors: Tensors) -> str:
    """A `ConvNeXtBlock` in float32, where a last bit must not grow to a step of a byte."""
    y = g.norm(_depthwise(g, x, tensors), tensors / "norm")
    y = g.add("FastGelu of com.microsoft", g.dense(y, tensors / "expand"))
    y = g.dense(y, tensors / "contract")
    return g.add("Add", x, g.add("Mul", y, g.weight(tensors, "scale")))


def byte_block(g: Graph, x: str, tensors: Tensors) -> str:
    """A `ConvNeXtBlock` in float32 whose dense layers multiply bytes.

    Each channel and each hidden unit has its own step, which the next weights take in. The steps
    are static, so that the result does not depend on the chunks.
    """
    channels = tensors.shape("depthwise")[1]
    with g.constant():
        steps = (g.add("Reciprocal", g.stored(tensors, name + STEP)) for name in (NORMAL, HIDDEN))
        per_channel, per_unit = steps
    y = g.normal(_depthwise(g, x, tensors), per_channel, g.value(np.zeros(channels)))
    y = byte_product(g, y, tensors / "expand", 128)
    y = g.add("Mul", g.add("FastGelu of com.microsoft", y), per_unit)
    return g.add("Add", x, byte_product(g, y, tensors / "contract", HIDDEN_ZERO))


def exact_product(g: Graph, x: str, tensors: Tensors, most: str) -> str:
    """Product of 16-bit numbers and 14-bit weights, exact, so independent of the order of sums.

    A number is two bytes, its digits to base 256. x (1, 1, rows, channels) is in units of 256
    steps of most / INT16_MAX, plus `DIGIT_OFFSET`. Its integer part is the high digit, its
    fraction holds the low one. The digits of the weights, to base 128, lie side by side.
    most: (1,)
    """
    ends = (g.value(DIGIT_OFFSET + sign * INT16_MAX / 256) for sign in (-1, 1))
    x = g.add("Clip", x, *ends)
    rest = g.add("Sub", x, g.add("Floor", x))
    both = g.cast(g.add("Concat", x, g.affine(rest, 256), axis=2), np.uint8)  # truncates
    sums = g.add("MatMulInteger", both, g.stored(tensors, "weight"), g.value(128, np.uint8))
    upper, lower = g.split("Split", g.cast(sums, np.float64), count=2, axis=2)
    sums = g.add("Add", lower, g.affine(upper, 256))
    steps = g.add("Mul", g.stored(tensors, "weight" + STEP), g.affine(most, 1 / INT16_MAX))
    sums = g.add("Mul", sums, g.add("Concat", g.affine(steps, 128), steps, axis=0))
    left, right = g.split("Split", sums, count=2, axis=3)
    return g.add("Add", g.add("Add", left, right), g.stored(tensors, "bias"))


def exact_block(g: Graph, x: str, tensors: Tensors) -> str:
    """A `ConvNeXtBlock` in float64 whose dense layers multiply 16-bit integers."""
    kernel, channels = tensors.shape("depthwise")
    padded = g.remember(x, kernel - 1, 1, kernel - 1, channels)
    y = g.add("Mul", g.windows(padded, kernel), g.weight(tensors, "depthwise"))
    y = g.add("ReduceSum", y, g.integers(3), keepdims=0)
    y = g.add("Add", y, g.weight(tensors, "bias"))
    steps = INT16_MAX / 256 / channels**0.5
    y = g.normal(y, g.value(np.full(channels, steps)), g.value(np.full(channels, DIGIT_OFFSET)))
    # The rows of all streams, stacked.
    y = g.add("Reshape", y, g.integers(1, 1, -1, channels))
    hidden = g.stored(tensors, HIDDEN)
    y = exact_product(g, y, tensors / "expand", g.value([channels**0.5]))
    y = gelu(g, y, g.add("Div", g.value([INT16_MAX / 256]), hidden))
    y = exact_product(g, g.add("Add", y, g.value(DIGIT_OFFSET)), tensors / "contract", hidden)
    return g.add("Add", x, g.add("Reshape", y, g.add("Shape", x)))


def gelu(g: Graph, x: str, scale: str) -> str:
    """GELU by its tanh approximation, in the features' precision, times ``scale`` (1,)."""
    slope = (2 / np.pi) ** 0.5
    inner = g.affine(g.add("Mul", x, x), 0.044715 * slope, slope)
    tanh = g.add("Tanh", g.add("Mul", x, inner))
    half = g.affine(scale, 0.5)
    return g.add("Mul", x, g.add("Add", g.add("Mul", tanh, half), half))


def blocks(g: Graph, x: str, tensors: Tensors, block: Any = byte_block) -> str:
    """A stack of blocks: as many as there are weights of."""
    for i in range(tensors.count()):
        x = block(g, x, tensors / str(i))
    return x
