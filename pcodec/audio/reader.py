"""Audio in and out in blocks: any file that libsndfile reads, pipes, raw PCM, resampling."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pcodec.errors import AudioError

if TYPE_CHECKING:
    from typing_extensions import Self

Samples = NDArray[np.float32]

BLOCK_SECONDS = 16.0
"""What is read at once where nothing asks for less."""
RAW_FORMATS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}
_PIPED = (b"RIFF", b".snd", b"OggS")
"""Starts of the files that libsndfile reads from a pipe as they come, with samples of a size."""


class Resampler:
    """Rate conversion in chunks (soxr, high quality); an exact number of samples in all.

    n samples at ``rate`` become `resampled_length` (n) samples, whatever the chunks.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        self.rate, self.new_rate = rate, new_rate
        self._soxr = None if rate == new_rate else soxr.ResampleStream(rate, new_rate, 1)
        self.taken = self.given = 0

    def __call__(self, x: Samples, last: bool = False) -> Samples:
        """The next samples (n,); ``last`` says that none follow."""
        self.taken += len(x)
        y = x if self._soxr is None else self._soxr.resample_chunk(x, last)
        if last:
            wanted = resampled_length(self.taken, self.rate, self.new_rate) - self.given
            y = np.pad(y, (0, max(0, wanted - len(y))))[: max(0, wanted)]
        self.given += len(y)
        return y


