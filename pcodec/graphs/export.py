"""`pcodec export`: a model as two streaming graphs that any ONNX Runtime runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx.external_data_helper import load_external_data_for_model
from onnx.helper import tensor_dtype_to_np_dtype

from pcodec.codec import Codec
from pcodec.errors import PcodecError
from pcodec.files import replace_file
from pcodec.graphs.streaming import (
    FIRST_COLUMNS,
    Streaming,
    first_samples,
    stream_decoder,
    stream_encoder,
)
from pcodec.models import GEOMETRY, Model
from pcodec.runtime.decoder import entry_patches
from pcodec.runtime.network import AFTER

FORMAT = 1
"""Version of the interface of the graphs, and of pcodec.json."""


def export(model: Model, folder: Path) -> list[Path]:
    """Writes encoder.onnx, decoder.onnx and what describes them; gives the files.

    PcodecError if a part of the model is missing or damaged, or the folder is that of a model.
    """
    if (folder / "config.json").exists():
        raise PcodecError.of_file(folder, "the folder of a model; export into another one")
    codec = Codec(model)
    _ = codec.encoder, codec.decoder.concealment  # whose loading checks all files
    folder.mkdir(parents=True, exist_ok=True)
    c = model.config
    about: dict[str, Any] = {
        "format": FORMAT,
        "model": model.name,
        "licence": model.about.get("licence"),
        "bitstream_id": model.bitstream_id.hex(),
        "entropy_id": model.entropy_id and model.entropy_id.hex(),
        **{name: getattr(c, name) for name in GEOMETRY},
        "rows": c.rows,
        "mel_rows": c.mel_rows,
        "column_samples": c.column_samples,
    }
    graphs = stream_encoder(c, model.folder), stream_decoder(c, model.folder)
    first = {"first_samples": first_samples(c)}, {"first_columns": FIRST_COLUMNS}
    for graph, start in zip(graphs, first, strict=True):
        about[graph.name] = {"file": f"{graph.name}.onnx", **start, "states": _states(graph)}
    written = []
    for graph in graphs:
        shapes = {x["input"]: x["shape"] for x in about[graph.name]["states"]}
        onnx = graph.model({"pcodec": about, **shapes})
        load_external_data_for_model(onnx, str(model.folder))
        written.append(folder / f"{graph.name}.onnx")
        replace_file(written[-1], onnx.SerializeToString(deterministic=True))
    picture = entry_patches(c, model.folder).astype("<f4")
    for name, data in (
        ("pcodec.json", json.dumps(about, indent=2).encode() + b"\n"),
        ("patches.f32", np.ascontiguousarray(picture).tobytes()),
    ):
        written.append(folder / name)
        replace_file(written[-1], data)
    if model.entropy_id:
        written.append(folder / "entropy.safetensors")
        replace_file(written[-1], (model.folder / "entropy.safetensors").read_bytes())
    return written


def _states(graph: Streaming) -> list[dict[str, Any]]:
    kinds = {x.name: x.type.tensor_type.elem_type for x in graph.inputs}
    return [
        {
            "input": name,
            "output": name + AFTER,
            "dtype": tensor_dtype_to_np_dtype(kinds[name]).name,
            "shape": [1, *graph.initial[name]],
        }
        for name in graph.memories
    ]
