"""The .pcx stream, version 1: docs/format.md in code. Needs neither torch nor a model.

`Writer` packs columns into blocks as they come; `Parser` takes bytes as they come and
gives columns, gaps and a list of damages. Both work on streams that cannot seek.
"""

from __future__ import annotations

import binascii
import dataclasses
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import construct as c
import numpy as np
from numpy.typing import NDArray

from pcodec.errors import ChecksumError, FormatError, TruncatedError, VersionError
from pcodec.pcx.packing import Indices, column_bytes, pack, unpack

MAGIC = b"\x89PCX\r\n\x1a\n"
SYNC = b"\xf5\xb2"
UNKNOWN = (1 << 64) - 1
LENGTH_UNKNOWN = 1
"""Header flag: the length was not known when the header was written."""

HEADER = c.Struct(
    "magic" / c.Bytes(8),
    "version" / c.Int8ul,
    "flags" / c.Int8ul,
    "header_bytes" / c.Int16ul,
    "source_rate" / c.Int32ul,
    "sample_rate" / c.Int32ul,
    "hop" / c.Int16ul,
    "mel_bands" / c.Int16ul,
    "channels" / c.Int8ul,
    "patch_bands" / c.Int8ul,
    "patch_frames" / c.Int8ul,
    "bits" / c.Int8ul,
    "samples" / c.Int64ul,
    "bitstream_id" / c.Bytes(16),
    "block_columns" / c.Int16ul,
    "reserved" / c.Int16ul,
    "serial" / c.Int32ul,
    "crc" / c.Int32ul,
)
HEAD = c.Struct(
    "sync" / c.Const(SYNC),
    "type" / c.Bytes(1),
    "flags" / c.Int8ul,
    "first_column" / c.Int32ul,
    "columns" / c.Int8ul,
    "length" / c.Int24ul,
    "crc" / c.Int16ul,
)
# A frame index is an array of runs: equal blocks one behind the other (numpy reads it).
RUN = np.dtype([("offset", "<u8"), ("first_column", "<u4"), ("blocks", "<u4"), ("columns", "u1")])
END = c.Struct(
    "columns" / c.Int64ul,
    "samples" / c.Int64ul,
    "indices_crc" / c.Int32ul,
    "index_offset" / c.Int64ul,
    "mark" / c.Const(b"PCXZ"),
)
HEADER_BYTES, HEAD_BYTES, END_BYTES = (x.sizeof() for x in (HEADER, HEAD, END))
OVERHEAD = HEAD_BYTES + 4
"""Bytes of a block beside its payload."""
MAX_HEADER, MAX_PAYLOAD, MAX_RATE = 4096, 0xFFFF, 768_000
"""What this writer never exceeds: bytes, bytes, Hz."""
MAX_INDEX = 1 << 22
"""Bytes of a frame index that a reader takes: ten years of equal blocks are one run of 17."""
MAX_NOTES = 10_000
"""How many damages, or blocks of tags, a reader keeps: an endless bad stream must not fill it."""

LOOKS_LIKE = (
    (b"RIFF", "a WAV file"),
    (b"OggS", "an Ogg file"),
    (b"fLaC", "a FLAC file"),
    (b"ID3", "an MP3 file"),
    (b"\xff\xfb", "an MP3 file"),
    (b"\x0a", "a PC Paintbrush image"),
    (b"\x89PCX", "a .pcx stream damaged by text-mode or 7-bit transfer"),
)