def resampled_length(samples: int, rate: int, new_rate: int) -> int:
    """Samples at the new rate that cover so many at the old one."""
    return -(-samples * new_rate // rate)


MOST = 4.0
"""Floating-point files may exceed full scale; far beyond it the codec's floats would too."""


def clean(x: NDArray[Any]) -> tuple[Samples, int]:
    """(n,) or (n, channels) -> finite mono samples (n,), and how many were not finite.

    Integers of any width are taken as full-scale PCM, unsigned ones about their middle.
    AudioError if it is of another shape, or complex.
    """
    x = np.asarray(x)
    if x.ndim not in (1, 2) or (x.ndim == 2 and not x.shape[1]) or np.iscomplexobj(x):
        raise AudioError(f"{x.dtype} of shape {x.shape} is not (frames,) or (frames, channels)")
    if np.issubdtype(x.dtype, np.integer):
        limits = np.iinfo(x.dtype)
        middle = 0 if limits.min else (limits.max + 1) // 2
        x = (x.astype(np.float64) - middle) / ((limits.max + 1) // (1 if limits.min else 2))
    with np.errstate(over="ignore"):  # what is beyond its range is as good as infinite
        x = np.asarray(x, np.float32)
    if x.ndim == 1:
        x = x[:, None]
    if x.shape[1] == 1 and np.abs(x).max(initial=0.0) <= MOST:
        return x[:, 0], 0
    bad = ~np.isfinite(x)
    count = int(bad.sum())
    if count:
        x = np.where(bad, np.float32(0), x)
    mono = x[:, 0] if x.shape[1] == 1 else x.mean(1, dtype=np.float64)
    return np.clip(mono, -MOST, MOST).astype(np.float32), count


def read(path: Path, rate: int) -> Samples:
    """A whole file as mono samples (n,) at a rate; AudioError if it cannot be read."""
    reader = Reader(path)
    resampler = Resampler(reader.rate, rate)
    parts = [resampler(block) for block in reader.blocks()]
    reader.close()
    return np.concatenate([*parts, resampler(np.zeros(0, np.float32), last=True)])


class Reader:
    """An audio source: `rate` in Hz, `channels`, `frames` (None if unknown), `blocks`.

    Raises AudioError, naming the source, if it cannot be read.
    """

    def __init__(self, source: Path | BinaryIO, raw: tuple[int, str] | None = None) -> None:
        """``raw`` is (rate, format) of headerless mono PCM."""
        self.name = str(source) if isinstance(source, Path) else "standard input"
        self.not_finite = 0
        """samples that were nan or infinite so far"""
        self.taken = 0
        """frames read so far"""
        self._file: soundfile.SoundFile | None = None
        self._raw: BinaryIO | None = None
        self._spool: Any = None
        self.frames: int | None = None
        self.channels = 1
        self._stated: int | None = None
        try:
            if raw is not None:
                self.rate, self.format = raw
                self._raw = source.open("rb") if isinstance(source, Path) else source
                return
            self._file = self._open(source)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self.name}: {error.error_string}") from error
        except TypeError:  # soundfile asks so for the rate of what is called .raw
            raise AudioError(f"{self.name}: headerless samples need --raw and --rate") from None
        except OSError as error:
            raise AudioError(f"{self.name}: {error.strerror or error}") from error
        self.rate, self.channels = self._file.samplerate, self._file.channels
        if self._file.seekable():
            self.frames = self._file.frames
        if isinstance(source, Path) and source.is_file():
            with source.open("rb") as file:
                self._stated, _ = _stated_frames(file)
            if self._stated == 0 and not self.frames and source.stat().st_size > 1000:
                raise AudioError(
                    f"{self.name}: its header states no samples, though it is not empty"
                )

    @property
    def missing_frames(self) -> int:
        """How many frames fewer came than the file's header states, where it does."""
        return max(0, (self._stated or 0) - self.taken)

    def _open(self, source: Path | BinaryIO) -> soundfile.SoundFile:
        if isinstance(source, Path):
            if source.is_file():
                if not source.stat().st_size:
                    raise AudioError(f"{source}: the file is empty")
                return soundfile.SoundFile(os.fsencode(source))  # any name
            source = source.open("rb")
        ahead = _Ahead(source)
        start = ahead.read(4)
        if not start:
            raise AudioError(f"{self.name}: no audio came")
        if start in _PIPED:
            ahead.again()
            self._stated, packed = _stated_frames(ahead)
            if not packed:
                if start == b"RIFF" and self._stated == 0:  # a stream, whose writer can't know
                    ahead.taken[-4:], self._stated = b"\xff" * 4, None
                return soundfile.SoundFile(_pipe(bytes(ahead.taken), source))
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._spool.write(ahead.taken)
        shutil.copyfileobj(source, self._spool)
        self._spool.seek(0)
        self._stated, _ = _stated_frames(self._spool)
        self._spool.seek(0)
        return soundfile.SoundFile(self._spool)

    def blocks(self, seconds: float = BLOCK_SECONDS) -> Iterator[Samples]:
        """Mono float32 samples (n,), at most so many seconds at a time."""
        frames = max(1, round(seconds * self.rate))
        while True:
            if self._file is not None:
                try:
                    block = self._file.read(frames, "float32", always_2d=True)
                except soundfile.LibsndfileError as error:
                    raise AudioError(f"{self.name}: {error.error_string}") from error
            else:
                block = self._read_raw(frames)
            if not len(block):
                return
            mono, bad = clean(block)
            self.not_finite += bad
            self.taken += len(mono)
            yield mono

    def _read_raw(self, frames: int) -> NDArray[np.float32]:
        assert self._raw is not None
        dtype = np.dtype(RAW_FORMATS[self.format])
        data = _read_whole(self._raw, frames * dtype.itemsize)
        values = np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)
        scale = 1.0 if dtype.kind == "f" else float(1 << (8 * dtype.itemsize - 1))
        return (values[:, None] / scale).astype(np.float32)

    def close(self) -> None:
        for resource in (self._file, self._raw, self._spool):
            if resource is not None:
                resource.close()


def _read_whole(source: BinaryIO, size: int) -> bytes:
    """So many bytes of a source that may give fewer at once; less only at its end."""
    data = b""
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data


