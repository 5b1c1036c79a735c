"""`Parser` reads bytes as they arrive, and returns columns, gaps and a list of damages."""

from __future__ import annotations

import binascii
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from pcodec.errors import VersionError
from pcodec.pcx.blocks import Coded, Damage, EntropyCoder, Piece
from pcodec.pcx.layout import (
    END,
    END_BYTES,
    END_MARK,
    HEAD,
    HEAD_BYTES,
    HEADER_BYTES,
    MAGIC,
    MAX_HEADER,
    MAX_PAYLOAD,
    OVERHEAD,
    SYNC,
    Header,
)
from pcodec.pcx.packing import Indices, unpack

MAX_NOTES = 10_000
"""Damages that a reader keeps; a limit, so that an endless bad stream cannot fill the memory."""
MAX_TAGS = 1 << 17
"""Bytes of tags that a reader keeps: two blocks' worth, since blocks may replace tags for ever."""


class Parser:
    """Reads a stream from bytes as they arrive; trusts nothing that no checksum covers.

    `feed` returns the pieces that are complete, `close` the last ones. `header`, `tags` and `end`
    are set as soon as they have been read. If another stream follows, this one ends there, and
    `rest` holds the bytes of the other one (see `Chain`).
    """

    # All gaps together may have GAP columns, and GAP_FACTOR more per column read. So a hole in a
    # file keeps its length, but a file of a kilobyte cannot make the decoder fill in an hour.
    GAP, GAP_FACTOR = 1024, 8

    def __init__(
        self,
        header: Header | None = None,
        column: int = 0,
        entropy: Callable[[Header], EntropyCoder] | None = None,
    ) -> None:
        """Starts at the header of a stream, or after it at the block of a column.

        header, column: of a start in the middle. entropy: returns the decoder for blocks of type
        C; called at the first one. Without it, their checksums are checked and their pieces stay
        coded.
        """
        self.header = header
        self._entropy = entropy
        self._coder: EntropyCoder | None = None
        self.tags: dict[str, Any] = {}
        self._tag_bytes = 0
        self.end: dict[str, int] | None = None
        self.damages: list[Damage] = []
        self.next_column = column
        self.blocks = 0
        self.bytes_read = 0
        self._buffer = bytearray()
        self._searching: str | None = None
        self._indices_crc = 0
        self._trailing = ""
        self._whole = header is None
        self._offset = 0
        """Offset of the buffer in the stream, bytes."""
        self._block_offset = self._index_offset = 0
        self._wasted = 0
        """Bytes whose checksum was computed and did not match."""
        self.lost_columns = 0
        self.rest: bytes | None = None
        """Bytes of another stream that follows, from its header on."""

    @property
    def samples(self) -> int:
        """Length of the audio, at the codec's rate: as stated, if the columns can hold it."""
        assert self.header is not None
        held = self.next_column * self.header.column_samples
        if self.end is not None:
            return min(self.end["samples"], held)
        return held if self.header.samples is None else min(self.header.samples, held)

    def feed(self, data: bytes) -> list[Piece]:
        """Reads the next bytes; FormatError or a subclass if the header cannot be read."""
        if self.rest is not None:
            return []
        self._buffer += data
        self.bytes_read += len(data)
        if self.header is None:
            # A wrong magic is an error at once, a short header only at the end of the stream.
            if self._buffer[:8] == MAGIC[: len(self._buffer)] or len(self._buffer) < len(MAGIC):
                wanted = HEADER_BYTES
                if len(self._buffer) >= HEADER_BYTES and self._header_valid():
                    wanted = min(MAX_HEADER, int.from_bytes(self._buffer[10:12], "little"))
                if len(self._buffer) < wanted:
                    return []
            self._take_header()
        return self._decoded(list(self._blocks(final=False)))

    def close(self) -> list[Piece]:
        """Ends the stream: no more bytes follow. Returns the last pieces."""
        if self.header is None:
            self._take_header()
        pieces = self._decoded(list(self._blocks(final=True)))
        if self.end is not None and self.end["columns"] > self.next_column:
            pieces += self._gap(self.end["columns"])
        if self._searching is not None:
            self._note(0, self._searching)
        if self._trailing:
            self._note(0, self._trailing)
        if self.end is None:
            samples, column = self.known_header.samples or 0, self.known_header.column_samples
            missing = max(0, -(-samples // column) - self.next_column)
            self._note(missing, "the end of the stream is missing")
        elif self.end["columns"] < self.next_column:
            self._note(0, "the stream holds more columns than its end states")
        elif self.end["samples"] > self.next_column * self.known_header.column_samples:
            self._note(0, "the stream states more samples than its columns hold")
        elif self.known_header.samples not in (None, self.end["samples"]):
            self._note(0, "header and end state different lengths")
        elif self._whole and not self.damages:
            if self.end["indices_crc"] != self._indices_crc:
                self._note(0, "the checksum over all indices does not match")
            elif self.end["index_offset"] != self._index_offset:
                self._note(0, "a block that held no columns is missing, or was put in")
        return pieces

    @property
    def known_header(self) -> Header:
        assert self.header is not None
        return self.header

    def _decoded(self, pieces: list[Piece]) -> list[Piece]:
        """Decodes the coded ones among the pieces, as one batch."""
        coded = [piece.coded for piece in pieces if piece.coded is not None]
        if not coded or self._entropy is None:
            return pieces
        if self._coder is None:
            self._coder = self._entropy(self.known_header)
        decoded = iter(self._coder.decompress([(c.payload, c.columns) for c in coded]))
        return [self._with_indices(p, next(decoded)) if p.coded else p for p in pieces]

    def _with_indices(self, piece: Piece, indices: Indices | None) -> Piece:
        assert piece.coded is not None
        if indices is None:
            self._note(piece.columns, "a block does not hold its indices", piece.first_column)
            return Piece(piece.first_column, piece.columns, None)
        return Piece(piece.first_column, piece.columns, indices[piece.coded.skip :])

    def _header_valid(self, at: int = 0) -> bool:
        crc = int.from_bytes(self._buffer[at + 60 : at + 64], "little")
        return zlib.crc32(self._buffer[at : at + 60]) == crc

    def _take_header(self) -> None:
        self.header, length = Header.from_bytes(bytes(self._buffer))
        del self._buffer[:length]
        self._offset += length

    def _note(self, columns: int, reason: str, first: int | None = None) -> None:
        self.lost_columns += columns
        if len(self.damages) < MAX_NOTES:
            first = self.next_column if first is None else first
            self.damages.append(Damage(first, columns, reason))

    def _gap(self, until: int) -> list[Piece]:
        """A piece of lost columns up to ``until``; nothing if the gap is too long to be true."""
        missing = until - self.next_column
        read = self._block_offset // self.known_header.column_bytes
        if self.lost_columns + missing > self.GAP + self.GAP_FACTOR * read:
            self._note(0, f"a jump to column {until} is not believed")
            return []
        self._note(missing, self._searching or "blocks are missing")
        self._searching = None
        piece = Piece(self.next_column, missing, None)
        self.next_column = until
        return [piece]

    def _blocks(self, final: bool) -> Iterator[Piece]:
        """Reads every complete block in the buffer."""
        buffer = self._buffer
        position = 0
        while self.end is None:
            found = buffer.find(SYNC, position)
            limit = len(buffer) if found < 0 else found
            following = self._next_stream(position, limit, final)
            rest = buffer[position : limit if following is None else following]
            # The rest may be the beginning of a sync or a header that is not complete yet.
            begun = found < 0 and following is None and (rest == SYNC[:1] or MAGIC.startswith(rest))
            if self._searching is None and rest and (final or not begun):
                self._searching = "unknown bytes between blocks"
            if following is not None:
                position = self._leave(following)
                break
            if found < 0:
                position = max(position, len(buffer) - (0 if final else len(MAGIC) - 1))
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
            mark = head.type != b"Z" or content[-8:-4] == END_MARK
            if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little") or not mark:
                self._wasted += size
                position = self._lost(position, "a block's checksum does not match")
                continue
            self._block_offset = self._offset + position
            position += size
            yield from self._take_block(head, content[HEAD_BYTES:-4])
        if self.end is not None and self.rest is None:
            position = self._take_trailing(position, final)
        del buffer[:position]
        self._offset += position

    def _next_stream(self, start: int, stop: int, final: bool) -> int | None:
        """Position of another stream's header in a part of the buffer, even if it is incomplete."""
        at = self._buffer.find(MAGIC, start, stop)
        while at >= 0:
            whole = len(self._buffer) - at >= HEADER_BYTES
            if self._header_valid(at) if whole else not final:
                return at
            at = self._buffer.find(MAGIC, at + 1, stop)
        return None

    def _leave(self, following: int) -> int:
        """Ends this stream at another one's header, once that is complete."""
        if len(self._buffer) - following < HEADER_BYTES:
            return following
        self.rest = bytes(self._buffer[following:])
        self.bytes_read -= len(self.rest)
        return len(self._buffer)

    def _take_trailing(self, position: int, final: bool) -> int:
        """Looks for another stream after the end; returns the position where it stopped."""
        buffer = self._buffer
        following = self._next_stream(position, len(buffer), final)
        rest = buffer[position:following]
        begun = following is None and MAGIC.startswith(rest)
        if rest and not self._trailing and (final or not begun):
            self._trailing = "bytes after the end of the stream"
            if rest.startswith(MAGIC):
                self._trailing = "another stream follows, but its header is damaged"
        if following is not None:
            return self._leave(following)
        return max(position, len(buffer) - (0 if final else len(MAGIC) - 1))

    def _lost(self, position: int, reason: str) -> int:
        """Continues the search after a sync that is not the start of a valid block."""
        if self._searching is None:
            self._searching = reason
        return position + len(SYNC)

    def _plausible(self, head: Any) -> bool:
        """Whether a head states a length that its type can have."""
        # A limit on work: hostile heads could make it check the same bytes again and again.
        if self._wasted > 16 * self.bytes_read + (1 << 20):
            return False
        if head.type == b"A":
            return bool(
                head.columns and head.length == head.columns * self.known_header.column_bytes
            )
        if head.type == b"C" and self.known_header.entropy_id is not None:
            return bool(0 < head.length < head.columns * self.known_header.column_bytes)
        if head.type == b"Z":
            return bool(head.length == END_BYTES)
        return True

    def _take_block(self, head: Any, payload: bytes) -> Iterator[Piece]:
        if head.flags:
            raise VersionError(f"block flags {head.flags:#x}: a feature unknown here")
        if head.type == b"A" or (head.type == b"C" and self.known_header.entropy_id is not None):
            yield from self._take_columns(head, payload)
        elif head.type == b"Z":
            self.end = dict(END.parse(payload))
        elif head.type == b"I":
            self._index_offset = self._index_offset or self._block_offset
        elif head.type == b"t":
            self._take_tags(payload)
        elif not head.type.islower():
            raise VersionError(f"block type {head.type!r}: a feature unknown here")

    def _take_tags(self, payload: bytes) -> None:
        full = self._tag_bytes > MAX_TAGS
        self._tag_bytes += len(payload)
        if self._tag_bytes > MAX_TAGS and not full:
            # Many tags may have been replaced. Counting the rest is slow, so it is done rarely.
            kept = len(json.dumps(self.tags))
            self._tag_bytes = len(payload) + (kept if kept <= MAX_TAGS // 2 else MAX_TAGS)
        try:
            if self._tag_bytes > MAX_TAGS or len(payload) > MAX_PAYLOAD:
                raise ValueError("too many tags")
            tags = json.loads(payload)
            json.dumps(tags, allow_nan=False)  # Python reads NaN, which JSON does not have
        except (ValueError, RecursionError):
            tags = None
        if isinstance(tags, dict):
            self.tags.update(tags)
        else:
            self._note(0, "unreadable tags")

    def _take_columns(self, head: Any, payload: bytes) -> Iterator[Piece]:
        first, columns = head.first_column, head.columns
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
        if head.type == b"C":
            piece = Piece(self.next_column, columns - skip, None, Coded(payload, columns, skip))
        else:
            indices = unpack(payload, self.known_header.rows, self.known_header.bits)[skip:]
            piece = Piece(self.next_column, columns - skip, indices)
        yield piece
        self.next_column += columns - skip
