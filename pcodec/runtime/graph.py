"""Networks as graphs for ONNX Runtime, built from their weights.

With one column at a time, reading weights takes most of the time; with many, multiplying does. Both
are faster with integers of few bits, so the blocks multiply integers. Pure scalings are folded into
the weights.

Features in a graph are pictures of one row, (B, 1, time, channels), which a depthwise convolution
and its neighbours take without reshaping. Streaming is a state: each layer that sees earlier frames
has a memory, which is an input and an output of the graph.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from pcodec.errors import PcodecError
from pcodec.runtime.state import Array, State, StateKey
from pcodec.runtime.weights import Weights

OPSETS = {"": 17, "com.microsoft": 1}
IR_VERSION = 8
LAST = np.iinfo(np.int64).max
"""End of a slice that goes to the end."""


class Processor(NamedTuple):
    """The device and the number of threads that networks run on."""

    threads: int = 1
    device: str = "cpu"
    """"cpu" or "cuda"""

    @classmethod
    def of(cls, threads: int, device: str) -> Processor:
        """device: "auto" takes a GPU if there is one; PcodecError if there is none."""
        cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if device == "auto":
            device = "cuda" if cuda else "cpu"
        if device == "cuda" and not cuda:
            raise PcodecError("no CUDA device is available to ONNX Runtime (onnxruntime-gpu)")
        if device not in ("cpu", "cuda"):
            raise PcodecError(f"device {device!r}: auto, cpu or cuda")
        return cls(threads, device)


class Memory(NamedTuple):
    """The memory of a layer: its names in the graph, and its shape for one stream."""

    before: str
    after: str
    shape: tuple[int, ...]


class Network:
    """A graph that runs, with its memories. Safe to use from several threads."""

    def __init__(self, graph: Graph, processor: Processor) -> None:
        # Outputs first, then the new memories.
        self.outputs = graph.outputs
        self.memories = graph.memories
        self.names = [*self.outputs, *(memory.after for memory in self.memories)]
        self.keys = [StateKey(graph.name, memory.before) for memory in self.memories]
        self.dtype = graph.dtype
        self.session = _session(graph, processor)

    def __call__(self, state: State | None = None, **inputs: Array) -> list[Array]:
        """Runs once, and updates ``state``; without ``state``, from zeros."""
        feeds: dict[str, Array] = inputs
        batch = len(next(iter(inputs.values())))
        for key, memory in zip(self.keys, self.memories, strict=True):
            before = None if state is None else state.get(key)
            if before is None:
                before = np.zeros((batch, *memory.shape), self.dtype)
            feeds[memory.before] = before
        results: list[Array] = self.session.run(self.names, feeds)
        count = len(self.outputs)
        if state is not None:
            state.update(zip(self.keys, results[count:], strict=True))
        return results[:count]