@dataclasses.dataclass(frozen=True)
class Header:
    """The stream's fixed facts. Rates in Hz, lengths in samples at the codec's rate."""

    source_rate: int
    bitstream_id: bytes
    sample_rate: int = 16000
    hop: int = 128
    mel_bands: int = 96
    patch_bands: int = 4
    patch_frames: int = 4
    bits: int = 10
    samples: int | None = None
    block_columns: int = 32
    serial: int = 0
    version: int = 0x10

    @property
    def rows(self) -> int:
        """Indices a column."""
        return self.mel_bands // self.patch_bands

    @property
    def column_samples(self) -> int:
        return self.hop * self.patch_frames

    @property
    def column_bytes(self) -> int:
        return column_bytes(self.rows, self.bits)

    @property
    def bit_rate(self) -> float:
        """bit/s of the bare indices."""
        return self.column_bytes * 8 * self.sample_rate / self.column_samples

    def to_bytes(self) -> bytes:
        fields = dataclasses.asdict(self)
        unknown = self.samples is None
        fields.update(
            magic=MAGIC,
            flags=LENGTH_UNKNOWN if unknown else 0,
            header_bytes=HEADER_BYTES,
            channels=1,
            samples=UNKNOWN if unknown else self.samples,
            reserved=0,
            crc=0,
        )
        body: bytes = HEADER.build(fields)[:-4]
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> tuple[Header, int]:
        """The header and its length in bytes.

        Raises FormatError (no .pcx, or nonsense), TruncatedError, ChecksumError,
        VersionError.
        """
        if not data:
            raise FormatError("the file is empty")
        if data[:8] != MAGIC[: len(data)]:
            for start, what in LOOKS_LIKE:
                if data.startswith(start):
                    raise FormatError(f"not a .pcx speech stream: this looks like {what}")
            raise FormatError("not a .pcx speech stream")
        if len(data) < HEADER_BYTES:
            raise TruncatedError(f"the header is cut off after {len(data)} bytes")
        if zlib.crc32(data[:60]) != int.from_bytes(data[60:64], "little"):
            raise ChecksumError("the header is damaged: its checksum does not match")
        raw = HEADER.parse(data)
        if raw.version >> 4 != 1:
            version = f"{raw.version >> 4}.{raw.version & 15}"
            raise VersionError(f"format version {version}; this reader knows version 1")
        if raw.flags & ~LENGTH_UNKNOWN or raw.reserved:
            raise VersionError("reserved bits of the header are set: a feature unknown here")
        if not HEADER_BYTES <= raw.header_bytes <= MAX_HEADER:
            raise FormatError(f"a header of {raw.header_bytes} bytes is not possible")
        unknown = bool(raw.flags & LENGTH_UNKNOWN)
        header = cls(
            **{f.name: raw[f.name] for f in dataclasses.fields(cls) if f.name != "samples"},
            samples=None if unknown or raw.samples == UNKNOWN else raw.samples,
        )
        sizes = [header.source_rate, header.sample_rate, header.hop, header.patch_bands]
        sizes += [header.patch_frames, header.mel_bands, header.block_columns]
        if raw.channels != 1 or not all(sizes) or header.mel_bands % header.patch_bands:
            raise FormatError("the header states an impossible geometry")
        try:
            largest = min(header.block_columns, 255) * header.column_bytes
        except ValueError as error:
            raise FormatError(f"the header states an impossible geometry: {error}") from None
        if largest > MAX_PAYLOAD:
            raise FormatError("the header states an impossible geometry: too large a block")
        if max(header.source_rate, header.sample_rate) > MAX_RATE:
            raise FormatError("the header states an impossible sample rate")
        return header, raw.header_bytes


def block(kind: bytes, payload: bytes, first_column: int = 0, columns: int = 0) -> bytes:
    """A whole block: head, payload, checksum."""
    head: bytes = HEAD.build(
        {
            "type": kind,
            "flags": 0,
            "first_column": first_column,
            "columns": columns,
            "length": len(payload),
            "crc": 0,
        }
    )[:-2]
    head += binascii.crc_hqx(head, 0).to_bytes(2, "little")
    return head + payload + zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "little")


