"""Streams one after the other, as `cat a.pcx b.pcx` makes them: the links of a chain."""

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
    """Something wrong with a chain, in seconds from its start."""

    start: float
    end: float
    """the start if no audio is lost"""
    reason: str


class Link(NamedTuple):
    """A stream of a chain that was read to its end."""

    header: Header
    start: float
    """seconds from the start of the chain"""
    samples: int
    """at the codec's rate"""
    columns: int
    source_frames: int | None
    """as the tags state it: samples at the source's rate"""

    @property
    def seconds(self) -> float:
        return self.samples / self.header.sample_rate


class Chain:
    """Reads one stream or more from bytes as they come: `feed`, then `close`.

    Each gives (parser, pieces) in order, where a new parser is a new link. A link that cannot be
    read raises FormatError and its kin, with its place.
    """

    def __init__(
        self,
        parser: Parser | None = None,
        number: int = 1,
        start: float = 0.0,
        entropy: Callable[[Header], EntropyCoder] | None = None,
    ) -> None:
        """From the first link, or from the middle of a later one, which starts at a second.

        entropy: as of `Parser`.
        """
        self.parser = parser or Parser(entropy=entropy)
        self._entropy = entropy
        self.number = number
        """of the link that is being read, from 1"""
        self.start = start
        """seconds, where it starts"""
        self.links: list[Link] = []
        """those that were read; a chain of very many keeps the first ones"""
        self.samples = self.columns = self.blocks = self.bytes_read = self.lost_columns = 0
        """of the links that were read"""
        self.tags: dict[str, Any] = {}
        """of the first link, once it was read"""
        self._faults: list[Fault] = []
        self._ended = False
        """whether the parser's link was read to its end"""

    @property
    def header(self) -> Header | None:
        """The first link's, once it is there."""
        return self.links[0].header if self.links else self.parser.header

    @property
    def header_(self) -> Header:
        assert self.header is not None
        return self.header

    @property
    def faults(self) -> list[Fault]:
        """What was wrong so far."""
        return self._faults + self._faults_here()

    def feed(self, data: bytes) -> list[tuple[Parser, list[Piece]]]:
        """Takes the next bytes."""
        return self._read(data, final=False)

    def close(self) -> list[tuple[Parser, list[Piece]]]:
        """Says that no bytes follow."""
        return self._read(b"", final=True)

    def read(self, stream: BinaryIO) -> Iterator[tuple[Parser, list[Piece]]]:
        """Takes all that a stream has, as it comes."""
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
        """An error of the link that is being read, with its place if it is not the first."""
        if self.number == 1:
            return error
        return type(error)(f"stream {self.number}, from {self.start:.2f} s: {error}")

    def _end_link(self) -> None:
        """Adds up what was read."""
        parser, header = self.parser, self.parser.header_
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
        """Those of the link that is being read."""
        if self._ended or not self.parser.damages:
            return []
        header, faults = self.parser.header_, []
        column = header.column_samples / header.sample_rate
        for damage in self.parser.damages:
            start = self.start + damage.first_column * column
            faults.append(Fault(start, start + damage.columns * column, damage.reason))
        return faults


class Rest(io.RawIOBase):
    """A file from an offset on, as a file of its own."""

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
    """What a stream has now, up to 64 KiB; b"" at its end."""
    read: Any = getattr(stream, "read1", stream.read)
    data: bytes = read(1 << 16)
    return data
