"""Splits FLAC, MP3 and Ogg files that are several concatenated streams.

libsndfile reads only the first stream, and of an MP3 only as much as its guess at the length. So
each stream is given to it as a file of its own, with a header that makes it read everything.
"""

from __future__ import annotations

import functools
import mmap
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pcodec.audio.source import Source, Window, tag_before, tags_after


class Link(NamedTuple):
    """One stream of a file."""

    data: Window
    """For libsndfile to read."""
    frames: int | None = None
    """Frames that the header states, if that number is hidden from libsndfile."""
    missing: int = 0
    """Frames that the header states but the file lacks."""


def find_links(file: BinaryIO) -> list[Link] | None:
    """The streams of a seekable file with a descriptor; None if it is of another type."""
    end = file.seek(0, 2)
    start = 0
    while size := _tag_size(file, start):
        start += size
    file.seek(start)
    mark = file.read(4)
    if mark == b"OggS":
        return _ogg_links(file, start, end)
    end -= tags_after(file, start, end)
    if mark != b"fLaC" and mark[:1] != b"\xff":
        return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return (_flac_links if mark == b"fLaC" else _mp3_links)(file, data, start, end)


def _tag_size(file: BinaryIO, start: int) -> int:
    file.seek(start)
    return tag_before(file.read(10))


# FLAC ---------------------------------------------------------------------------------------------

_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.DOTALL)
_STREAMINFO_END = 42


def _flac_links(file: BinaryIO, data: mmap.mmap, start: int, end: int) -> list[Link]:
    """A stream starts at each STREAMINFO. Its length becomes 0, or libsndfile would stop there."""
    starts = [match.start() for match in _FLAC_START.finditer(data, start, end)] or [start]
    links = []
    for here, after in zip(starts, [*starts[1:], end], strict=True):
        head = bytearray(data[here : min(after, here + _STREAMINFO_END)])
        frames = int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF
        if len(head) == _STREAMINFO_END:
            head[21] &= 0xF0
            head[22:26] = bytes(4)
        window = Window(file, here + len(head), after, bytes(head))
        links.append(Link(window, frames or None))
    return links


# MP3 ----------------------------------------------------------------------------------------------

