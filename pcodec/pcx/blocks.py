"""Blocks of a stream, and what comes out of them."""

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
    """A block of kind C that has not been decoded."""

    payload: bytes
    columns: int
    """that it holds"""
    skip: int
    """of these the first, which have been there before"""


class EntropyCoder(Protocol):
    """What makes indices (columns, rows) of the payloads of blocks of kind C, and back."""

    def compress(self, blocks: Sequence[Indices]) -> list[bytes]: ...

    def decompress(self, blocks: Sequence[tuple[bytes, int]]) -> list[Indices | None]:
        """Payloads, each with its columns; None where one does not hold them."""
        ...


@dataclasses.dataclass(frozen=True)
class Piece:
    """Columns in order of time; ``indices`` is None where they are lost, or still coded."""

    first_column: int
    columns: int
    indices: Indices | None
    coded: Coded | None = None


@dataclasses.dataclass(frozen=True)
class Damage:
    """Something wrong with a stream. Columns are 0 if no audio is lost."""

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
