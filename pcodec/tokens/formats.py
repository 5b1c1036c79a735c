"""Serialises rows of tokens as a shard; equal rows give equal bytes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pcodec.tokens.rows import Row


class Facts(NamedTuple):
    """Facts that all rows of a corpus share."""

    model: str
    bitstream_id: str
    sample_rate: int
    """Sample rate of `Row.samples`, Hz."""
    rows: int
    vocab_size: int


def _tokens(rows: Sequence[Row], facts: Facts) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """The tokens of all rows, concatenated: (columns, rows)."""
    return np.concatenate([np.zeros((0, facts.rows), np.uint16), *(row.tokens for row in rows)])


def _offsets(rows: Sequence[Row]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where each row's tokens begin and end in `_tokens`: (len(rows) + 1,)."""
    return np.cumsum([0, *(len(row.tokens) for row in rows)])


def parquet(rows: Sequence[Row], facts: Facts, _shard: int) -> bytes:
    """A Parquet table; each row has a list of columns, each a list of ``facts.rows`` tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = pa.FixedSizeListArray.from_arrays(pa.array(_tokens(rows, facts).ravel()), facts.rows)
    offsets = pa.array(_offsets(rows), pa.int32())
    count = len(rows)
    table = pa.table(
        {
            "id": pa.array([row.id for row in rows], pa.string()),
            "path": pa.array([row.path for row in rows], pa.string()),
            "speaker": pa.array([row.speaker for row in rows], pa.string()),
            "seconds": pa.array([row.seconds for row in rows], pa.float64()),
            "samples": pa.array([row.samples for row in rows], pa.int64()),
            "bitstream_id": pa.array([facts.bitstream_id] * count, pa.string()),
            "tokens": pa.ListArray.from_arrays(offsets, columns),
            "error": pa.array([row.error for row in rows], pa.string()),
        }
    ).replace_schema_metadata({"pcodec": json.dumps(facts._asdict())})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=1000, compression="zstd")
    return out.getvalue()


def webdataset(rows: Sequence[Row], facts: Facts, shard: int) -> bytes:
    """A tar file; each row is an .npy of the tokens and a .json of the other fields."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, row in enumerate(rows):
            array = io.BytesIO()
            np.save(array, row.tokens)
            about = {**row._asdict(), **facts._asdict(), "columns": len(row.tokens)}
            del about["tokens"]
            for suffix, data in (("json", json.dumps(about).encode()), ("npy", array.getvalue())):
                # WebDataset splits names at dots, which ids may contain.
                member = tarfile.TarInfo(f"{shard:05d}-{number:06d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def numpy(rows: Sequence[Row], facts: Facts, _shard: int) -> bytes:
    """An .npz of all rows; the tokens of row i are ``tokens[offsets[i]:offsets[i + 1]]``."""
    arrays: dict[str, Any] = {
        "tokens": _tokens(rows, facts),
        "offsets": _offsets(rows),
        "seconds": np.array([row.seconds for row in rows], np.float64),
        "samples": np.array([row.samples for row in rows], np.int64),
    }
    for name in ("id", "path", "speaker", "error"):
        arrays[name] = np.array([getattr(row, name) or "" for row in rows], np.str_)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays, **facts._asdict())
    return out.getvalue()


FORMATS: dict[str, tuple[str, Callable[[Sequence[Row], Facts, int], bytes]]] = {
    "parquet": (".parquet", parquet),
    "webdataset": (".tar", webdataset),
    "numpy": (".npz", numpy),
}
"""(suffix, function that makes a shard) by name."""
