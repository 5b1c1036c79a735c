"""Finds a column in a stream by the frame index."""

from __future__ import annotations

import binascii
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from pcodec.pcx.layout import (
    END,
    END_BYTES,
    END_MARK,
    HEAD,
    HEAD_BYTES,
    OVERHEAD,
    RUN,
    SYNC,
    Header,
)

MAX_INDEX = 1 << 22
"""Largest frame index that is read, in bytes; equal blocks, however many, take a run of 17."""

MAX_WALK = 1 << 10
"""Most blocks of type C whose heads are read from the start of a run."""


def seek(stream: BinaryIO, header: Header, column: int) -> int:
    """Moves a file to the last block that starts at or before a column.

    Returns the first column of that block. This needs the end block and the index. Without them,
    or if they lead to no block, the file is at the first byte after the header, and the result
    is 0.
    """
    for offset, first, blocks in _indexed(stream, header, column):
        head = _head(stream, offset)
        while head is not None and head.first_column == first:
            if head.type == b"A" or not blocks or column < first + head.columns:
                stream.seek(offset)
                return first
            # Blocks of type C differ in length, so only this head tells where the next one is.
            offset, first, blocks = (
                offset + OVERHEAD + head.length,
                first + head.columns,
                blocks - 1,
            )
            head = _head(stream, offset)
    stream.seek(10)
    stream.seek(int.from_bytes(stream.read(2), "little"))
    return 0


def _head(stream: BinaryIO, offset: int) -> Any:
    """The head of a block of columns at an offset; None if there is no valid one."""
    if offset >= stream.seek(0, io.SEEK_END):
        return None
    stream.seek(offset)
    raw = stream.read(HEAD_BYTES)
    valid = raw[:2] == SYNC and raw[2:3] in (b"A", b"C") and len(raw) == HEAD_BYTES
    if not valid or binascii.crc_hqx(raw[:12], 0) != int.from_bytes(raw[12:], "little"):
        return None
    return HEAD.parse(raw)


def _indexed(stream: BinaryIO, header: Header, column: int) -> Iterator[tuple[int, int, int]]:
    """(offset, first column, blocks) of the place that the index gives for a column.

    For blocks of type A that is the block itself, and ``blocks`` is 0. For type C it is the first
    block of the run, and the wanted one is at most ``blocks`` blocks after it.
    """
    size = stream.seek(0, io.SEEK_END)
    tail = max(0, size - END_BYTES - OVERHEAD)
    stream.seek(tail)
    payload = _payload(stream, b"Z")
    if payload is None or len(payload) != END_BYTES or payload[-4:] != END_MARK:
        return
    index_offset = END.parse(payload).index_offset
    if not tail - MAX_INDEX <= index_offset < tail:
        return
    stream.seek(index_offset)
    runs = b""
    while stream.tell() < tail:
        payload = _payload(stream, b"I")
        if payload is None:
            return
        runs += payload
    if len(runs) % RUN.itemsize:
        return
    for run in np.frombuffer(runs, RUN)[::-1].tolist():
        offset, first, blocks, columns = run
        if first <= column and blocks and columns:
            head = _head(stream, offset)
            if head is not None and head.type == b"C":
                yield offset, first, min(blocks, MAX_WALK) - 1
                return
            k = min((column - first) // columns, blocks - 1)
            yield offset + k * (OVERHEAD + columns * header.column_bytes), first + k * columns, 0
            return


def _payload(stream: BinaryIO, kind: bytes) -> bytes | None:
    """The payload of the block at the current position, if it is valid and of this type."""
    raw = stream.read(HEAD_BYTES)
    if raw[:4] != SYNC + kind + b"\0" or len(raw) < HEAD_BYTES:
        return None
    content = raw + stream.read(HEAD.parse(raw).length + 4)
    if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        return None
    return content[HEAD_BYTES:-4]
