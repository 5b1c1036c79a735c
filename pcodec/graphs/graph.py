"""A graph under construction.

Features in a graph are pictures of one row, (B, 1, time, channels), which a depthwise convolution
and its neighbours take without reshaping. Streaming is a state: each layer that sees earlier frames
has a memory, which is an input and an output of the graph.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pcodec.runtime.network import AFTER, MEMORY, WEIGHTS
from pcodec.runtime.weights import Layout

OPSETS = {"": 17, "com.microsoft": 1}
IR_VERSION = 8
LAST = np.iinfo(np.int64).max
"""End of a slice that goes to the end."""

Array = NDArray[Any]


class Tensors:
    """The weights in a safetensors file, by name; ``tensors / "layer"`` holds those of a layer."""

    def __init__(self, path: Path) -> None:
        self.path, self.layout, self._prefix = path, Layout.of(path), ""

    def __truediv__(self, layer: str) -> Tensors:
        there = object.__new__(Tensors)
        there.__dict__ = {**self.__dict__, "_prefix": f"{self._prefix}{layer}."}
        return there

    def name(self, name: str) -> str:
        """The whole name of a weight; KeyError if the file has none."""
        name = self._prefix + name
        if name not in self.layout.tensors:
            raise KeyError(name)
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.layout.tensors[self.name(name)].shape

    def count(self) -> int:
        """The number of layers in a list of them."""
        there = [name for name in self.layout.tensors if name.startswith(self._prefix)]
        return len({name[len(self._prefix) :].split(".")[0] for name in there})


class Graph:
    """A graph under construction. Values are referred to by name."""

    def __init__(self, name: str, dtype: type = np.float32) -> None:
        """name: of the network. dtype: of the features."""
        self.name, self.dtype = name, dtype
        self.nodes: list[Any] = []
        self.constant_nodes: list[Any] = []
        """Operations on weights alone. ONNX Runtime runs them once, when it loads the graph."""
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: dict[str, str] = {}
        """Value by name of the output."""
        self.memories: dict[str, str] = {}
        """New value by name of the memory."""
        self.files: dict[str, Tensors] = {}
        """The weights that the graph names, by the name of their file."""
        self._found: dict[Any, str] = {}
        self._numbers = itertools.count()

    # Values

    def value(self, array: Any, dtype: Any = None) -> str:
        """A constant, of the features' dtype by default."""
        array = np.asarray(array, dtype or self.dtype, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._found:
            self._found[key] = name = f"constant{len(self.constants)}"
            self.constants[name] = numpy_helper.from_array(array, name)
        return self._found[key]

    def integers(self, *numbers: int) -> str:
        """A constant of integers, for shapes and positions."""
        return self.value(numbers, np.int64)

    def stored(self, tensors: Tensors, name: str) -> str:
        """A weight as it is in its file."""
        name = tensors.name(name)
        there, (kind, shape, start, stop) = tensors.path.name, tensors.layout.tensors[name]
        self.files[there] = tensors
        if name not in self.constants:
            proto = TensorProto(name=name, data_type=getattr(TensorProto, kind), dims=shape)
            proto.data_location = TensorProto.EXTERNAL
            where = {"location": there, "offset": start, "length": stop - start}
            for key, value in where.items():
                proto.external_data.add(key=key, value=str(value))
            self.constants[name] = proto
        return name

    def weight(self, tensors: Tensors, name: str, *shape: int) -> str:
        """A weight in the features' dtype, (out_channels, channels) if it is a product's."""
        key = "weight", tensors.name(name), shape
        if key not in self._found:
            with self.constant():
                x = self.cast(self.stored(tensors, name), self.dtype)
                self._found[key] = self.add("Reshape", x, self.integers(*shape)) if shape else x
        return self._found[key]

    def input(self, name: str, *shape: str | int, dtype: Any = None) -> str:
        """Declares an input."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype or self.dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, value: str) -> None:
        """Declares the next output."""
        self.outputs[name] = value

    def frames(self, name: str, channels: int) -> str:
        """Declares an input of features (B, time, channels)."""
        return self.add("Unsqueeze", self.input(name, "B", name, channels), self.integers(1))

    def output_frames(self, name: str, x: str) -> None:
        """Declares the next output, of features (B, time, channels)."""
        self.output(name, self.add("Squeeze", x, self.integers(1)))

    def memory(self, *shape: str | int, dtype: Any = None) -> str:
        """Declares a memory of this shape for one stream; `remember` or `keep` says what it is."""
        name = f"{MEMORY}{len(self.memories)}"
        self.memories[name] = name
        return self.input(name, "B", *shape, dtype=dtype)

    def keep(self, memory: str, value: str) -> None:
        """What a memory is after the call."""
        self.memories[memory] = value

    # Operations

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """An operation with one result."""
        return self.split(kind, *inputs, count=1, **attributes)[0]

    def split(self, kind: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """An operation with ``count`` results."""
        names = [f"v{next(self._numbers)}" for _ in range(count)]
        kind, _, domain = kind.partition(" of ")
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    @contextlib.contextmanager
    def constant(self) -> Iterator[None]:
        """Operations added here are on constants and weights alone."""
        nodes, self.nodes = self.nodes, self.constant_nodes
        yield
        self.nodes = nodes

    def choose(self, condition: str, then: Callable[[], str], otherwise: str) -> str:
        """What ``then`` adds if a condition holds, else a value."""
        outside = self.nodes
        branches = []
        for made in (then, lambda: self.add("Identity", otherwise)):
            self.nodes = []
            result = helper.make_empty_tensor_value_info(made())
            branches.append(helper.make_graph(self.nodes, "branch", [], [result]))
        self.nodes = outside
        return self.add("If", condition, then_branch=branches[0], else_branch=branches[1])

    def cast(self, x: str, dtype: Any) -> str:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", x, to=kind)

    def affine(self, x: str, factor: Any, offset: Any = None) -> str:
        """x * factor + offset"""
        y = self.add("Mul", x, self.value(factor))
        return y if offset is None else self.add("Add", y, self.value(offset))

    def slice(self, x: str, start: int, stop: int, axis: int = 2) -> str:
        """x[..., start:stop, ...]"""
        return self.add("Slice", x, *map(self.integers, (start, stop, axis)))

    def transposed(self, weight: str) -> str:
        """The transpose of a matrix."""
        key = "transposed", weight
        if key not in self._found:
            with self.constant():
                self._found[key] = self.add("Transpose", weight, perm=[1, 0])
        return self._found[key]

    # Layers

    def remember(self, x: str, history: int, *shape: int) -> str:
        """Prepends the last ``history`` frames before x; time is dimension 2.

        shape: of the memory of one stream.
        """
        if not history:
            return x
        before = self.memory(*shape)
        padded = self.add("Concat", before, x, axis=2)
        self.keep(before, self.slice(padded, -history, LAST))
        return padded

    def windows(self, x: str, kernel: int) -> str:
        """x (B, 1, T + kernel - 1, C) -> the frames that each frame sees, (B, 1, T, kernel, C)."""
        count = self.add("Gather", self.add("Shape", x), self.value(2, np.int64))
        zero, one = (self.value(number, np.int64) for number in (0, 1))
        count = self.add("Sub", count, self.value(kernel - 1, np.int64))
        first = self.add("Unsqueeze", self.add("Range", zero, count, one), self.integers(1))
        places = self.add("Add", first, self.integers(*range(kernel)))
        return self.add("Gather", x, places, axis=2)

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """weight (out_channels, channels), bias (out_channels,)."""
        y = self.add("MatMul", x, self.transposed(weight))
        return y if bias is None else self.add("Add", y, bias)

    def dense(self, x: str, tensors: Tensors) -> str:
        """`torch.nn.Linear`"""
        return self.linear(x, self.weight(tensors, "weight"), self.weight(tensors, "bias"))

    def convolution(self, x: str, tensors: Tensors, kernel: int, channels: int) -> str:
        """`CausalConv` of frames with their history, (B, 1, T + kernel - 1, C)."""
        shape = self.integers(0, 1, -1, kernel * channels)
        return self.dense(self.add("Reshape", self.windows(x, kernel), shape), tensors / "linear")

    def normal(self, x: str, weight: str, bias: str) -> str:
        """`torch.nn.LayerNorm`"""
        return self.add("LayerNormalization", x, weight, bias, axis=-1)

    def norm(self, x: str, tensors: Tensors) -> str:
        return self.normal(x, self.weight(tensors, "weight"), self.weight(tensors, "bias"))

    # The file

    def model(self, about: dict[str, Any]) -> Any:
        """The graph as an ONNX model. about: further metadata, written as JSON."""
        results = {**self.outputs, **{name + AFTER: v for name, v in self.memories.items()}}
        given = {name: value for value, name in results.items()}
        inputs = {x.name for x in self.inputs}
        if len(given) != len(results) or given.keys() & inputs:
            raise ValueError(f"{self.name}: an output that is another one, or an input")
        nodes = self.constant_nodes + self.nodes
        for node in nodes:
            for names in (node.input, node.output):
                names[:] = [given.get(name, name) for name in names]
        outputs = [helper.make_empty_tensor_value_info(name) for name in results]
        constants = list(self.constants.values())
        graph = helper.make_graph(nodes, self.name, self.inputs, outputs, constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="pcodec"
        )
        layouts = {name: tensors.layout.header for name, tensors in self.files.items()}
        metadata = {WEIGHTS: layouts, **about}
        helper.set_model_props(
            model, {k: json.dumps(v, sort_keys=True) for k, v in metadata.items()}
        )
        return model
