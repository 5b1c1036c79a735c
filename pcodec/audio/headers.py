"""What the headers of audio files state of their length."""

from __future__ import annotations

import struct
from typing import Any, Literal

_MOST_BEFORE_DATA = 1 << 24
"""bytes of a chunk before the samples, such as a picture; more is no sane file"""
_UNKNOWN = (0x7FFFF000, 0x7FFFFFFF, 0x80000000)
"""Sizes that programs write into the header of a WAV stream whose end they do not know."""
_CHUNKED: dict[bytes, tuple[int, int, int, Literal["little", "big"], int]] = {
    b"RIFF": (12, 4, 4, "little", 2),
    b"RF64": (12, 4, 4, "little", 2),
    b"FORM": (12, 4, 4, "big", 2),
    b"riff": (40, 16, 8, "little", 8),
}
"""Files of chunks (WAV, RF64, AIFF, W64) by their start: bytes before the first chunk, of
a chunk's name and of its size, the order of those, and what chunks are padded to."""
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
"""bytes a sample, by AU's encodings"""
_WAV_TAGS = (1, 3, 6, 7, 0xFFFE)
"""of WAV's encodings, those whose samples have a size each: PCM, floats, A-law, mu-law"""


def stated_frames(file: Any) -> tuple[int | None, bool]:
    """The frames that a file's header states, and whether its samples are packed.

    None if its type has none, or it does not know. file: anything with ``read``, at its start.
    Of packed samples, for which libsndfile goes back, it may be fewer than there are.
    """
    start = file.read(4)
    if start == b".snd":
        _, size, encoding, _, channels = struct.unpack(">5I", file.read(20).ljust(20, b"\0"))
        frame = _AU_BYTES.get(encoding, 0) * channels
        known = frame and size != 0xFFFFFFFF
        return size // frame if known else None, encoding not in _AU_BYTES
    if start not in _CHUNKED:
        return None, False
    before, name_bytes, size_bytes, order, pad = _CHUNKED[start]
    kind = file.read(before - 4)
    if start in (b"RIFF", b"RF64") and kind[4:] != b"WAVE":
        return None, False
    frame, long_size, packed = 0, None, False
    while len(head := file.read(name_bytes + size_bytes)) == name_bytes + size_bytes:
        name, size = head[:4], int.from_bytes(head[name_bytes:], order)
        if start == b"riff":  # which counts the head too
            size -= len(head)
        if name == b"data":
            if long_size is not None:
                size = long_size
            elif size in _UNKNOWN or size >= (1 << 8 * size_bytes) - 256:
                return None, packed
            return size // frame if frame else None, packed
        if not 0 <= size <= _MOST_BEFORE_DATA:
            break
        chunk = file.read(-(-size // pad) * pad)
        if name == b"fmt ":
            frame = int.from_bytes(chunk[12:14], order)
            packed = int.from_bytes(chunk[:2], order) not in _WAV_TAGS
        elif name == b"ds64":
            long_size = int.from_bytes(chunk[8:16], order)
        elif name == b"COMM":
            channels, frames, bits = struct.unpack(">HIH", chunk[:8].ljust(8, b"\0"))
            known = frames * channels * bits // 8 < 0x7EFF0000  # sox into a pipe says 0x7F000000
            return frames if known else None, False
    return None, packed
