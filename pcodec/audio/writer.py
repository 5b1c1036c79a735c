"""Writing audio in blocks: any file that libsndfile writes, pipes, raw PCM."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile

from pcodec.audio.formats import RAW_FORMATS
from pcodec.audio.pcm import Samples
from pcodec.errors import AudioError

if TYPE_CHECKING:
    from typing_extensions import Self


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
