"""What samples are: finite, mono, float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcodec.errors import AudioError

Samples = NDArray[np.float32]


MOST = 4.0
"""Floating-point files may exceed full scale; far beyond it the codec's floats would too."""


def clean(x: NDArray[Any]) -> tuple[Samples, int]:
    """(n,) or (n, channels) -> finite mono samples (n,), and how many were not finite.

    Integers of any width are taken as full-scale PCM, unsigned ones about their middle.
    AudioError if it is of another shape, or complex.
    """
    x = np.asarray(x)
    if x.ndim not in (1, 2) or (x.ndim == 2 and not x.shape[1]) or np.iscomplexobj(x):
        raise AudioError(f"{x.dtype} of shape {x.shape} is not (frames,) or (frames, channels)")
    if np.issubdtype(x.dtype, np.integer):
        limits = np.iinfo(x.dtype)
        middle = 0 if limits.min else (limits.max + 1) // 2
        x = (x.astype(np.float64) - middle) / ((limits.max + 1) // (1 if limits.min else 2))
    with np.errstate(over="ignore"):  # what is beyond its range is as good as infinite
        x = np.asarray(x, np.float32)
    if x.ndim == 1:
        x = x[:, None]
    if x.shape[1] == 1 and np.abs(x).max(initial=0.0) <= MOST:
        return x[:, 0], 0
    bad = ~np.isfinite(x)
    count = int(bad.sum())
    if count:
        x = np.where(bad, np.float32(0), x)
    mono = x[:, 0] if x.shape[1] == 1 else x.mean(1, dtype=np.float64)
    return np.clip(mono, -MOST, MOST).astype(np.float32), count


def int16(samples: Samples) -> Any:
    """Samples as 16-bit integers."""
    return np.ascontiguousarray((samples.clip(-1, 32767 / 32768) * 32768).round().astype("<i2"))


def floats(pieces: list[Any]) -> Samples:
    """The other way round."""
    joined: Samples = (np.concatenate(pieces).astype(np.float32) / 32768).astype(np.float32)
    return joined
