"""Concatenated streams, as `cat a.pcx b.pcx` makes them. Each stream is a link of the chain."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, TypeVar

from pcodec.errors import FormatError, PcodecError
from pcodec.pcx.blocks import EntropyCoder, Piece
from pcodec.pcx.layout import Header
from pcodec.pcx.parser import MAX_NOTES, Parser

_E = TypeVar("_E", bound=PcodecError)


class Fault(NamedTuple):
    """A fault of a chain; times in seconds from the start of the chain."""

    start: float
    end: float
    """Equals ``start`` if no audio is lost."""
    reason: str


class Link(NamedTuple):
    """A stream of a chain, after it was read to its end."""

    header: Header
    start: float
    """Seconds from the start of the chain."""
    samples: int
    """Samples at the codec's rate."""
    columns: int
    source_frames: int | None
    """Samples at the source's rate, as the tags state them."""

    @property
    def seconds(self) -> float:
        return self.samples / self.header.sample_rate


class Chain:
    """Reads one or more streams from bytes as they arrive: `feed`, then `close`.

    Both return (parser, pieces) in order; each link has a parser of its own. A link that cannot
    be read raises FormatError or a subclass, with the number and time of the link.
    """

    def __init__(
        self,
        parser: Parser | None = None,
        number: int = 1,
        start: float = 0.0,
        entropy: Callable[[Header], EntropyCoder] | None = None,
    ) -> None:
        """Starts at the first link, or in the middle of another one.

        parser: of the link to start in. number: of that link, from 1. start: where that link
        begins, in seconds. entropy: see `Parser`.
        """
        self.parser = parser or Parser(entropy=entropy)
        self._entropy = entropy
        self.number = number
        """Number of the current link, from 1."""
        self.start = start
        """Where the current link begins, seconds."""
        self.links: list[Link] = []
        """The links read so far, at most `MAX_NOTES`."""
        self.samples = self.columns = self.blocks = self.bytes_read = self.lost_columns = 0
        """Totals over the links read so far."""
        self.tags: dict[str, Any] = {}
        """Tags of the first link, after its end."""
        self._faults: list[Fault] = []
        self._ended = False
        """Whether the current link was read to its end."""

    @property
    def header(self) -> Header | None:
        """Header of the first link, once it has been read."""
        return self.links[0].header if self.links else self.parser.header

    @property
    def known_header(self) -> Header:
        assert self.header is not None
        return self.header

    @property
    def faults(self) -> list[Fault]:
        """All faults found so far."""
        return self._faults + self._faults_here()

    def feed(self, data: bytes) -> list[tuple[Parser, list[Piece]]]:
        """Reads the next bytes."""
        return self._read(data, final=False)

    def close(self) -> list[tuple[Parser, list[Piece]]]:
        """Ends the chain: no more bytes follow."""
        return self._read(b"", final=True)

    def read(self, stream: BinaryIO) -> Iterator[tuple[Parser, list[Piece]]]:
        """Reads a file or pipe to its end, as its bytes arrive."""
        while data := _read_some(stream):
            yield from self.feed(data)
        yield from self.close()

    def _read(self, data: bytes, final: bool) -> list[tuple[Parser, list[Piece]]]:
        found = []
        while True:
            parser = self.parser
            try:
                pieces = parser.feed(data)
                if final or parser.rest is not None:
                    pieces += parser.close()
            except FormatError as error:
                raise self.named(error) from error
            found.append((parser, pieces))
            if final or parser.rest is not None:
                self._end_link()
            if parser.rest is None:
                return found
            data = parser.rest
            self.parser, self.number, self._ended = (
                Parser(entropy=self._entropy),
                self.number + 1,
                False,
            )

    def named(self, error: _E) -> _E:
        """The error with number and time of the current link, unless that is the first one."""
        if self.number == 1:
            return error
        return type(error)(f"stream {self.number}, from {self.start:.2f} s: {error}")

    def _end_link(self) -> None:
        """Adds the current link to the totals."""
        parser, header = self.parser, self.parser.known_header
        frames = parser.tags.get("source_frames")
        link = Link(
            header,
            self.start,
            parser.samples,
            parser.next_column,
            frames if isinstance(frames, int) else None,
        )
        if not self.links:
            self.tags = parser.tags
        if len(self.links) < MAX_NOTES:
            self.links.append(link)
        self._faults += self._faults_here()[: MAX_NOTES - len(self._faults)]
        self.samples += link.samples
        self.columns += link.columns
        self.blocks += parser.blocks
        self.bytes_read += parser.bytes_read
        self.lost_columns += parser.lost_columns
        self.start += link.seconds
        self._ended = True

    def _faults_here(self) -> list[Fault]:
        """Faults of the current link."""
        if self._ended or not self.parser.damages:
            return []
        header, faults = self.parser.known_header, []
        column = header.column_samples / header.sample_rate
        for damage in self.parser.damages:
            start = self.start + damage.first_column * column
            faults.append(Fault(start, start + damage.columns * column, damage.reason))
        return faults


class Rest(io.RawIOBase):
    """A file whose position 0 is at an offset of another file."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file, self._offset = file, offset

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = self._offset if whence == io.SEEK_SET else 0
        return self._file.seek(place + offset, whence) - self._offset

    def tell(self) -> int:
        return self._file.tell() - self._offset


def _read_some(stream: BinaryIO) -> bytes:
    """The bytes that are available now, up to 64 KiB; b"" at the end."""
    read: Any = getattr(stream, "read1", stream.read)
    data: bytes = read(1 << 16)
    return data