class _Ahead:
    """Reads a stream's start, to be read again from `taken`."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._position, self.taken = source, 0, bytearray()

    def again(self) -> None:
        self._position = 0

    def read(self, size: int) -> bytes:
        end = self._position + size
        self.taken += _read_whole(self._source, end - len(self.taken))
        data = bytes(self.taken[self._position : end])
        self._position += len(data)
        return data


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


def _stated_frames(file: Any) -> tuple[int | None, bool]:
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


def _pipe(start: bytes, source: BinaryIO) -> int:
    """A descriptor that gives ``start`` and then what comes from a source."""
    read_end, write_end = os.pipe()

    def pump() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as out:
            data: bytes | None = start
            read = getattr(source, "read1", source.read)
            try:
                while data:
                    out.write(data)
                    data = read(1 << 16)
            except OSError:
                pass  # the reader has gone, or the source has: the end either way

    threading.Thread(target=pump, daemon=True).start()
    return read_end


class Writer:
    """An audio sink, mono: a file of any type that libsndfile writes, or a stream.

    On a stream that cannot seek, a WAV header of unknown length goes ahead (as ffmpeg's and
    sox's do); with ``raw``, bare samples.
    """

    def __init__(
        self,
        sink: BinaryIO,
        rate: int,
        format: str = "WAV",
        subtype: str | None = None,
        raw: str | None = None,
    ) -> None:
        self._sink, self._file, self._dtype, self._format = sink, None, "<i2", format
        self._watched: _Watched | None = None
        if raw is not None:
            self._dtype = RAW_FORMATS[raw]
        elif (regular := _is_regular(sink)) or format != "WAV":
            try:
                sink.flush()
                target: Any = sink.fileno()  # of a pipe, which libsndfile writes otherwise
                if regular:
                    target = self._watched = _Watched(sink)
                self._file = soundfile.SoundFile(
                    target, "w", rate, 1, subtype, format=format, closefd=False
                )
            except (soundfile.LibsndfileError, ValueError, TypeError) as error:
                raise AudioError(
                    f"cannot write {format} {subtype or ''} at {rate} Hz: {error}"
                ) from error
        else:
            if subtype not in (None, "PCM_16"):
                raise AudioError("a WAV stream to a pipe is 16-bit; use --raw for other formats")
            sink.write(_wav_header(rate))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif self._file is not None:  # while there is something to close it on
            with contextlib.suppress(soundfile.LibsndfileError):
                self._file.close()

    def write(self, x: Samples) -> None:
        """Samples (n,); beyond full scale they are clipped."""
        x = np.clip(x, -1.0, 1.0)
        if self._file is not None:
            try:
                self._file.write(x)
            except (soundfile.LibsndfileError, AssertionError) as error:
                self._check()
                raise AudioError(f"cannot be written, is the disk full? ({error})") from error
            self._check()
            return
        dtype = np.dtype(self._dtype)
        if dtype.kind == "i":
            top = (1 << (8 * dtype.itemsize - 1)) - 1
            x = np.rint(x.astype(np.float64) * top)
        self._sink.write(x.astype(dtype).tobytes())
        self._sink.flush()

    def close(self) -> None:
        """AudioError if nothing was written and the format has no way to say so."""
        if self._file is not None:
            self._file.close()
            self._sink.flush()
            self._check()
            if self._watched is not None and not os.fstat(self._sink.fileno()).st_size:
                raise AudioError(f"{self._format} cannot hold no samples")

    def _check(self) -> None:
        if self._watched is not None and self._watched.error is not None:
            raise self._watched.error


def _is_regular(file: BinaryIO) -> bool:
    """A file with a beginning to go back to."""
    return file.seekable() and stat.S_ISREG(os.fstat(file.fileno()).st_mode)


class _Watched:
    """A file that libsndfile writes, and the error it met: libsndfile passes over some."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def _try(self, do: Callable[[], int], otherwise: int) -> int:
        try:
            return do()
        except OSError as error:  # which could not pass through libsndfile
            self.error = self.error or error
            return otherwise

    def write(self, data: bytes) -> int:
        return self._try(lambda: self._file.write(data), 0)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(lambda: self._file.seek(offset, whence), -1)

    def tell(self) -> int:
        return self._try(self._file.tell, -1)


def _wav_header(rate: int) -> bytes:
    """RIFF header of 16-bit mono PCM of unknown length."""
    unknown = b"\xff\xff\xff\xff"
    shape = (1).to_bytes(2, "little") * 2 + rate.to_bytes(4, "little")
    shape += (2 * rate).to_bytes(4, "little") + b"\x02\x00\x10\x00"
    return b"RIFF" + unknown + b"WAVEfmt \x10\x00\x00\x00" + shape + b"data" + unknown
