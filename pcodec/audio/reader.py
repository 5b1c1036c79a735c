"""Reading audio in blocks: any file that libsndfile reads, pipes, raw PCM."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from pcodec.audio.formats import RAW_FORMATS
from pcodec.audio.headers import stated_frames
from pcodec.audio.pcm import Samples, clean
from pcodec.audio.resample import Resampler
from pcodec.errors import AudioError

BLOCK_SECONDS = 16.0
"""What is read at once where nothing asks for less."""
_PIPED = (b"RIFF", b".snd", b"OggS")
"""Starts of the files that libsndfile reads from a pipe as they come, with samples of a size."""


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
                self._stated, _ = stated_frames(file)
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
            self._stated, packed = stated_frames(ahead)
            if not packed:
                if start == b"RIFF" and self._stated == 0:  # a stream, whose writer can't know
                    ahead.taken[-4:], self._stated = b"\xff" * 4, None
                return soundfile.SoundFile(_pipe(bytes(ahead.taken), source))
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._spool.write(ahead.taken)
        shutil.copyfileobj(source, self._spool)
        self._spool.seek(0)
        self._stated, _ = stated_frames(self._spool)
        self._spool.seek(0)
        try:
            return soundfile.SoundFile(self._spool)
        except soundfile.LibsndfileError:
            self._spool.close()
            raise

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
