"""Converts grids of tokens into sequences for language models, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcodec.pcx.packing import Indices


def flatten(tokens: ArrayLike, vocab_size: int) -> NDArray[np.int64]:
    """Tokens (columns, rows) -> one sequence of ids (columns * rows,).

    Column by column, low frequencies first. A token of row r becomes ``r * vocab_size +
    token``. So each row has its own ids, and a model needs ``rows * vocab_size`` ids.
    vocab_size: `Codec.vocab_size`. ValueError if a token is not from 0 to ``vocab_size - 1``.

        ids = flatten(tokens, codec.vocab_size)  # 0 to 24575
    """
    grid = _checked(tokens, vocab_size)
    return (grid + vocab_size * np.arange(grid.shape[1])).reshape(-1)


def unflatten(ids: ArrayLike, rows: int, vocab_size: int) -> Indices:
    """The inverse of `flatten`: ids (columns * rows,) -> tokens (columns, rows), uint16.

    rows, vocab_size: `Codec.rows` and `Codec.vocab_size`. ValueError if the ids do not fill
    whole columns, or one belongs to another row.
    """
    flat = np.asarray(ids)
    if flat.ndim != 1 or len(flat) % rows:
        raise ValueError(f"ids of shape {flat.shape} are not whole columns of {rows}")
    _check_integers(flat)
    grid = flat.reshape(-1, rows).astype(np.int64) - vocab_size * np.arange(rows)
    wrong = (grid < 0) | (grid >= vocab_size)
    if wrong.any():
        place = int(wrong.reshape(-1).argmax())
        raise ValueError(f"id {flat[place]} at place {place} does not belong to row {place % rows}")
    return grid.astype(np.uint16)


def delay(tokens: ArrayLike, pad: int) -> NDArray[np.int64]:
    """Tokens (columns, rows) -> (columns + rows - 1, rows), row r delayed by r steps.

    A step then holds tokens of many columns. The lower rows of a token's own column are in earlier
    steps, so a model that predicts a whole step at once still sees them (MusicGen, arXiv
    2306.05284). pad: the value before a row begins and after it ends; it must not be a token, for
    example `Codec.vocab_size`. ValueError if a token is not from 0 to ``pad - 1``.
    """
    grid = _checked(tokens, pad)
    columns, rows = grid.shape
    delayed = np.full((columns + rows - 1 if columns else 0, rows), pad, np.int64)
    steps = np.arange(columns)[:, None] + np.arange(rows)
    delayed[steps, np.arange(rows)] = grid
    return delayed


def undelay(delayed: ArrayLike, pad: int) -> Indices:
    """The inverse of `delay`: (columns + rows - 1, rows) -> tokens (columns, rows), uint16.

    The places where `delay` puts ``pad`` are ignored, as they belong to columns that a model has
    not completed. ValueError if ``pad`` is found at any other place.
    """
    grid = np.asarray(delayed)
    if grid.ndim != 2 or not grid.shape[1]:
        raise ValueError(f"an array of shape {grid.shape} is not (steps, rows)")
    _check_integers(grid)
    steps, rows = grid.shape
    if 0 < steps < rows:
        raise ValueError(f"{steps} steps of {rows} rows hold no whole column")
    columns = max(0, steps - rows + 1)
    places = np.arange(columns)[:, None] + np.arange(rows)
    tokens = grid[places, np.arange(rows)]
    if (tokens == pad).any():
        step, row = (int(place[0]) for place in np.nonzero(tokens == pad))
        raise ValueError(f"a pad ({pad}) in row {row} of column {step}")
    return _checked(tokens, pad).astype(np.uint16)


def _checked(tokens: ArrayLike, vocab_size: int) -> NDArray[np.int64]:
    grid = np.asarray(tokens)
    if grid.ndim != 2 or not grid.shape[1]:
        raise ValueError(f"tokens of shape {grid.shape}, not (columns, rows)")
    _check_integers(grid)
    if grid.size and not 0 <= grid.min() <= grid.max() < vocab_size:
        raise ValueError(f"tokens must be 0 to {vocab_size - 1}")
    return grid.astype(np.int64)


def _check_integers(array: NDArray[np.generic]) -> None:
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"tokens must be integers, not {array.dtype}")