class Writer:
    """Writes a stream: header at once, blocks as they fill, index and end by `finish`."""

    def __init__(self, out: BinaryIO, header: Header) -> None:
        self.out, self.header = out, header
        self.offset = 0
        self.columns = 0
        self.indices_crc = 0
        self.runs: list[tuple[int, int, int, int]] = []
        self.waiting = np.zeros((0, header.rows), np.uint16)
        self._write(header.to_bytes())

    def _write(self, data: bytes) -> None:
        self.out.write(data)
        self.offset += len(data)

    def write(self, columns: Indices) -> None:
        """Takes indices (columns, rows); puts out all blocks that are full."""
        self.waiting = np.concatenate([self.waiting, columns])
        size = self.header.block_columns
        full = len(self.waiting) // size * size
        for start in range(0, full, size):
            self._write_block(self.waiting[start : start + size])
        self.waiting = self.waiting[full:]
        if full:
            self.out.flush()  # whoever listens to a pipe gets each block at once

    def _write_block(self, columns: Indices) -> None:
        payload = pack(columns, self.header.bits)
        if self.runs and self.runs[-1][3] == len(columns):
            offset, first, blocks, _ = self.runs.pop()
            self.runs.append((offset, first, blocks + 1, len(columns)))
        else:
            self.runs.append((self.offset, self.columns, 1, len(columns)))
        self._write(block(b"A", payload, self.columns, len(columns)))
        self.indices_crc = zlib.crc32(payload, self.indices_crc)
        self.columns += len(columns)

    def finish(self, samples: int, tags: dict[str, Any] | None = None) -> None:
        """Ends the stream of ``samples`` samples; corrects the header if ``out`` can seek."""
        if len(self.waiting):
            self._write_block(self.waiting)
            self.waiting = self.waiting[:0]
        if tags:
            self._write(block(b"t", json.dumps(tags, separators=(",", ":")).encode()))
        index_offset = self.offset if self.runs else 0
        runs = np.array(self.runs, RUN).tobytes()
        whole = MAX_PAYLOAD // RUN.itemsize * RUN.itemsize
        for start in range(0, len(runs), whole):
            self._write(block(b"I", runs[start : start + whole]))
        end = {"columns": self.columns, "samples": samples, "indices_crc": self.indices_crc}
        self._write(block(b"Z", END.build({**end, "index_offset": index_offset})))
        if self.header.samples is None and self.out.seekable():
            self.out.seek(-self.offset, io.SEEK_CUR)
            self.out.write(dataclasses.replace(self.header, samples=samples).to_bytes())
            self.out.seek(0, io.SEEK_END)
        self.out.flush()


@dataclasses.dataclass(frozen=True)
class Piece:
    """Columns in order of time; ``indices`` is None where they are lost."""

    first_column: int
    columns: int
    indices: Indices | None


@dataclasses.dataclass(frozen=True)
class Damage:
    """Something wrong with a stream. Columns are 0 if no audio is lost."""

    first_column: int
    columns: int
    reason: str


