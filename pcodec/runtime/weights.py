"""The weights of a model as arrays, read without torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pcodec.errors import PcodecError

STEP = ".step"
"""What is added to the name of a weight for that of its steps, one for each output."""


def norm_of(name: str) -> str | None:
    """Of the first product of a block the name of the norm's weight, which its bytes contain."""
    block, found, _ = name.rpartition("expand.weight")
    return f"{block}norm.weight" if found else None


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
        if (step := name + STEP) in self._tensors:  # a weight that is stored as bytes
            self._used.add(step)
            array = array * self._tensors[step].astype(self._dtype)[:, None]
            if norm := norm_of(name):
                weight = self._tensors[norm].astype(self._dtype)
                array = np.divide(array, weight, np.zeros_like(array), where=weight != 0)
        if not np.isfinite(array).all():
            raise ValueError(f"{name} contains NaN or infinity")
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
def read_weights(folder: Path, part: str, dtype: Any = np.float32) -> Iterator[Weights]:
    """The weights of a part of a model, to build its networks from.

    PcodecError if there are none, or if an array is missing, left over or not finite.
    """
    path = folder / f"{part}.safetensors"
    try:
        weights = Weights(load_file(path), dtype)
        yield weights
        if weights.unused:
            raise ValueError(f"unknown tensors {weights.unused}")
    except KeyError as error:
        raise PcodecError.of_file(path, f"not the weights of this model (no {error})") from error
    except (SafetensorError, OSError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise PcodecError.of_file(path, f"not the weights of this model ({error})") from error
