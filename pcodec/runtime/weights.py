"""The weights of a model, read without torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pcodec.errors import PcodecError

STEP = ".step"
"""What is added to the name of a weight for that of its steps, one for each output."""

NORMAL, HIDDEN = "normal", "hidden"
"""Of a block: its normalised channels and its hidden units, whose steps as bytes are stored; of an
exact one the largest hidden unit."""

HIDDEN_ZERO = 32
"""Byte of a hidden unit of 0; those below are for GELU's negative values."""

ERRORS = SafetensorError, OSError, ValueError, TypeError, IndexError, ArithmeticError


class Tensor(NamedTuple):
    """Where a tensor lies in a safetensors file."""

    kind: str
    """Name of the type, in ONNX's words."""
    shape: tuple[int, ...]
    start: int
    stop: int
    """In bytes of the file."""


KINDS = {"F16": "FLOAT16", "F32": "FLOAT", "F64": "DOUBLE", "I8": "INT8"}


class Layout(NamedTuple):
    """The header of a safetensors file."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, path: Path) -> Layout:
        """ValueError if the file has none."""
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > 1 << 24:
                raise ValueError("no safetensors file")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        tensors = {
            name: Tensor(
                KINDS[about["dtype"]],
                tuple(about["shape"]),
                *(8 + size + offset for offset in about["data_offsets"]),
            )
            for name, about in header.items()
        }
        return cls(header, tensors)


FLOATS = {"FLOAT16": np.float16, "FLOAT": np.float32, "DOUBLE": np.float64}


def check(path: Path, header: dict[str, Any]) -> None:
    """PcodecError unless a safetensors file has that header and finite numbers."""
    with _errors(path):
        layout = Layout.of(path)
        if layout.header != header:
            raise ValueError("other tensors, or in another order")
        data = np.memmap(path, np.uint8, "r")
        for name, tensor in layout.tensors.items():
            if tensor.stop > len(data):
                raise ValueError("cut off")
            if tensor.kind in FLOATS:
                _check_finite(name, data[tensor.start : tensor.stop].view(FLOATS[tensor.kind]))


def _check_finite(name: str, array: NDArray[Any]) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity")


class Weights:
    """Arrays by name; ``weights / "layer"`` holds those of a layer, by their names in it."""

    def __init__(self, tensors: dict[str, NDArray[Any]], dtype: Any = np.float32) -> None:
        """dtype: of the arrays that are returned."""
        self._tensors, self._dtype, self._prefix = tensors, dtype, ""
        self._used: set[str] = set()

    def __truediv__(self, layer: str) -> Weights:
        there = Weights(self._tensors, self._dtype)
        there._prefix, there._used = f"{self._prefix}{layer}.", self._used
        return there

    def __getitem__(self, name: str) -> NDArray[Any]:
        name = self._prefix + name
        self._used.add(name)
        array = self._tensors[name].astype(self._dtype)
        _check_finite(name, array)
        return array

    @property
    def stored(self) -> dict[str, NDArray[Any]]:
        """All arrays as they are in the file."""
        return self._tensors

    @property
    def unused(self) -> list[str]:
        """Names of the arrays that were not read."""
        return sorted(set(self._tensors) - self._used)


@contextlib.contextmanager
def read_weights(
    folder: Path, part: str, dtype: Any = np.float32, whole: bool = True
) -> Iterator[Weights]:
    """The weights of a part of a model.

    PcodecError if there are none, or if an array is missing or not finite, or, of the ``whole``
    part, left over.
    """
    path = folder / f"{part}.safetensors"
    with _errors(path):
        weights = Weights(load_file(path), dtype)
        yield weights
        if whole and weights.unused:
            raise ValueError(f"unknown tensors {weights.unused}")


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise PcodecError.of_file(path, f"not the weights of this model (no {error})") from error
    except ERRORS as error:
        raise PcodecError.of_file(path, f"not the weights of this model ({error})") from error
