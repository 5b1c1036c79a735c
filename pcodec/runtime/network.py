"""A network that runs: an ONNX graph in ONNX Runtime, with its memories."""

from __future__ import annotations

import ctypes
import json
import os
import threading
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from pcodec.config import CodecConfig
from pcodec.errors import PcodecError
from pcodec.models import GEOMETRY
from pcodec.runtime.state import Array, State, StateKey
from pcodec.runtime.weights import check

MEMORY, AFTER = "memory", "_after"
"""What the names of memories begin with, as inputs; what is added to that of an output."""

WEIGHTS, CONFIG = "weights", "codec"
"""Of a graph's metadata: the headers of the safetensors files that its weights are in, and the
model's sizes."""

INTERFACE = (
    *GEOMETRY,
    "n_fft",
    "window",
    "low_bins",
    "latent_dim",
    "decoder_look_ahead",
    "vocoder_n_fft",
    "vocoder_look_ahead",
)
"""Sizes that the code around the graphs goes by."""

DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


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
    """The memory of a layer: its names in the graph, what it is for one stream, and its key."""

    before: str
    after: str
    shape: tuple[int, ...]
    dtype: type
    key: StateKey


class Network:
    """A graph that runs, with its memories. Safe to use from several threads."""

    def __init__(self, config: CodecConfig, folder: Path, name: str, processor: Processor) -> None:
        """The graph NAME.onnx of a model; PcodecError if it, or its weights, cannot be used."""
        path = folder / f"{name}.onnx"
        self.session = _session(path, processor)
        metadata = self.session.get_modelmeta().custom_metadata_map
        made_for = json.loads(metadata.get(CONFIG, "{}"))
        for field in INTERFACE:
            if made_for.get(field) != (here := getattr(config, field)):
                text = f"made for {field} = {made_for.get(field)}, config.json has {here}"
                raise PcodecError.of_file(path, text)
        for file, header in json.loads(metadata.get(WEIGHTS, "{}")).items():
            check(folder / file, header)
        self.memories = [
            Memory(
                x.name, x.name + AFTER, tuple(x.shape[1:]), DTYPES[x.type], StateKey(name, x.name)
            )
            for x in self.session.get_inputs()
            if x.name.startswith(MEMORY)
        ]
        # Outputs first, then the new memories.
        self.names = [x.name for x in self.session.get_outputs()]
        self.count = len(self.names) - len(self.memories)

    def __call__(self, state: State | None = None, **inputs: Array) -> list[Array]:
        """Runs once, and updates ``state``; without ``state``, from zeros."""
        feeds: dict[str, Array] = inputs
        batch = len(next(iter(inputs.values())))
        for memory in self.memories:
            before = None if state is None else state.get(memory.key)
            if before is None:
                before = np.zeros((batch, *memory.shape), memory.dtype)
            feeds[memory.before] = before
        results: list[Array] = self.session.run(self.names, feeds)
        if state is not None:
            for memory, after in zip(self.memories, results[self.count :], strict=True):
                state[memory.key] = after
        return results[: self.count]


_sessions: weakref.WeakSet[Any] = weakref.WeakSet()
_building = threading.Lock()
"""Held while a session is built. A fork waits for it, so that it copies no locked mutex."""


def _session(path: Path, processor: Processor) -> Any:
    if not path.exists():
        raise PcodecError.of_file(path, "the model has no such graph; saving its weights makes it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processor.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised anyway
    # Waiting threads must not occupy a core that another stream could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CUDAExecutionProvider"] * (processor.device == "cuda") + ["CPUExecutionProvider"]
    try:
        with _building:
            session = onnxruntime.InferenceSession(path, options, providers=providers)
            _sessions.add(session)
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise PcodecError.of_file(path, f"not a graph of this model ({error})") from error
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
