import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pcodec.tokens import delay, flatten, undelay, unflatten


@st.composite
def grids(draw, dtype=np.uint16):
    """(tokens (columns, rows), entries of their codebook)"""
    entries = draw(st.integers(1, 2048))
    shape = draw(st.integers(0, 40)), draw(st.integers(1, 30))
    return draw(arrays(dtype, shape, elements=st.integers(0, entries - 1))), entries


@given(grids())
def test_what_is_flattened_comes_back(both):
    tokens, entries = both
    ids = flatten(tokens, entries)
    assert ids.shape == (tokens.size,)
    back = unflatten(ids, tokens.shape[1], entries)
    assert back.dtype == np.uint16 and np.array_equal(back, tokens)


@given(grids())
def test_each_row_has_ids_of_its_own(both):
    tokens, entries = both
    ids = flatten(tokens, entries).reshape(tokens.shape)
    assert np.array_equal(ids // entries, np.broadcast_to(np.arange(tokens.shape[1]), ids.shape))
    assert np.array_equal(ids % entries, tokens)


@given(grids())
def test_what_is_delayed_comes_back(both):
    tokens, entries = both
    delayed = delay(tokens, entries)
    back = undelay(delayed, entries)
    assert back.dtype == np.uint16 and back.shape[0] == tokens.shape[0]
    assert np.array_equal(back, tokens)


@given(grids())
def test_a_row_is_delayed_by_its_number_and_padded_on_both_sides(both):
    tokens, entries = both
    columns, rows = tokens.shape
    delayed = delay(tokens, entries)
    assert len(delayed) == (columns + rows - 1 if columns else 0)
    for row in range(rows if columns else 0):
        after = rows - 1 - row
        wanted = [entries] * row + tokens[:, row].tolist() + [entries] * after
        assert delayed[:, row].tolist() == wanted


@given(grids(), st.data())
def test_an_id_of_another_row_is_refused(both, data):
    tokens, entries = both
    if not tokens.size:
        return
    ids = flatten(tokens, entries)
    place = data.draw(st.integers(0, len(ids) - 1))
    ids[place] += entries * data.draw(st.sampled_from([-30, -1, 1, 30]))
    with pytest.raises(ValueError, match=f"at place {place} does not belong to row"):
        unflatten(ids, tokens.shape[1], entries)


@given(grids(), st.data())
def test_a_pad_in_the_place_of_a_token_is_refused(both, data):
    tokens, entries = both
    if not tokens.size:
        return
    column = data.draw(st.integers(0, len(tokens) - 1))
    row = data.draw(st.integers(0, tokens.shape[1] - 1))
    delayed = delay(tokens, entries)
    delayed[column + row, row] = entries
    with pytest.raises(ValueError, match=f"in row {row} of column {column}"):
        undelay(delayed, entries)


@given(grids())
def test_columns_that_are_not_whole_are_left_out(both):
    # A model goes on for as many steps as it is asked to, whatever it puts out at last.
    tokens, entries = both
    delayed = delay(tokens, entries)
    assert np.array_equal(undelay(np.where(delayed == entries, 0, delayed), entries), tokens)


def test_what_is_no_grid_of_tokens_is_refused():
    grid = np.zeros((3, 2), np.int64)
    for wrong in (np.zeros(4, int), np.zeros((3, 0), int), grid + 0.0, grid - 1, grid + 8):
        with pytest.raises(ValueError):
            flatten(wrong, 8)
        with pytest.raises(ValueError):
            delay(wrong, 8)
    for wrong in (np.zeros(5, int), grid, np.zeros(4)):
        with pytest.raises(ValueError):
            unflatten(wrong, 2, 8)
    for wrong in (np.full((1, 2), 8), np.zeros(4, int), np.full((3, 2), 9)):
        with pytest.raises(ValueError):
            undelay(wrong, 8)


def test_lists_and_tensors_are_taken():
    torch = pytest.importorskip("torch")
    grid = torch.tensor([[1, 2], [3, 4]])
    assert flatten(grid, 10).tolist() == flatten([[1, 2], [3, 4]], 10).tolist() == [1, 12, 3, 14]
    assert delay(grid, 10).tolist() == [[1, 10], [3, 2], [10, 4]]
    assert undelay(torch.tensor([[1, 10], [3, 2], [10, 4]]), 10).tolist() == grid.tolist()


def test_the_sequences_need_numpy_alone():
    script = "import sys, pcodec.tokens; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    assert not set(out.decode().split()) & {"torch", "onnxruntime", "pyarrow", "soundfile"}