class Parser:
    """Reads a stream from bytes as they come; never trusts what no checksum covers.

    `feed` gives the pieces that are complete; after `close` there is nothing more.
    `header` is there as soon as it has been read, `tags` and `end` likewise.
    """

    # A gap is believed up to this many columns, and this many more for each that was read:
    # a hole in a file keeps its length, but a kilobyte cannot ask for an hour.
    GAP, GAP_FACTOR = 1024, 8

    def __init__(self, header: Header | None = None, column: int = 0) -> None:
        """From the start of a stream, or behind its header at the block of a column."""
        self.header = header
        self.tags: dict[str, Any] = {}
        self.end: dict[str, int] | None = None
        self.damages: list[Damage] = []
        self.next_column = column
        self.blocks = 0
        self.bytes_read = 0
        self._buffer = bytearray()
        self._searching: str | None = None
        self._indices_crc = 0
        self._trailing = False
        self._whole = header is None
        self._offset = 0
        """of the buffer in the stream"""
        self._block_offset = self._index_offset = 0
        self._wasted = 0
        """bytes checked in vain"""
        self.lost_columns = 0

    @property
    def samples(self) -> int:
        """Length of the audio, at the codec's rate: as stated, if the columns can hold it."""
        assert self.header is not None
        held = self.next_column * self.header.column_samples
        if self.end is not None:
            return min(self.end["samples"], held)
        return held if self.header.samples is None else min(self.header.samples, held)

    def feed(self, data: bytes) -> list[Piece]:
        """Takes the next bytes. Raises FormatError and its kin on a header it can't read."""
        self._buffer += data
        self.bytes_read += len(data)
        if self.header is None:
            # A wrong magic is refused as soon as it is there, a short header only at the end.
            if self._buffer[:8] == MAGIC[: len(self._buffer)] or len(self._buffer) < len(MAGIC):
                wanted = HEADER_BYTES
                if len(self._buffer) >= HEADER_BYTES and self._header_valid():
                    wanted = min(MAX_HEADER, int.from_bytes(self._buffer[10:12], "little"))
                if len(self._buffer) < wanted:
                    return []
            self._take_header()
        return list(self._blocks(final=False))

    def close(self) -> list[Piece]:
        """Says that no bytes follow; gives the last pieces."""
        if self.header is None:
            self._take_header()
        pieces = list(self._blocks(final=True))
        if self.end is not None and self.end["columns"] > self.next_column:
            pieces += self._gap(self.end["columns"])
        if self._searching is not None:
            self._note(0, self._searching)
        if self._trailing:
            self._note(0, "bytes after the end of the stream")
        if self.end is None:
            samples, column = self.header_.samples or 0, self.header_.column_samples
            missing = max(0, -(-samples // column) - self.next_column)
            self._note(missing, "the end of the stream is missing")
        elif self.end["columns"] < self.next_column:
            self._note(0, "the stream holds more columns than its end states")
        elif self.end["samples"] > self.next_column * self.header_.column_samples:
            self._note(0, "the stream states more samples than its columns hold")
        elif self.header_.samples not in (None, self.end["samples"]):
            self._note(0, "header and end state different lengths")
        elif self._whole and not self.damages:
            if self.end["indices_crc"] != self._indices_crc:
                self._note(0, "the checksum over all indices does not match")
            elif self.end["index_offset"] != self._index_offset:
                self._note(0, "a block that held no columns is missing, or was put in")
        return pieces

    @property
    def header_(self) -> Header:
        assert self.header is not None
        return self.header

    def _header_valid(self) -> bool:
        crc = int.from_bytes(self._buffer[60:64], "little")
        return zlib.crc32(self._buffer[:60]) == crc

    def _take_header(self) -> None:
        self.header, length = Header.from_bytes(bytes(self._buffer))
        del self._buffer[:length]
        self._offset += length

    def _note(self, columns: int, reason: str) -> None:
        self.lost_columns += columns
        if len(self.damages) < MAX_NOTES:
            self.damages.append(Damage(self.next_column, columns, reason))

    def _gap(self, until: int) -> list[Piece]:
        """Lost columns up to ``until``, if that can be believed."""
        missing = until - self.next_column
        read = self._block_offset // self.header_.column_bytes
        if self.lost_columns + missing > self.GAP + self.GAP_FACTOR * read:
            self._note(0, f"a jump to column {until} is not believed")
            return []
        self._note(missing, self._searching or "blocks are missing")
        self._searching = None
        piece = Piece(self.next_column, missing, None)
        self.next_column = until
        return [piece]

    def _blocks(self, final: bool) -> Iterator[Piece]:
        """Takes every whole block from the buffer."""
        buffer = self._buffer
        position = 0
        while self.end is None:
            found = buffer.find(SYNC, position)
            # A sync's first byte may be the last one here.
            rest = buffer[position:] if found < 0 else buffer[position:found]
            if self._searching is None and rest and (final or found >= 0 or rest != SYNC[:1]):
                self._searching = "unknown bytes between blocks"
            if found < 0:
                position = max(position, len(buffer) - (0 if final else 1))
                break
            position = found
            raw = bytes(buffer[position : position + HEAD_BYTES])
            if len(raw) < HEAD_BYTES:
                if not final:
                    break
                position = self._lost(position, "the last block is cut off")
                continue
            valid = binascii.crc_hqx(raw[:12], 0) == int.from_bytes(raw[12:], "little")
            if not valid or not self._plausible(head := HEAD.parse(raw)):
                position = self._lost(position, "a block's head is damaged")
                continue
            size = OVERHEAD + head.length
            if len(buffer) < position + size:
                if not final:
                    break
                position = self._lost(position, "the last block is cut off")
                continue
            content = bytes(buffer[position : position + size])
            mark = head.type != b"Z" or content[-8:-4] == b"PCXZ"
            if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little") or not mark:
                self._wasted += size
                position = self._lost(position, "a block's checksum does not match")
                continue
            self._block_offset = self._offset + position
            position += size
            yield from self._take_block(head, content[HEAD_BYTES:-4])
        if self.end is not None:
            self._trailing = self._trailing or len(buffer) > position
            position = len(buffer)
        del buffer[:position]
        self._offset += position

    def _lost(self, position: int, reason: str) -> int:
        """Goes on searching after a sync that led to no block."""
        if self._searching is None:
            self._searching = reason
        return position + len(SYNC)

    def _plausible(self, head: Any) -> bool:
        """A valid head of a length that its type can have."""
        # Hostile heads must not make the reader check the same bytes again and again.
        if self._wasted > 16 * self.bytes_read + (1 << 20):
            return False
        if head.type == b"A":
            return bool(head.columns and head.length == head.columns * self.header_.column_bytes)
        if head.type == b"Z":
            return bool(head.length == END_BYTES)
        return True

    def _take_block(self, head: Any, payload: bytes) -> Iterator[Piece]:
        if head.flags:
            raise VersionError(f"block flags {head.flags:#x}: a feature unknown here")
        if head.type == b"A":
            yield from self._take_columns(head.first_column, head.columns, payload)
        elif head.type == b"Z":
            self.end = dict(END.parse(payload))
        elif head.type == b"I":
            self._index_offset = self._index_offset or self._block_offset
        elif head.type == b"t":
            self._take_tags(payload)
        elif not head.type.islower():
            raise VersionError(f"block type {head.type!r}: a feature unknown here")

    def _take_tags(self, payload: bytes) -> None:
        try:
            tags = json.loads(payload) if len(payload) <= MAX_PAYLOAD else None
        except (ValueError, RecursionError):
            tags = None
        if isinstance(tags, dict) and len(self.tags) < 1000:
            self.tags.update(tags)
        else:
            self._note(0, "unreadable tags")

    def _take_columns(self, first: int, columns: int, payload: bytes) -> Iterator[Piece]:
        if first > self.next_column:
            gap = self._gap(first)
            if not gap:
                return
            yield from gap
        elif self._searching is not None:
            self._note(0, self._searching)
            self._searching = None
        self.blocks += 1
        skip = self.next_column - first
        if skip:
            self._note(0, f"columns {first} to {first + columns} come again or out of order")
            if skip >= columns:
                return
        self._indices_crc = zlib.crc32(payload, self._indices_crc)
        indices = unpack(payload, self.header_.rows, self.header_.bits)[skip:]
        yield Piece(self.next_column, len(indices), indices)
        self.next_column += len(indices)


def grid(pieces: Iterable[Piece], rows: int) -> NDArray[np.int64]:
    """Pieces in order -> indices (columns, rows), -1 where they are lost."""
    parts = [
        np.full((p.columns, rows), -1) if p.indices is None else p.indices.astype(np.int64)
        for p in pieces
    ]
    return np.concatenate([np.zeros((0, rows), np.int64), *parts])


def seek(stream: BinaryIO, header: Header, column: int) -> int:
    """Puts a stream at the last block that starts at or before a column.

    Returns that block's first column. Needs the end and the index; without them, or where
    they lead to no block, the stream stands behind its header and the result is 0.
    """
    for offset, first in _indexed(stream, header, column):
        if offset >= stream.seek(0, io.SEEK_END):
            break
        stream.seek(offset)
        raw = stream.read(HEAD_BYTES)
        valid = raw[:3] == SYNC + b"A" and len(raw) == HEAD_BYTES
        valid = valid and binascii.crc_hqx(raw[:12], 0) == int.from_bytes(raw[12:], "little")
        if valid and HEAD.parse(raw).first_column == first:
            stream.seek(offset)
            return first
    stream.seek(10)
    stream.seek(int.from_bytes(stream.read(2), "little"))
    return 0


def _indexed(stream: BinaryIO, header: Header, column: int) -> Iterator[tuple[int, int]]:
    """(offset, first column) of the block that the index names for a column, if any."""
    size = stream.seek(0, io.SEEK_END)
    tail = max(0, size - END_BYTES - OVERHEAD)
    stream.seek(tail)
    parser = Parser(header)
    parser.feed(stream.read())
    if parser.end is None or not tail - MAX_INDEX <= parser.end["index_offset"] < tail:
        return
    stream.seek(parser.end["index_offset"])
    runs = b""
    while stream.tell() < tail:
        raw = stream.read(HEAD_BYTES)
        if raw[:3] != SYNC + b"I" or len(raw) < HEAD_BYTES:
            return
        content = raw + stream.read(HEAD.parse(raw).length + 4)
        if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
            return
        runs += content[HEAD_BYTES:-4]
    if len(runs) % RUN.itemsize:
        return
    for run in np.frombuffer(runs, RUN)[::-1].tolist():
        offset, first, blocks, columns = run
        if first <= column and blocks and columns:
            k = min((column - first) // max(1, columns), blocks - 1)
            yield offset + k * (OVERHEAD + columns * header.column_bytes), first + k * columns
            return
