"""The graphs of a model, written beside its weights."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pcodec.config import CodecConfig
from pcodec.files import replaced
from pcodec.graphs.graph import Graph, Tensors
from pcodec.runtime.network import CONFIG

PARTS = {"codebook": "quantizer"}
"""By the name of a part's weights the file, and the function in it, that makes its graphs, where
these have another name."""


def graphs(config: CodecConfig, folder: Path, part: str) -> list[Graph]:
    """The graphs of a part, from the header of its weights; none of one that runs without."""
    name = PARTS.get(part, part)
    if find_spec(f"pcodec.graphs.{name}") is None:
        return []
    tensors = Tensors(folder / f"{part}.safetensors")
    made: list[Graph] = getattr(import_module(f"pcodec.graphs.{name}"), name)(config, tensors)
    return made


def save(config: CodecConfig, folder: Path, part: str) -> None:
    """Writes the graphs of a part."""
    for graph in graphs(config, folder, part):
        model = graph.model({CONFIG: config.to_json()})
        with replaced(folder / f"{graph.name}.onnx") as file:
            file.write_bytes(model.SerializeToString(deterministic=True))
