"""A stream of a week: written, read and entered near its end, without the networks.

    python benchmarks/week.py [FILE]

604,800 s are 18.9 million columns. Their indices are a formula, so that every one that is read
can be checked. FILE is kept; without it, a temporary file is removed. Writes what it measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from pcodec import models
from pcodec.pcx.layout import Header
from pcodec.pcx.packing import Indices
from pcodec.pcx.parser import Parser
from pcodec.pcx.seek import seek
from pcodec.pcx.writer import Writer

SECONDS = 7 * 24 * 3600
PORTION = 1 << 14
"""columns that are made at once"""


def indices(first: int, columns: int, header: Header) -> Indices:
    """What the columns from a number on hold."""
    column = np.arange(first, first + columns, dtype=np.int64)[:, None]
    values = column * 37 + np.arange(header.rows) * 101 + (column >> 15) * 11
    return (values % (1 << header.bits)).astype(np.uint16)


def resident() -> float:
    """MB of memory that this process holds."""
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def write(path: Path, header: Header, columns: int) -> float:
    """Writes the stream; how much the memory grew after the first portions, in MB."""
    with path.open("wb") as out:
        writer, before = Writer(out, header), 0.0
        for first in range(0, columns, PORTION):
            if first == 4 * PORTION:
                before = resident()
            writer.write(indices(first, min(PORTION, columns - first), header))
        samples = columns * header.column_samples
        writer.finish(samples, {"source_frames": samples})
    return resident() - before


def read(path: Path, columns: int) -> tuple[float, float, Parser]:
    """Reads and checks every column; the growth of the memory and the most of it, in MB."""
    parser, before, most, turn = Parser(), 0.0, 0.0, 0
    with path.open("rb") as stream:
        while data := stream.read(1 << 16):
            for piece in parser.feed(data):
                assert piece.indices is not None and parser.header is not None
                wanted = indices(piece.first_column, piece.columns, parser.header)
                assert np.array_equal(piece.indices, wanted), f"column {piece.first_column}"
            turn += 1
            if turn == 16:
                before = resident()
            if turn % 16 == 0:
                most = max(most, resident())
    assert not parser.close() and not parser.damages
    assert parser.next_column == columns
    return most - before, most, parser


def enter(path: Path, header: Header, column: int) -> tuple[int, float]:
    """Enters at a column; how many bytes were read to get there, and the seconds it took."""
    started = time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        counted = Counted(stream)
        first = seek(counted, header, column)  # type: ignore[arg-type]
        parser = Parser(header, first)
        pieces = parser.feed(counted.read(1 << 14))
    took = time.perf_counter() - started
    (piece,) = [p for p in pieces if p.first_column <= column < p.first_column + p.columns]
    assert piece.indices is not None
    wanted = indices(column, 1, header)[0]
    assert np.array_equal(piece.indices[column - piece.first_column], wanted)
    return counted.bytes, took


class Counted:
    """A file, and how many bytes of it were read."""

    def __init__(self, file: object) -> None:
        self._file, self.bytes = file, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)  # type: ignore[attr-defined]
        self.bytes += len(data)
        return data


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--seconds", type=int, default=SECONDS)
    arguments = parser.parse_args()
    header = models.find().header(16000)
    columns = -(-arguments.seconds * header.sample_rate // header.column_samples)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "week.pcx"
        started = time.process_time()
        growth = write(path, header, columns)
        took = time.process_time() - started
        print(f"written: {columns} columns, {path.stat().st_size} bytes, {took:.0f} s of CPU,")
        print(f"  memory grew by {growth:.1f} MB")
        started = time.process_time()
        growth, most, stream = read(path, columns)
        took = time.process_time() - started
        print(f"read: every column as it was written, {stream.blocks} blocks, {took:.0f} s of CPU,")
        print(f"  memory grew by {growth:.1f} MB, to {most:.0f} MB")
        places = (0, columns // 2, 1 << 24, (1 << 24) + 1, columns - 100, columns - 1)
        for column in (place for place in places if place < columns):
            size, took = enter(path, header, column)
            print(f"entered at column {column}: {size} bytes read, {took * 1000:.1f} ms")


if __name__ == "__main__":
    main()
