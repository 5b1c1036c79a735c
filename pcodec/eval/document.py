"""The results of `pcodec eval` (JSON, "pcodec-eval/1"): their schema, and reading them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from pcodec.errors import PcodecError

FORMAT = "pcodec-eval/1"


class Each(NamedTuple):
    """The shape of all values of an object with arbitrary keys."""

    of: Any


OPTIONAL_TEXT = (str, None)
METRIC = {"name": str, "title": str, "unit": str, "better": str, "definition": str}
CODEC = {
    "kbit_s": float, "kbit_s_container": float, "delay_ms": float,
    "encode_rtf": float, "decode_rtf": float,
    "codebook": ({"entropy_bits": float, "unused": int, "entries": int}, None),
    "scores": Each({"mean": float, "low": float, "high": float, "files": int}),
}  # fmt: skip
FILE = {
    "name": str, "seconds": float, "speaker": OPTIONAL_TEXT, "language": OPTIONAL_TEXT,
    "codecs": Each({"payload_bits": float, "scores": Each((float, None))}),
    "refused": [{"codec": str, "metric": OPTIONAL_TEXT, "why": str}],
    "samples": ({"reference": str, "codecs": Each(str), "streams": Each(str)}, None),
}  # fmt: skip
DOCUMENT = {
    "created": str, "data": str, "software": Each(str), "metrics": [METRIC],
    "codecs": [{"name": str, "about": str, "absent": OPTIONAL_TEXT}], "files": [FILE],
}  # fmt: skip


def check(value: Any, shape: Any, where: str) -> None:
    """Checks a part of the document against its shape; PcodecError that names the place."""
    if isinstance(shape, tuple) and not isinstance(shape, Each):
        if value is None:
            return
        shape = shape[0]
    if isinstance(shape, type):
        wanted = (int, float) if shape is float else shape
        good = isinstance(value, wanted) and not isinstance(value, bool)
        if not good or (shape is float and not math.isfinite(value)):
            raise PcodecError.of_file(
                where, f"is not a {'number' if shape in (int, float) else 'text'}"
            )
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise PcodecError.of_file(where, "is not a list")
        for i, part in enumerate(value):
            check(part, shape[0], f"{where}[{i}]")
    elif not isinstance(value, dict):
        raise PcodecError.of_file(where, "is not an object")
    elif isinstance(shape, Each):
        for key, part in value.items():
            check(part, shape.of, f"{where}.{key}")
    else:
        for key, inner in shape.items():
            if key not in value:
                raise PcodecError.of_file(f"{where}.{key}", "is missing")
            check(value[key], inner, f"{where}.{key}")


def load(path: Path) -> dict[str, Any]:
    """Reads the document in a file; PcodecError if it is not one."""
    try:
        results = json.loads(path.read_bytes())
    except ValueError as error:  # not UTF-8, or not JSON
        raise PcodecError.of_file(path, f"is not JSON ({error})") from error
    except RecursionError:
        raise PcodecError.of_file(
            path, "is not a document of `pcodec eval`: nested too deeply"
        ) from None
    found = results.get("format") if isinstance(results, dict) else None
    if found != FORMAT:
        raise PcodecError.of_file(path, f"is not a document of `pcodec eval` ({FORMAT})")
    check(results, DOCUMENT, f"{path}: results")
    for i, codec in enumerate(results["codecs"]):
        if not codec["absent"]:
            check(codec, CODEC, f"{path}: results.codecs[{i}]")
    return dict(results)
