"""What streams remember from one push to the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class StateKey(NamedTuple):
    """Names one memory of a stream."""

    part: str
    """The part of the codec that remembers."""
    name: str
    """What it remembers."""


State = dict[StateKey, Array]
"""The memories of a batch of streams in step, (B, ...) each; of one stream, B = 1.

Copies, not views: a stream may wait for long, and what it came from is large.
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
    """Joins ``x`` (B, T, ...) to the frames that came before it, remembered under ``key``.

    A layer whose output frame sees ``history + 1`` input frames, ``look_ahead`` of them
    in its future, gets all that it needs: the result has ``history`` frames more than
    the layer can now put out. Before the first frame and after the last stands ``fill``.
    """
    before, after = state.get(key), look_ahead if last else 0
    if before is None:
        before = np.full((len(x), history - look_ahead, *x.shape[2:]), fill, x.dtype)
    x = np.concatenate([before, x, np.full((len(x), after, *x.shape[2:]), fill, x.dtype)], 1)
    state[key] = x[:, max(0, x.shape[1] - history) :].copy()
    return x
