"""The interface of the peers, and helpers: frames, libraries, sizes."""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pcodec.errors import PcodecError
from pcodec.eval.metrics import Samples

FRAME = 320
"""Samples in 20 ms."""


class AbsentError(PcodecError):
    """The codec is not installed."""


@dataclasses.dataclass
class PeerResult:
    """The result of coding one file."""

    decoded: Samples
    """Decoded samples (m,), about as long as the original; a constant delay is allowed."""
    payload_bits: int
    """Bits of the codec itself, without a container."""
    container_bytes: int
    """Bytes of the file, with its container."""
    encode_seconds: float
    decode_seconds: float
    stream: bytes | None = None
    """The coded file, if it is a .pcx file."""


@dataclasses.dataclass(frozen=True)
class PeerCodec:
    """A codec at one bit rate."""

    name: str
    about: str
    identity: str
    """Key of the cache; changes whenever the result may change."""
    run: Callable[[Samples], PeerResult]
    """Takes samples (n,) at 16 kHz."""


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result of a call, and its seconds."""
    started = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - started


def ogg_bytes(packets: list[int], headers: list[int], per_second: int) -> int:
    """Bytes of an Ogg stream (RFC 3533) with pages of one second, from the sizes of its packets."""
    pages = [[size] for size in headers]
    pages += [packets[i : i + per_second] for i in range(0, len(packets), per_second)]
    return sum(27 + sum(size // 255 + 1 + size for size in page) for page in pages)


def library(name: str, package: str) -> ctypes.CDLL:
    """Loads a shared library; AbsentError that names Debian's package if it is not installed."""
    found = ctypes.util.find_library(name)
    try:
        return ctypes.CDLL(found or f"lib{name}.so.0")
    except OSError:
        raise AbsentError(f"lib{name} is not installed (Debian: {package})") from None


def frames(samples: Samples, size: int) -> list[Samples]:
    """Divides samples into frames; the last one is padded with silence."""
    padded = np.pad(samples, (0, -len(samples) % size))
    return list(np.ascontiguousarray(padded.reshape(-1, size)))


def pointer(array: Any) -> ctypes.c_void_p:
    """A pointer to an array, for a C function."""
    address: ctypes.c_void_p = array.ctypes.data_as(ctypes.c_void_p)
    return address


def digest(files: Iterable[Path]) -> str:
    """Hash of the contents of files."""
    whole = hashlib.sha256()
    for path in files:
        whole.update(path.read_bytes())
    return whole.hexdigest()
