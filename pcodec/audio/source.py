"""Bytes of files and streams, with look-ahead; tags are skipped."""

from __future__ import annotations

import io
import select
from typing import BinaryIO

_PORTION = 1 << 20


class Source:
    """Bytes of a stream that need not seek, with look-ahead.

    A non-blocking stream is waited for.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ahead = bytearray()
        """Bytes that were looked at and not read."""

    def peek(self, size: int, offset: int = 0) -> bytes:
        """Looks at the next bytes after ``offset``; fewer only at the end."""
        while len(self._ahead) < offset + size:
            data = self._some(offset + size - len(self._ahead))
            if not data:
                break
            self._ahead += data
        return bytes(self._ahead[offset : offset + size])

    def read(self, size: int) -> bytes:
        """Reads the next bytes; fewer only at the end."""
        if not self._ahead:
            data = self._some(size)
            if len(data) == size or not data:
                return data
            self._ahead += data
        self.peek(size)
        data, self._ahead = bytes(self._ahead[:size]), self._ahead[size:]
        return data

    def read_some(self, size: int) -> bytes:
        """Reads the next bytes that are available, at least one; b"" at the end."""
        return self.read(min(size, len(self._ahead))) if self._ahead else self._some(size)

    def skip(self, size: int | None = None) -> int:
        """Skips bytes, or the rest; returns their number."""
        skipped = 0
        while size is None or skipped < size:
            data = self.read_some(_PORTION if size is None else min(_PORTION, size - skipped))
            if not data:
                break
            skipped += len(data)
        return skipped

    def _some(self, size: int) -> bytes:
        read = getattr(self._stream, "read1", self._stream.read)
        data: bytes | None
        while (data := read(size)) is None:
            select.select([self._stream], [], [])
        return data


class Window:
    """A part of a file as a file to read, preceded by other bytes.

    For libsndfile, which passes no exceptions on: `error` is the first one of a read.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, head: bytes = b"") -> None:
        """``head``, then the bytes of the file from ``start`` to ``end``."""
        self._file, self._start, self._end, self._head = file, start, end, head
        self._position = 0
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        length = len(self._head) + self._end - self._start
        rest = max(0, length - self._position)
        size = rest if size < 0 else min(size, rest)
        data = self._head[self._position : self._position + size]
        try:
            if len(data) < size:
                self._file.seek(self._start + self._position + len(data) - len(self._head))
                data += self._file.read(size - len(data))
        except BaseException as error:  # interrupts too
            self.error = error
            data = b""
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        length = len(self._head) + self._end - self._start
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: length}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        return self._position


def tag_before(head: bytes) -> int:
    """Size of the ID3v2 tag that begins with these bytes, at least ten; 0 if there is none."""
    if len(head) < 10 or head[:3] != b"ID3" or 0xFF in head[3:5] or max(head[6:10]) > 127:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)  # a footer


def tags_after(file: BinaryIO, start: int, end: int) -> int:
    """Size of the tags (ID3v1, APE) at the end of a part of a file."""
    taken = 0
    while True:
        here = end - taken
        file.seek(max(start, here - 128))
        tail = file.read(min(128, here - start))
        footer = tail[-32:]
        if len(tail) == 128 and tail[:3] == b"TAG":
            taken += 128
        elif footer[:8] == b"APETAGEX" and len(footer) == 32:
            header = 32 if int.from_bytes(footer[20:24], "little") & 0x80000000 else 0
            taken += int.from_bytes(footer[12:16], "little") + header
        else:
            return min(taken, end - start)
