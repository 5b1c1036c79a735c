"""Blocks of a stream, and the columns and damages that a reader finds."""

from __future__ import annotations

import binascii
import dataclasses
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pcodec.pcx.layout import HEAD
from pcodec.pcx.packing import Indices


def block(kind: bytes, payload: bytes, first_column: int = 0, columns: int = 0) -> bytes:
    """A whole block: head, payload, checksum."""
    head: bytes = HEAD.build(
        {
            "type": kind,
            "flags": 0,
            "first_column": first_column,
            "columns": columns,
            "length": len(payload),
            "crc": 0,
        }
    )[:-2]
    head += binascii.crc_hqx(head, 0).to_bytes(2, "little")
    return head + payload + zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "little")


class Coded(NamedTuple):
    """The payload of a block of type C before it is decoded."""

    payload: bytes
    columns: int
    """Columns in the block."""
    skip: int
    """Columns at its start that an earlier block has given already."""


class EntropyCoder(Protocol):
    """Codes blocks of indices (columns, rows) as payloads of blocks of type C, and back."""

    def compress(self, blocks: Sequence[Indices]) -> list[bytes]: ...

    def decompress(self, blocks: Sequence[tuple[bytes, int]]) -> list[Indices | None]:
        """(payload, columns) of each block -> indices, or None if the payload is invalid."""
        ...


@dataclasses.dataclass(frozen=True)
class Piece:
    """Consecutive columns. ``indices`` is None if they are lost, or not decoded yet (`coded`)."""

    first_column: int
    columns: int
    indices: Indices | None
    coded: Coded | None = None


@dataclasses.dataclass(frozen=True)
class Damage:
    """A fault of a stream. ``columns`` is 0 if no audio is lost."""

    first_column: int
    columns: int
    reason: str


def grid(pieces: Iterable[Piece], rows: int) -> NDArray[np.int64]:
    """Pieces in order -> indices (columns, rows), -1 where they are lost."""
    parts = [
        np.full((p.columns, rows), -1) if p.indices is None else p.indices.astype(np.int64)
        for p in pieces
    ]
    return np.concatenate([np.zeros((0, rows), np.int64), *parts])
