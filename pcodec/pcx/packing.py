"""Packs grids of indices into bytes, and unpacks them.

The packed columns are the codec's bare payload, usable without the container (RTP, a
message, a language model). Bits run from the most significant down; index 0 of a column
(the lowest frequencies) comes first, and a column fills whole bytes.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.uint16]


def column_bytes(rows: int, bits: int) -> int:
    """Bytes per packed column of ``rows`` indices of ``bits`` bits; ValueError if not whole."""
    if not (1 <= bits <= 16 and rows >= 1) or rows * bits % 8:
        raise ValueError(f"a column of {rows} x {bits} bits does not fill whole bytes")
    return rows * bits // 8


def check_indices(indices: Indices, bits: int) -> None:
    """ValueError unless all are integers from 0 to ``2**bits - 1``."""
    if not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"indices must be integers, not {indices.dtype}")
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < 1 << bits:
        raise ValueError(f"indices must be 0 to {(1 << bits) - 1}")


def _group(bits: int) -> tuple[int, int]:
    """Indices and bytes of the smallest group that starts and ends on a byte."""
    return 8 // gcd(8, bits), bits // gcd(8, bits)


def pack(indices: Indices, bits: int) -> bytes:
    """Packs a grid (columns, rows) of indices; ValueError if one does not fit ``bits`` bits."""
    indices = np.asarray(indices)
    if indices.ndim != 2:
        raise ValueError(f"indices of shape {indices.shape}, not (columns, rows)")
    check_indices(indices, bits)
    column_bytes(indices.shape[1], bits)
    count, size = _group(bits)
    values = np.ascontiguousarray(indices, np.uint16).reshape(-1, count)
    packed = np.empty((len(values), size), np.uint8)
    for byte in range(size):
        total: NDArray[Any] | int = 0
        for i in range(count):
            # Bits of index i lie at bits * i from the group's top; shift them to this byte.
            shift = (byte + 1) * 8 - (i + 1) * bits
            if -bits < shift < 8:
                part = values[:, i] << shift if shift >= 0 else values[:, i] >> -shift
                total = part if isinstance(total, int) else total | part
        packed[:, byte] = total & 0xFF
    return packed.tobytes()


def unpack(payload: bytes | memoryview, rows: int, bits: int) -> Indices:
    """Packed columns -> grid (columns, rows); ValueError if not whole columns."""
    if len(payload) % column_bytes(rows, bits):
        raise ValueError(f"{len(payload)} bytes are not whole columns")
    count, size = _group(bits)
    packed = np.frombuffer(payload, np.uint8).reshape(-1, size).astype(np.uint16)
    indices = np.empty((len(packed), count), np.uint16)
    for i in range(count):
        total: NDArray[Any] | int = 0
        for byte in range(size):
            shift = (byte + 1) * 8 - (i + 1) * bits
            if -bits < shift < 8:
                part = packed[:, byte] >> shift if shift >= 0 else packed[:, byte] << -shift
                total = part if isinstance(total, int) else total | part
        indices[:, i] = total & ((1 << bits) - 1)
    return indices.reshape(-1, rows)
