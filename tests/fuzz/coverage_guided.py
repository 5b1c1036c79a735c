"""Coverage-guided fuzzing of the reader of streams, with Atheris.

    pip install atheris
    python tests/fuzz/coverage_guided.py NEW tests/fuzz/corpus tests/golden -max_total_time=900

What reaches code that nothing reached before is kept in the folder NEW. What breaks a promise of
the reader is written to a file `crash-...`, and this script given that file repeats it. The suite
reads the corpus without Atheris.
"""

from __future__ import annotations

import binascii
import io
import json
import random
import sys
import zlib
from typing import Any

try:
    import atheris
except ImportError:  # the suite needs only `check`
    from pcodec.errors import FormatError
    from pcodec.pcx.blocks import Piece, block
    from pcodec.pcx.chain import Chain
    from pcodec.pcx.layout import HEAD_BYTES, HEADER_BYTES, MAGIC, OVERHEAD, SYNC, Header
    from pcodec.pcx.parser import Parser
    from pcodec.pcx.seek import seek
else:
    with atheris.instrument_imports(include=["pcodec.pcx"]):
        from pcodec.errors import FormatError
        from pcodec.pcx.blocks import Piece, block
        from pcodec.pcx.chain import Chain
        from pcodec.pcx.layout import HEAD_BYTES, HEADER_BYTES, MAGIC, OVERHEAD, SYNC, Header
        from pcodec.pcx.parser import Parser
        from pcodec.pcx.seek import seek


def read(parser: Parser, data: bytes, size: int) -> list[Piece] | type[FormatError]:
    """The pieces of a stream that comes in chunks of a size, or why there are none."""
    pieces: list[Piece] = []
    try:
        for start in range(0, len(data), size):
            pieces += parser.feed(data[start : start + size])
        pieces += parser.close()
    except FormatError as error:
        return type(error)
    return pieces


def read_chain(data: bytes, size: int) -> Any:
    """The same of all streams that follow each other: their columns, and what links they make."""
    chain, columns = Chain(), []
    try:
        for start in range(0, len(data), size):
            columns += chain.feed(data[start : start + size])
        columns += chain.close()
    except FormatError as error:
        return type(error)
    assert chain.bytes_read == len(data), "bytes that belong to no link"
    return comparable([piece for _, pieces in columns for piece in pieces]), chain.links


def comparable(pieces: list[Piece] | type[FormatError]) -> Any:
    """The same, as something that `==` compares."""
    if not isinstance(pieces, list):
        return pieces
    return [
        (p.first_column, p.columns, None if p.indices is None else p.indices.tobytes())
        for p in pieces
    ]


def check(data: bytes) -> None:
    """Reads a stream in every way; AssertionError if a promise of the reader is broken."""
    parser = Parser()
    pieces = read(parser, data, max(1, len(data)))
    size = 1 + zlib.crc32(data) % 100
    same = comparable(read(Parser(), data, size)) == comparable(pieces)
    assert same, f"chunks of {size} bytes give something else"
    same = read_chain(data, size) == read_chain(data, max(1, len(data)))
    assert same, f"chunks of {size} bytes give another chain"
    if not isinstance(pieces, list):
        return
    header = parser.known_header
    position = 0
    for piece in pieces:
        assert piece.first_column == position and piece.columns > 0, "a piece out of time"
        if piece.indices is not None:
            assert piece.indices.shape == (piece.columns, header.rows)
            assert int(piece.indices.max()) < 1 << header.bits
        position += piece.columns
    assert position == parser.next_column
    assert position <= 1024 + 9 * (len(data) // header.column_bytes + 1), "columns out of nothing"
    assert 0 <= parser.samples <= position * header.column_samples
    assert len(json.dumps(parser.tags, allow_nan=False)) <= 6 * len(data), "tags are no JSON"
    check_seek(data, header, position)


def check_seek(data: bytes, header: Header, columns: int) -> None:
    """Enters a stream in its middle, and reads on from there."""
    for column in (0, 1, columns // 2, columns - 1, columns + 1, 1 << 31):
        stream = io.BytesIO(data)
        first = seek(stream, header, max(0, column))
        assert 0 <= first <= max(0, column), "entered behind the column"
        assert stream.tell() >= HEADER_BYTES, "entered in the header"
        parser = Parser(header, first)
        pieces = read(parser, stream.read(), 1 << 16)
        if isinstance(pieces, list) and pieces:
            assert pieces[0].first_column == first


def repaired(data: bytes) -> bytes:
    """The same with right checksums: behind them a random change shows nothing new."""
    out = bytearray(data)
    out[60:64] = zlib.crc32(out[:60]).to_bytes(4, "little")
    position = out.find(SYNC)
    while 0 <= position <= len(out) - OVERHEAD:
        end = position + HEAD_BYTES
        out[end - 2 : end] = binascii.crc_hqx(out[position : end - 2], 0).to_bytes(2, "little")
        end += int.from_bytes(out[position + 9 : position + 12], "little")
        if end + 4 <= len(out):
            out[end : end + 4] = zlib.crc32(out[position:end]).to_bytes(4, "little")
            position = end + 4
        else:
            position += len(SYNC)
        position = out.find(SYNC, position)
    return bytes(out)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Libfuzzer's damages; most of the time made to pass the checksums, or with a block more."""
    r = random.Random(seed)
    if r.random() < 0.1:
        kind = r.choice((b"A", b"A", b"I", b"Z", b"t", b"x", b"X"))
        payload = r.randbytes(r.choice((0, 1, 17, 30, 32, 60)))
        if kind == b"t":
            values = ("1e999", "NaN", "[" * 40 + "]" * 40, "true", "-7", '"\\ud800"', "9" * 40)
            payload = b'{"source_frames":%s}' % r.choice(values).encode()
        new = block(kind, payload, r.choice((0, 1, 40, 2**24, 2**32 - 1)), r.randrange(4))
        place = r.choice([0, len(data), max(0, data.find(SYNC, r.randrange(len(data) + 1)))])
        data = data[:place] + new + data[place:]
    else:
        data = atheris.Mutate(data, max_size)
    if r.random() < 0.2:
        data = MAGIC + data[len(MAGIC) :]
    return (repaired(data) if r.random() < 0.8 else data)[:max_size]


def main() -> None:
    """Fuzzes until libFuzzer has enough."""
    atheris.Setup(sys.argv, check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