class Graph:
    """A graph under construction. Values are referred to by name."""

    def __init__(self, name: str, dtype: type = np.float32) -> None:
        """name: of the part of the codec. dtype: of the features."""
        self.name, self.dtype = name, dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[str] = []
        self.memories: list[Memory] = []
        self._places: dict[int, str] = {}

    def value(self, array: Any, dtype: Any = None) -> str:
        """A constant, of the features' dtype by default."""
        name = f"c{len(self.constants)}"
        array = np.asarray(array, dtype or self.dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, *numbers: int) -> str:
        """A constant of integers, for shapes and positions."""
        return self.value(numbers, np.int64)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """An operation with one result."""
        return self.split(kind, *inputs, count=1, **attributes)[0]

    def split(self, kind: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """An operation with ``count`` results."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(count)]
        kind, _, domain = kind.partition(" of ")
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    def input(self, name: str, *shape: str | int, dtype: Any = None) -> str:
        """Declares an input."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype or self.dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str) -> None:
        """Declares the next output."""
        self.outputs.append(value)

    def frames(self, name: str, channels: int) -> str:
        """Declares an input of features (B, time, channels)."""
        return self.add("Unsqueeze", self.input(name, "B", name, channels), self.integers(1))

    def output_frames(self, x: str) -> None:
        """Declares the next output, of features (B, time, channels)."""
        self.output(self.add("Squeeze", x, self.integers(1)))

    def remember(self, x: str, history: int, *shape: int) -> str:
        """Prepends the last ``history`` frames before x; time is dimension 2.

        shape: of the memory of one stream.
        """
        if not history:
            return x
        before = self.input(f"memory{len(self.memories)}", "B", *shape)
        padded = self.add("Concat", before, x, axis=2)
        after = self.slice(padded, -history, LAST)
        self.memories.append(Memory(before, after, shape))
        return padded

    def slice(self, x: str, start: int, stop: int) -> str:
        """x[:, :, start:stop]"""
        return self.add("Slice", x, *map(self.integers, (start, stop, 2)))

    def windows(self, x: str, kernel: int) -> str:
        """x (B, 1, T + kernel - 1, C) -> the frames that each frame sees, (B, 1, T, kernel, C).

        In a graph, all layers with the same kernel have the same number of frames.
        """
        if kernel not in self._places:
            count = self.add("Gather", self.add("Shape", x), self.value(2, np.int64))
            zero, one = (self.value(number, np.int64) for number in (0, 1))
            count = self.add("Sub", count, self.value(kernel - 1, np.int64))
            first = self.add("Unsqueeze", self.add("Range", zero, count, one), self.integers(1))
            self._places[kernel] = self.add("Add", first, self.integers(*range(kernel)))
        return self.add("Gather", x, self._places[kernel], axis=2)

    def linear(self, x: str, weight: Array, bias: Array | None = None) -> str:
        """weight (out_channels, channels), bias (out_channels,)."""
        y = self.add("MatMul", x, self.value(weight.T))
        return y if bias is None else self.add("Add", y, self.value(bias.reshape(len(weight))))

    def affine(self, x: str, factor: Any, offset: Any = None) -> str:
        """x * factor + offset"""
        y = self.add("Mul", x, self.value(factor))
        return y if offset is None else self.add("Add", y, self.value(offset))

    def convolution(self, x: str, weights: Weights, kernel: int, channels: int) -> str:
        """`CausalConv` of frames with their history, (B, 1, T + kernel - 1, C)."""
        shape = self.integers(0, 1, -1, kernel * channels)
        return self.dense(self.add("Reshape", self.windows(x, kernel), shape), weights / "linear")

    def dense(self, x: str, weights: Weights) -> str:
        """`torch.nn.Linear`"""
        return self.linear(x, weights["weight"], weights["bias"])

    def normal(self, x: str, weight: Array, bias: Array) -> str:
        """`torch.nn.LayerNorm`"""
        return self.add("LayerNormalization", x, self.value(weight), self.value(bias), axis=-1)

    def norm(self, x: str, weights: Weights, channels: int) -> str:
        weight, bias = (weights[name].reshape(channels) for name in ("weight", "bias"))
        return self.normal(x, weight, bias)

    def model(self) -> bytes:
        """The graph as a serialised ONNX model."""
        names = [*self.outputs, *(memory.after for memory in self.memories)]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names
        ]
        for output in outputs:
            output.ClearField("type")
        graph = helper.make_graph(self.nodes, self.name, self.inputs, outputs, self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        serialised: bytes = model.SerializeToString()
        return serialised


_sessions: weakref.WeakSet[Any] = weakref.WeakSet()
_building = threading.Lock()
"""Held while a session is built. A fork waits for it, so that it copies no locked mutex."""


def _session(graph: Graph, processor: Processor) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processor.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised anyway
    # Waiting threads must not occupy a core that another stream could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CUDAExecutionProvider"] * (processor.device == "cuda") + ["CPUExecutionProvider"]
    try:
        with _building:
            session = onnxruntime.InferenceSession(graph.model(), options, providers=providers)
            _sessions.add(session)
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise ValueError(str(error)) from error
    return session


def _after_fork_in_child() -> None:
    """Never frees the parent's sessions, as that would wait for threads of the parent."""
    _building.release()
    for session in list(_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_building.acquire,
        after_in_parent=_building.release,
        after_in_child=_after_fork_in_child,
    )


def whole_numbers(weight: Array, largest: int) -> tuple[Array, Array]:
    """Weights (out_channels, channels) as integers, and the step per output."""
    scales = np.maximum(np.abs(weight).max(1) / largest, 1e-12)
    return np.rint(weight / scales[:, None]), scales


@cache
def adds_up_in_sixteen_bits() -> bool:
    """True if the processor's uint8 x int8 kernel saturates.

    Without VNNI (or its like) two products are added in 16 bits and clipped.
    """
    graph = Graph("probe")
    numbers = graph.input("x", "B", 64, dtype=np.uint8)
    weights = graph.value(np.full((64, 16), 127), np.int8)
    graph.output(graph.add("MatMulInteger", numbers, weights))
    (sums,) = Network(graph, Processor())(x=np.full((4, 64), 255, np.uint8))
    return bool((sums != 64 * 127 * 255).any())


class Bytes(NamedTuple):
    """The value of an unsigned byte: (byte - zero) * step."""

    step: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Bytes:
        step = (high - low) / 255
        return cls(step, round(-low / step))


HIDDEN_DEVIATIONS = 8.0
"""Range of a hidden unit in standard deviations. A deviation is the norm of its weights, as for
independent inputs. Speech reaches this many."""

GELU_LOW = -0.18
"""Just below the minimum of GELU, -0.17."""


class Folded:
    """The two products of a `ConvNeXtBlock`, with pure scalings folded into the weights.

    The ranges of their inputs follow from the weights, without calibration. None of n normalised
    channels exceeds the square root of n.
    """

    def __init__(self, weights: Weights) -> None:
        norm, expand, contract = (weights / name for name in ("norm", "expand", "contract"))
        weight, scale = expand["weight"], weights["scale"]
        self.expand = weight * norm["weight"], expand["bias"] + weight @ norm["bias"]
        self.contract = contract["weight"] * scale[:, None], contract["bias"] * scale
        self.channels = len(scale)
        self.normal = self.channels**0.5
        """Largest normalised channel."""
        deviations = np.linalg.norm(self.expand[0], axis=1)
        self.hidden = float((HIDDEN_DEVIATIONS * deviations + self.expand[1]).max())
        """Largest hidden unit."""


def byte_product(graph: Graph, x: str, weight: Array, bias: Array, given: Bytes) -> str:
    """Product of bytes (..., channels) and 8-bit weights: float32 (..., out_channels).

    Weights have 7 bits where the CPU adds pairs of products in 16 bits, so that no sum saturates.
    """
    numbers, scales = whole_numbers(weight, 64 if adds_up_in_sixteen_bits() else 127)
    return graph.add(
        "MatMulIntegerToFloat of com.microsoft",
        x,
        graph.value(numbers.T, np.int8),
        graph.value(given.step),
        graph.value(scales),
        graph.value(given.zero, np.uint8),
        graph.value(np.zeros(len(scales)), np.int8),
        graph.value(bias),
    )


def _bytes(graph: Graph, x: str, given: Bytes) -> str:
    return graph.add(
        "QuantizeLinear", x, graph.value(given.step), graph.value(given.zero, np.uint8)
    )


def byte_block(graph: Graph, x: str, weights: Weights) -> str:
    """A `ConvNeXtBlock` in float32 whose dense layers multiply bytes.

    The ranges of the bytes are static, so that the result does not depend on the chunks.
    """
    folded, depthwise = Folded(weights), weights["depthwise"]
    kernel, channels = depthwise.shape
    padded = graph.remember(x, kernel - 1, 1, kernel - 1, channels)
    filters = graph.value(depthwise.T[:, None, None])
    bias = graph.value(weights["bias"].reshape(channels))
    # Convolutions have channels first; ONNX Runtime chooses its own layout for them.
    y = graph.add("Transpose", padded, perm=[0, 3, 1, 2])
    y = graph.add("Conv", y, filters, bias, group=channels)
    y = graph.add("Transpose", y, perm=[0, 2, 3, 1])
    y = graph.normal(y, np.ones(channels), np.zeros(channels))
    normal, hidden = Bytes.of(-folded.normal, folded.normal), Bytes.of(GELU_LOW, folded.hidden)
    y = byte_product(graph, _bytes(graph, y, normal), *folded.expand, normal)
    y = _bytes(graph, graph.add("FastGelu of com.microsoft", y), hidden)
    return graph.add("Add", x, byte_product(graph, y, *folded.contract, hidden))


INT16_MAX = 127 * 256 + 127
"""Largest 16-bit integer whose digits to base 256 are signed bytes."""


def exact_product(
    graph: Graph, x: str, weight: Array, bias: Array, most: float, unsigned: bool
) -> str:
    """Product of 16-bit integers, exact and so independent of the order of sums.

    A number is two bytes, its digits to base 256. x (1, 1, rows, channels) is in units of 256
    steps of most / INT16_MAX, plus `DIGIT_OFFSET`. Its integer part is the high digit, its
    fraction holds the low one.

    unsigned: store the digits of the weights as unsigned bytes, whose sums never saturate.
    """
    numbers, scales = whole_numbers(weight, INT16_MAX)
    kind, middle = (np.uint8, 128) if unsigned else (np.int8, 0)
    high = np.floor((numbers + 128) / 256)
    digits = np.concatenate([high, numbers - 256 * high]).T + middle
    ends = (graph.value(DIGIT_OFFSET + sign * INT16_MAX / 256) for sign in (-1, 1))
    x = graph.add("Clip", x, *ends)
    rest = graph.add("Sub", x, graph.add("Floor", x))
    both = graph.add("Concat", x, graph.add("Mul", rest, graph.value(256)), axis=2)
    sums = graph.add(
        "MatMulInteger",
        graph.add("Cast", both, to=TensorProto.UINT8),  # truncates
        graph.value(digits, kind),
        graph.value(128, np.uint8),
        graph.value(middle, kind),
    )
    sums = graph.add("Cast", sums, to=TensorProto.DOUBLE)
    upper, lower = graph.split("Split", sums, count=2, axis=2)
    sums = graph.add("Add", lower, graph.add("Mul", upper, graph.value(256)))
    scales *= most / INT16_MAX
    sums = graph.add("Mul", sums, graph.value(np.concatenate([256 * scales, scales])))
    left, right = graph.split("Split", sums, count=2, axis=3)
    return graph.add("Add", graph.add("Add", left, right), graph.value(bias))


DIGIT_OFFSET = 128 + 128 / 256 + 0.5 / 256
"""Offset of a number in units of 256: 128 for each digit, and half a step, so that truncating
rounds."""


def exact_block(graph: Graph, x: str, weights: Weights) -> str:
    """A `ConvNeXtBlock` in float64 whose dense layers multiply 16-bit integers."""
    folded, depthwise = Folded(weights), weights["depthwise"]
    kernel, channels = depthwise.shape
    padded = graph.remember(x, kernel - 1, 1, kernel - 1, channels)
    y = graph.add("Mul", graph.windows(padded, kernel), graph.value(depthwise))
    y = graph.add("ReduceSum", y, graph.integers(3), keepdims=0)
    y = graph.add("Add", y, graph.value(weights["bias"].reshape(channels)))
    steps = INT16_MAX / 256 / folded.normal
    y = graph.normal(y, np.full(channels, steps), np.full(channels, DIGIT_OFFSET))
    # Signed weights are faster, where their sums do not saturate.
    unsigned = adds_up_in_sixteen_bits()
    # The rows of all streams, stacked.
    y = graph.add("Reshape", y, graph.integers(1, 1, -1, channels))
    y = exact_product(graph, y, *folded.expand, folded.normal, unsigned)
    y = _gelu(graph, y, INT16_MAX / 256 / folded.hidden)
    y = graph.add("Add", y, graph.value(DIGIT_OFFSET))
    y = exact_product(graph, y, *folded.contract, folded.hidden, unsigned)
    return graph.add("Add", x, graph.add("Reshape", y, graph.add("Shape", x)))


def _gelu(graph: Graph, x: str, scale: float) -> str:
    """GELU by its tanh approximation, in the features' precision, times ``scale``."""
    slope = (2 / np.pi) ** 0.5
    inner = graph.affine(graph.add("Mul", x, x), 0.044715 * slope, slope)
    tanh = graph.add("Tanh", graph.add("Mul", x, inner))
    return graph.add("Mul", x, graph.affine(tanh, scale / 2, scale / 2))


def blocks(graph: Graph, x: str, weights: Weights, count: int, block: Any = byte_block) -> str:
    """A stack of blocks."""
    for i in range(count):
        x = block(graph, x, weights / str(i))
    return x
