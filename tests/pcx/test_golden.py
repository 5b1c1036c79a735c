"""Streams of every version of the format that was ever published must be read for ever.

These files are frozen: when a test here fails, the reader is wrong, not the file.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from pcodec.pcx.parser import Parser

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = {
    # name: (SHA-256 of the file, columns, samples, source rate, tags)
    "v1_0_file": (
        "2eae0d396c8858adff0ba7221dd352e5e4c9faf52884a64b6cf4179a2ad64479",
        40,
        20000,
        44100,
        {"source_frames": 55125},
    ),
    "v1_0_live": (
        "07ce872a8e9e22224d08f9d33bc876aea3d6c4ec8cdd23f2312b81daa162f646",
        13,
        6556,
        16000,
        {},
    ),
    "v1_0_phases": (
        "f3484d717866da6d3cec05e570bdf0eda50ce352dc808a86ba6c274a0b8ecba3",
        1,
        300,
        16000,
        {"source_frames": 300},
    ),
    "v1_0_small": (
        "9717143ede6a0c7cf68e55860fec2b55594b73a987601486f31e72e6ba8ff000",
        1,
        300,
        16000,
        {"source_frames": 300},
    ),
}


def indices(columns):
    """What the golden files hold: a formula that anyone can check by hand."""
    c, r = np.arange(columns)[:, None], np.arange(24)
    return (c * 37 + r * 101 + c * c * r) % 1024


@pytest.mark.parametrize("name", FILES)
def test_a_stream_of_an_earlier_version_reads_as_it_was_written(name):
    sha, columns, samples, source_rate, tags = FILES[name]
    data = (GOLDEN / f"{name}.pcx").read_bytes()
    assert hashlib.sha256(data).hexdigest() == sha, "a golden file was changed"
    parser = Parser()
    pieces = parser.feed(data) + parser.close()
    assert np.array_equal(np.concatenate([p.indices for p in pieces]), indices(columns))
    assert (parser.samples, parser.header.source_rate, parser.tags) == (samples, source_rate, tags)
    assert parser.header.bitstream_id == bytes(range(16))
    assert not parser.damages


def test_every_golden_file_is_tested():
    compact = {"v1_1_compact"}  # in test_compact.py
    assert {p.stem for p in GOLDEN.glob("*.pcx")} == set(FILES) | compact
