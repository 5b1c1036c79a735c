"""The state of streams between pushes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class StateKey(NamedTuple):
    """The key of one memory of a stream."""

    part: str
    """Part of the codec."""
    name: str
    """Name of the memory."""


State = dict[StateKey, Array]
"""The memories of a batch of streams in step, (B, ...) each; of one stream, B = 1.

The memories are copies, not views, which would keep large arrays alive.
"""


def with_history(
    key: StateKey,
    x: Array,
    history: int,
    state: State,
    last: bool,
    look_ahead: int = 0,
    fill: float = 0.0,
) -> Array:
    """Prepends to ``x`` (B, T, ...) the frames before it, remembered under ``key``.

    For a layer whose output frame sees ``history + 1`` input frames, ``look_ahead`` of them later
    ones. The result has ``history`` frames more than the layer can put out now. ``fill`` stands
    before the first frame and after the last.
    """
    before, after = state.get(key), look_ahead if last else 0
    if before is None:
        before = np.full((len(x), history - look_ahead, *x.shape[2:]), fill, x.dtype)
    x = np.concatenate([before, x, np.full((len(x), after, *x.shape[2:]), fill, x.dtype)], 1)
    state[key] = x[:, max(0, x.shape[1] - history) :].copy()
    return x