_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_BIT_RATES = {
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (2, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
}
"""kbit/s by version (3 for MPEG-1, 2 for all others), layer (1 for III) and index."""
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Hz by version and index."""


class _Mp3Frame(NamedTuple):
    size: int
    """Bytes."""
    frames: int
    """Frames of samples."""
    kind: tuple[int, int, int, bool]
    """Version, layer, rate in Hz, whether mono: what does not change within a stream."""


@functools.cache
def _mp3_frame(head: bytes) -> _Mp3Frame | None:
    """The frame that four bytes are the head of; None if they are not one."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bits, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 0 or bits in (0, 15) or rate_index == 3:
        return None
    table = 3 if version == 3 else 2
    bit_rate = 1000 * (_BIT_RATES.get((table, layer)) or _BIT_RATES[table, 1])[bits]
    rate = _RATES[version][rate_index]
    kind = version, layer, rate, head[3] >> 6 == 3
    if layer == 3:
        return _Mp3Frame((12 * bit_rate // rate + padding) * 4, 384, kind)
    frames = 576 if layer == 1 and version != 3 else 1152
    return _Mp3Frame(frames // 8 * bit_rate // rate + padding, frames, kind)


def _mp3_frames(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, _Mp3Frame]]:
    """The complete frames and their positions; skips bytes that are not frames."""
    position, in_sync = start, False
    while position < end:
        frame = _mp3_frame(data[position : position + 4])
        after = position + frame.size if frame else 0
        if frame and after <= end and not in_sync:
            following = _mp3_frame(data[after : after + 4])
            in_sync = after == end or (following is not None and following.kind == frame.kind)
        if frame and after <= end and in_sync:
            yield position, frame
            position = after
        elif size := tag_before(data[position : position + 10]):
            position += size
        else:
            in_sync = False
            match = _SYNC.search(data, position + 1, end)
            position = match.start() if match else end


def _xing_place(frame: _Mp3Frame) -> int:
    """Offset in a frame of the mark "Xing" or "Info", if it has one, bytes."""
    version, _, _, mono = frame.kind
    return 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))


def _mp3_links(file: BinaryIO, data: mmap.mmap, start: int, end: int) -> list[Link] | None:
    """A stream starts at a Xing or Info frame, after bytes that are no frame, or at a new kind.

    libsndfile trusts the number of frames in a Xing or Info frame, and guesses it without one. So
    each stream gets an Info frame with the true number.
    """

    class Run:
        """Consecutive frames of one stream."""

        def __init__(self, begin: int, kind: object) -> None:
            self.begin = self.audio = self.end = begin
            self.kind, self.count, self.samples = kind, 0, 0
            self.stated: int | None = None

        def link(self) -> Link:
            if self.stated == self.count:
                return Link(Window(file, self.begin, self.end))
            head = _info_frame(data[self.audio : self.audio + 4], self.count)
            missing = max(0, (self.stated or 0) - self.count) * self.samples
            return Link(Window(file, self.audio, self.end, head), None, missing)

    runs: list[Run] = []
    for position, frame in _mp3_frames(data, start, end):
        place = position + _xing_place(frame)
        mark = data[place : place + 4]
        is_info = mark in (b"Xing", b"Info") or data[position + 36 : position + 40] == b"VBRI"
        if is_info or not runs or runs[-1].end != position or runs[-1].kind != frame.kind:
            runs.append(Run(position, frame.kind))
        run = runs[-1]
        run.end = position + frame.size
        if not is_info:
            run.count, run.samples = run.count + 1, frame.frames
        else:
            run.audio = run.end
            if mark != b"VBRI" and data[place + 7] & 1:
                run.stated = int.from_bytes(data[place + 8 : place + 12], "big")
    return [run.link() for run in runs if run.count] or None


def _info_frame(head: bytes, count: int) -> bytes:
    """An Info frame, to be put before a stream, that states its number of frames."""
    # The largest frame size, and no checksum.
    head = bytes([head[0], head[1] | 1, head[2] & 0x0C | 0xE0, head[3]])
    frame = _mp3_frame(head)
    assert frame is not None
    text = head + bytes(_xing_place(frame) - 4) + b"Info" + struct.pack(">II", 1, count)
    return text.ljust(frame.size, b"\0")


# Ogg ----------------------------------------------------------------------------------------------

_PAGE_HEAD = 27
_OGG_FLAC = b"\x7fFLAC"
_BEGINS = 2
"""Flag of the first page of a logical stream."""


class Page(NamedTuple):
    """A page of an Ogg stream."""

    data: bytes
    offset: int
    """Offset of the page in the source, bytes."""
    begins: bool
    """Whether a new stream begins here. Of multiplexed streams, only the first one counts."""

    @property
    def serial(self) -> bytes:
        return self.data[14:18]

    @property
    def payload(self) -> bytes:
        return self.data[_PAGE_HEAD + self.data[26] :]


def ogg_pages(source: Source) -> Iterator[Page]:
    """The pages of an Ogg stream; skips bytes between them."""
    offset, heads = 0, False
    while len(head := source.peek(_PAGE_HEAD)) == _PAGE_HEAD:
        if head[:4] != b"OggS":
            ahead = source.peek(1 << 16)
            place = ahead.find(b"OggS", 1)
            offset += source.skip(place if place > 0 else max(1, len(ahead) - 3))
            continue
        sizes = source.peek(head[26], _PAGE_HEAD)
        data = source.read(_PAGE_HEAD + len(sizes) + sum(sizes))
        is_head = bool(head[5] & _BEGINS)
        yield Page(data, offset, is_head and not heads)
        heads = is_head
        offset += len(data)


def is_ogg_flac(source: Source) -> bool:
    """Whether an Ogg stream holds FLAC, which libsndfile cannot read there."""
    return source.peek(4) == b"OggS" and _OGG_FLAC in source.peek(64)


def flac_of_ogg(source: Source) -> Iterator[bytes]:
    """The FLAC streams in an Ogg stream, as bytes of a FLAC file."""
    serial = b""
    for page in ogg_pages(source):
        if page.payload.startswith(_OGG_FLAC):
            serial = page.serial
            yield page.payload[9:]  # after the mapping version and the number of header packets
        elif page.serial == serial:
            yield page.payload


def _ogg_links(file: BinaryIO, start: int, end: int) -> list[Link]:
    file.seek(start)
    starts = [page.offset + start for page in ogg_pages(Source(file)) if page.begins]
    starts = starts or [start]
    return [Link(Window(file, a, b)) for a, b in zip(starts, [*starts[1:], end], strict=True)]
