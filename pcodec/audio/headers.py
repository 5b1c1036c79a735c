"""Reads the headers of audio files: what their samples are, and where they end.

libsndfile stops at the length that a header states. But many programs write the header before
they know the length, and put 0, ffffffff, 7ffff000, ... there. This module tells such
placeholders from lengths.
"""

from __future__ import annotations

import io
import struct
from typing import Literal, NamedTuple

from pcodec.audio.pcm import bytes_of
from pcodec.audio.source import Source

_MAX_CHUNK = 1 << 24
"""Largest chunk before the samples that is read, bytes; enough for a cover picture."""
_MAX_AFTER = 1 << 16
"""Bytes that are examined after samples of unknown size, to tell chunks from more samples."""
_GUID_ENDS = (b"\x00\xc0\x4f\x8e\xdb\x8a", b"\x28\xdb\x04\xc1\x00\x00")
"""Last six bytes of the chunk names (GUIDs) of W64."""
_NO_TAIL = (b"data", b"SSND", b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff", b"caff")
"""Names of chunks that hold samples or begin a file: these cannot follow the samples of a file."""
_AIFF_ENCODINGS = {
    **dict.fromkeys((b"NONE", b"twos", b"in24", b"in32"), ">i"),
    **dict.fromkeys((b"sowt", b"42ni", b"42n1", b"23ni"), "<i"),
    **dict.fromkeys((b"fl32", b"FL32"), ">f4"),
    **dict.fromkeys((b"fl64", b"FL64"), ">f8"),
    **dict.fromkeys((b"ulaw", b"ULAW"), "ulaw"),
    **dict.fromkeys((b"alaw", b"ALAW"), "alaw"),
    b"raw ": "|u1",
}
_AU_ENCODINGS = {1: "ulaw", 2: "|i1", 3: "i2", 4: "i3", 5: "i4", 6: "f4", 7: "f8", 27: "alaw"}


class Chunks(NamedTuple):
    """Layout of the chunks of a container; sizes in bytes."""

    order: Literal["little", "big"]
    name: int = 4
    size: int = 4
    pad: int = 2
    counts_head: bool = False
    """Whether the stated size of a chunk includes its name and size fields."""

    @property
    def head(self) -> int:
        return self.name + self.size

    def read(self, head: bytes) -> tuple[bytes, int]:
        """The first four bytes of a chunk's name, and the size of its content."""
        size = int.from_bytes(head[self.name : self.head], self.order)
        return head[:4], size - self.head if self.counts_head else size

    def can_follow(self, head: bytes) -> bool:
        """Whether these bytes can be the head of a chunk after the samples."""
        name, size = self.read(head)
        if len(head) < self.head or size < 0 or name in _NO_TAIL:
            return False
        if self.name == 16:
            return head[10:16] in _GUID_ENDS
        return all(0x20 <= byte < 0x7F for byte in name)

    def padding(self, source: Source, offset: int, size: int) -> int:
        """Bytes of padding after a chunk that ends ``offset`` ahead; some programs omit it."""
        padding = -size % self.pad
        if any(source.peek(padding, offset)):
            head = source.peek(self.head, offset)
            known = head[:4] in (b"data", b"SSND", b"fmt ", b"COMM")
            return 0 if known or self.can_follow(head) else padding
        return padding


class Header(NamedTuple):
    """What a header states about the samples."""

    rate: int
    channels: int
    encoding: str | None
    """As in `pcodec.audio.pcm`; None for samples that libsndfile must decode."""
    offset: int
    """Bytes from the start of the file to the first sample."""
    size: int
    """Bytes of samples, as stated."""
    known: bool
    """False if ``size`` is a placeholder for an unknown length."""
    chunks: Chunks | None = None
    """Layout of the chunks that may follow the samples; None if none can."""
    unstated: int = 0
    """Bytes of the chunk of samples beyond those that the header states."""

    def is_end(self, source: Source) -> bool:
        """Whether samples of unknown size end here: no bytes follow, or only chunks."""
        if not source.peek(1):
            return True
        if self.chunks is None or not self.chunks.can_follow(
            source.peek(self.chunks.head, self.chunks.padding(source, 0, self.size))
        ):
            return False
        rest = source.peek(_MAX_AFTER + 1)
        return len(rest) <= _MAX_AFTER and not self.excess(Source(io.BytesIO(rest)))

    def excess(self, source: Source) -> int:
        """Reads the bytes after the samples; returns how many belong to no chunk."""
        count, size = source.skip(self.unstated), self.size + self.unstated
        if self.chunks is not None and count < self.chunks.pad:
            count = 0  # padding that the chunk counts
        if self.chunks is None:
            return source.skip()
        padding = source.read(self.chunks.padding(source, 0, size))
        if any(padding) and len(padding) > 1:
            count += len(padding)
        while head := source.peek(self.chunks.head):
            if not self.chunks.can_follow(head):
                rest = source.skip()
                return count + (rest if any(head) or rest > self.chunks.pad else 0)
            size = self.chunks.read(head)[1]
            skipped = source.skip(self.chunks.head + size)
            if skipped < self.chunks.head + size:
                return count + skipped
            source.skip(self.chunks.padding(source, 0, size))
        return count


def read_header(source: Source) -> Header | None:
    """The header of a WAV, RF64, BW64, W64, AIFF, AU or CAF file, without moving the source.

    None if the file is of another type, has no samples, or has its samples before their format.
    """
    start = source.peek(40)
    if start[:4] in (b".snd", b"dns."):
        return _read_au(source.peek(24))
    if start[:4] == b"riff" and start[10:16] in _GUID_ENDS:
        return _read_chunks(source, 40, Chunks("little", 16, 8, 8, True))
    if start[:4] in (b"RIFF", b"RF64", b"BW64") and start[8:12] == b"WAVE":
        return _read_chunks(source, 12, Chunks("little"))
    if start[:4] == b"RIFX" and start[8:12] == b"WAVE":
        return _read_chunks(source, 12, Chunks("big"))
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return _read_chunks(source, 12, Chunks("big"))
    if start[:4] == b"caff":
        return _read_chunks(source, 8, Chunks("big", 4, 8, 1))
    return None


def with_size(head: bytes, size: int) -> bytes:
    """The bytes before the samples of a WAV, W64 or AU file, with the size of the samples set."""
    if head[:4] == b"RIFF":
        return head[:-4] + min(size, 0xFFFFFFFF).to_bytes(4, "little")
    if head[:4] == b"riff":
        return head[:-8] + (size + 24).to_bytes(8, "little")
    if head[:4] == b".snd":
        return head[:8] + min(size, 0xFFFFFFFF).to_bytes(4, "big") + head[12:]
    return head


_PLACEHOLDERS = ((0x7EFF0000, 0x80010000), (0xFFFF0000, 0x100010000), (1 << 62, 1 << 64))
"""Ranges of the sizes that programs write for an unknown length, besides 0: the largest number that
fits, or a little less or more. sox writes 7f000000 into AIFF."""


def _is_known(size: int) -> bool:
    return size > 0 and not any(low <= size <= high for low, high in _PLACEHOLDERS)


def _read_au(head: bytes) -> Header | None:
    if len(head) < 24:
        return None
    order: Literal["<", ">"] = ">" if head[0] == ord(".") else "<"
    offset, size, number, rate, channels = struct.unpack(f"{order}5I", head[4:])
    encoding = _AU_ENCODINGS.get(number)
    if encoding and encoding[0] in "if":
        encoding = order + encoding
    return Header(rate, channels, encoding, max(24, offset), size, _is_known(size))


def _read_chunks(source: Source, offset: int, chunks: Chunks) -> Header | None:
    """The header of a container whose first chunk starts at an offset."""
    start = source.peek(4)
    format_: _Format | None = None
    frames = long_size = None
    while len(head := source.peek(chunks.head, offset)) == chunks.head:
        name, size = chunks.read(head)
        offset += chunks.head
        if name in (b"data", b"SSND"):
            break
        if not 0 <= size <= _MAX_CHUNK:
            return None
        body = source.peek(size, offset)
        if name == b"fmt " and len(body) >= 16:
            format_ = _wav_format(body, chunks.order)
        elif name == b"desc" and len(body) >= 32:
            format_ = _caf_format(body)
        elif name == b"COMM" and len(body) >= 18:
            format_, frames = _aiff_format(body), int.from_bytes(body[2:6], "big")
        elif name == b"ds64" and len(body) >= 16:
            long_size = int.from_bytes(body[8:16], "little")
        offset += size + chunks.padding(source, offset + size, size)
    else:
        return None
    if format_ is None:
        return None
    known = _is_known(size)
    unstated = 0
    if name == b"SSND":
        offset, size = offset + 8, size - 8
        offset += (gap := int.from_bytes(source.peek(4, offset - 8), "big"))
        known, size = known and size > gap, max(0, size - gap)
        stated = (frames or 0) * format_.frame
        packed = format_.encoding is None
        if not packed and _is_known(frames or 0) and _is_known(stated):
            if not known or (stated - size) % (1 << 32) == 0:
                known, size = True, stated
            elif stated < size:
                size, unstated = stated, size - stated
    elif start == b"caff":  # the samples come after a counter of edits
        offset, size = offset + 4, size - 4
        known = known and size > 0
    elif not known and long_size is not None:
        known, size = _is_known(long_size), long_size
    return Header(
        format_.rate,
        format_.channels,
        format_.encoding,
        offset,
        max(0, size),
        known,
        chunks,
        unstated,
    )


class _Format(NamedTuple):
    """Format of the samples in a container."""

    rate: int
    channels: int
    encoding: str | None
    frame: int
    """Bytes per frame; of compressed samples, per block."""


def _wav_format(chunk: bytes, order: Literal["little", "big"]) -> _Format:
    """The format in a chunk "fmt " of WAV or W64."""
    mark = "<" if order == "little" else ">"
    tag, channels, rate, _, frame, bits = struct.unpack(f"{mark}HHIIHH", chunk[:16])
    if tag == 0xFFFE and len(chunk) >= 26:  # WAVE_FORMAT_EXTENSIBLE: the tag is in a GUID
        tag = int.from_bytes(chunk[24:26], order)
    # Samples of 20 bits may be stored in 24 or 32; they are always the high bits.
    width = frame // channels if channels and frame % channels == 0 else 0
    width = max(width, -(-bits // 8))
    encoding = None
    if tag == 1 and 1 <= width <= 4:
        encoding = "|u1" if width == 1 else f"{mark}i{width}"
    elif tag == 3 and width in (4, 8):
        encoding = f"{mark}f{width}"
    elif tag in (6, 7) and width == 1:
        encoding = "alaw" if tag == 6 else "ulaw"
    return _Format(rate, channels, encoding, frame)


def _aiff_format(chunk: bytes) -> _Format:
    """The format in a chunk "COMM" of AIFF."""
    channels, _, bits, exponent, mantissa = struct.unpack(">HIHHQ", chunk[:18])
    # An extended float of 80 bits.
    rate = round(mantissa * 2.0 ** (exponent - 16383 - 63)) if exponent < 16500 else 0
    encoding = _AIFF_ENCODINGS.get(chunk[18:22] or b"NONE")
    width = max(1, -(-bits // 8))
    if encoding is not None and encoding[1:] == "i":
        encoding = (f"{encoding}{width}" if width > 1 else "|i1") if width <= 4 else None
    elif encoding is not None:
        width = bytes_of(encoding)
    return _Format(rate, channels, encoding, channels * width)


def _caf_format(chunk: bytes) -> _Format:
    """The format in a chunk "desc" of CAF."""
    rate, kind, flags, frame, _, channels, bits = struct.unpack(">d4sIIIII", chunk[:32])
    mark = "<" if flags & 2 else ">"
    width = frame // channels if channels else 0
    encoding = None
    if kind == b"lpcm" and flags & 1 and width in (4, 8):
        encoding = f"{mark}f{width}"
    elif kind == b"lpcm" and not flags & 1 and 1 <= width <= 4 and bits:
        encoding = "|i1" if width == 1 else f"{mark}i{width}"
    elif kind in (b"alaw", b"ulaw"):
        encoding = kind.decode()
    return _Format(round(rate) if 0 < rate < 1 << 32 else 0, channels, encoding, frame)
