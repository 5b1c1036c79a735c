"""What streams remember."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Past = dict[Any, Array]
"""The memory of a batch of streams in step, each (B, ...); of one stream, B = 1.

Copies, not views: a stream may wait for long, and what it came from is large.
"""


def with_past(
    key: Any,
    x: Array,
    history: int,
    past: Past,
    last: bool,
    look_ahead: int = 0,
    fill: float = 0.0,
) -> Array:
    """Joins ``x`` (B, T, ...) to the frames that came before it, remembered under ``key``.

    A layer whose output frame sees ``history + 1`` input frames, ``look_ahead`` of them
    in its future, gets all that it needs: the result has ``history`` frames more than
    the layer can now put out. Before the first frame and after the last stands ``fill``.
    """
    before, after = past.get(key), look_ahead if last else 0
    if before is None:
        before = np.full((len(x), history - look_ahead, *x.shape[2:]), fill, x.dtype)
    x = np.concatenate([before, x, np.full((len(x), after, *x.shape[2:]), fill, x.dtype)], 1)
    past[key] = x[:, max(0, x.shape[1] - history) :].copy()
    return x
