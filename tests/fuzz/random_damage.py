"""Random damage to a valid stream.

    python tests/fuzz/random_damage.py [MUTATIONS] [SEED] [--compact]

With --compact the stream has blocks of type C, by an entropy model of formulas.

Flips, cuts, insertions, swaps, repeats and hostile fields. Each damaged stream is refused, or
its damage is reported, or it gives exactly the original indices: nothing else. It does not
crash, no column is out of time, no read takes long, and memory stays small.
"""

from __future__ import annotations

import dataclasses
import io
import mmap
import random
import sys
import tempfile
import time
import tracemalloc
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pcodec.errors import FormatError, ModelMismatchError
from pcodec.pcx.blocks import block
from pcodec.pcx.chain import Chain
from pcodec.pcx.layout import HEAD_BYTES, Header
from pcodec.pcx.writer import Writer
from pcodec.runtime.entropy import EntropyModel

sys.path.insert(0, str(Path(__file__).parent.parent / "pcx"))
from plain_entropy import CONFIG, write_model

MEGABYTE = 1 << 20


@cache
def entropy() -> EntropyModel:
    """A small entropy model, of columns of four indices, so that decoding takes little time."""
    config = dataclasses.replace(CONFIG, mel_bands=8, phase_rows=2)
    with tempfile.TemporaryDirectory() as folder:
        return EntropyModel(config, write_model(Path(folder), config))


def entropy_of(header: Header) -> EntropyModel:
    """What an installed model would be found by; ModelMismatchError if it is none of these."""
    if (header.entropy_id, header.rows, header.bits) != (entropy().id, 4, 10):
        raise ModelMismatchError("another entropy model")
    return entropy()


def compact_columns() -> np.ndarray:
    """Columns that the entropy model finds likely, but for those of one block."""
    nothing = [np.zeros((24, 4, 12))]
    away = np.abs(np.sin(0.37 * np.arange(1024)))
    (likely,) = entropy().choose(nothing, lambda x: away * np.ones((*x.shape[:2], 1)), 0.35)
    likely[8:16] = np.random.default_rng(0).integers(0, 1024, (8, 4))
    return likely


def stream(columns: np.ndarray, compact: bool = False) -> bytes:
    out = io.BytesIO()
    header, coder = Header(16000, bytes(16)), None
    if compact:
        coder = entropy()
        header = dataclasses.replace(
            header, mel_bands=8, phase_rows=2, block_columns=8, entropy_id=coder.id
        )
    writer = Writer(out, header, coder)
    writer.write(columns)
    writer.finish(len(columns) * 512, {"source_frames": len(columns) * 512})
    return out.getvalue()


def mutate(data: bytes, r: random.Random) -> bytes:
    """One to three damages."""
    out = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        a, b = sorted(r.randrange(len(out)) for _ in range(2))
        kind = r.randrange(8)
        if kind == 0:
            out[a] ^= 1 << r.randrange(8)
        elif kind == 1:
            out[a : a + r.randrange(1, 64)] = r.randbytes(r.randrange(1, 64))
        elif kind == 2:
            del out[a : b if r.random() < 0.2 else a + r.randrange(1, 64)]
        elif kind == 3:
            out[a:a] = r.randbytes(r.randrange(1, 3000))
        elif kind == 4:
            out += out[a:b]
        elif kind == 5:
            size = min(b - a, len(out) - b)
            out[a : a + size], out[b : b + size] = out[b : b + size], out[a : a + size]
        elif kind == 6 and len(out) >= 64:
            # A field of the header, under a right checksum.
            out[r.randrange(8, 60)] = r.choice((0, 1, 0x7F, 0xFF, r.randrange(256)))
            out[60:64] = zlib.crc32(out[:60]).to_bytes(4, "little")
        else:
            # A block with right checksums that says what it likes.
            first, columns = r.choice((0, 31, 32, 2**16, 2**32 - 1)), r.choice((0, 1, 32, 255))
            payload = r.randbytes(r.choice((0, 1, 30, 32, columns * 30, 5000)))
            out[a:a] = block(
                r.choice((b"A", b"C", b"I", b"Z", b"t", b"x", b"X")), payload, first, columns
            )
        if len(out) < 2:
            out += data[:100]
    return bytes(out)


def check(data: bytes, columns: np.ndarray, r: random.Random) -> str:
    """Reads a damaged stream: "refused", "reported" or "intact".

    Raises AssertionError if anything is not as it should be.
    """
    chain, pieces = Chain(entropy=entropy_of), []
    size = r.choice((100, 1000, 1 << 16))
    try:
        for start in range(0, len(data), size):
            pieces += chain.feed(data[start : start + size])
        pieces += chain.close()
    except (FormatError, ModelMismatchError):
        return "refused"
    position, total, link = 0, 0, pieces[0][0]
    intact = chain.columns == len(columns) and chain.number == 1
    for parser, piece in ((parser, piece) for parser, found in pieces for piece in found):
        if parser is not link:
            position, link = 0, parser
        assert piece.first_column == position, "a piece out of time"
        position += piece.columns
        total += piece.columns
        if piece.indices is None:
            intact = False
        elif intact:
            intact = np.array_equal(piece.indices, columns[piece.first_column : position])
    coded = 255 * data.count(b"\xf5\xb2C")
    most = 1024 * chain.number + 9 * (len(data) // columns.shape[1] + 1) + coded
    assert total == chain.columns <= most, "columns out of nothing"
    if chain.faults:
        return "reported"
    assert intact, "a change of index data went unnoticed"
    return "intact"


class Result(NamedTuple):
    """What a run of many mutations gave."""

    outcomes: Counter[str]
    memory: int
    """bytes: the most that any mutation took, of each hundredth one"""
    growth: int
    """bytes: how much the process grew after its first thousand mutations"""
    slowest: float
    """seconds of processor time"""


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE if statm.exists() else 0


def run(mutations: int, seed: int, compact: bool = False) -> Result:
    """Damages one stream so many times."""
    r = random.Random(seed)
    columns = np.random.default_rng(seed).integers(0, 1024, (100, 24), np.uint16)
    if compact:
        columns = compact_columns()
    original = stream(columns, compact)
    assert len(original) > 64 + HEAD_BYTES
    outcomes: Counter[str] = Counter()
    memory = settled = 0
    slowest = 0.0
    for k in range(mutations):
        data = mutate(original, r)
        sample = k % 100 == 0  # tracing is slow
        if sample:
            tracemalloc.start()
        started = time.process_time()
        outcomes[check(data, columns, r)] += 1
        if sample:
            memory = max(memory, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        else:
            slowest = max(slowest, time.process_time() - started)
        if k == 1000:
            settled = resident()
    return Result(outcomes, memory, resident() - settled if settled else 0, slowest)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:] if text.isdecimal()]
    count, seed = (numbers + [100_000, 0][len(numbers) :])[:2]
    result = run(count, seed, "--compact" in sys.argv)
    parts = ", ".join(f"{n} {name}" for name, n in sorted(result.outcomes.items()))
    print(f"{count} mutations: {parts}, 0 silent; at most {result.memory / MEGABYTE:.1f} MiB each,")
    print(f"grown by {result.growth / MEGABYTE:.1f} MiB, slowest {result.slowest * 1000:.0f} ms")
