"""Writing audio in blocks: any file that libsndfile writes, pipes, raw PCM."""

from __future__ import annotations

import bisect
import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from pcodec.audio.formats import MAX_BYTES, RATES, RAW_FORMATS
from pcodec.audio.pcm import Samples, to_bytes, to_integers
from pcodec.audio.resample import Resampler
from pcodec.audio.tags import write_tags
from pcodec.errors import AudioError

if TYPE_CHECKING:
    from typing_extensions import Self

_FLOATS = ("FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III")
"""Sample formats of floats."""
_BITS = {
    **dict.fromkeys(("PCM_S8", "PCM_U8"), 8),
    **dict.fromkeys(("PCM_24", "ALAC_24", "DWVW_24"), 24),
    **dict.fromkeys(("PCM_32", "ALAC_32"), 32),
    "ALAC_20": 20,
    "DWVW_12": 12,
}
"""Bits of the other sample formats, where they are not 16."""
_BYTES = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1),
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
}
"""Bytes per sample, where they are more than two."""


class Writer:
    """An audio sink, mono: a file of any type that libsndfile writes, or a stream.

    To a stream that cannot seek, a WAV file is written with a header of unknown length, as by
    ffmpeg and sox; a file of another type is written at the end. With ``raw``, bare samples.
    """

    def __init__(
        self,
        sink: BinaryIO,
        rate: int,
        format: str = "WAV",
        subtype: str | None = None,
        raw: str | None = None,
        frames: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """rate: of the samples that are passed, Hz; the attribute `rate` is that of the file.

        frames: their number, if known. tags: as `read_tags` gives them; `lost_tags` has the names
        of those that are not written. AudioError if the samples cannot be written.
        """
        self.lost_tags = list(tags or ())
        self._sink, self._format = sink, format
        self._file: soundfile.SoundFile | None = None
        self._encoding = "<i2"
        self._subtype = subtype or soundfile.default_subtype(format)
        self.rate, self._most = rate, None
        if raw is not None:
            self._encoding = RAW_FORMATS[raw]
        elif (regular := _is_regular(sink)) or format != "WAV":
            rates = RATES.get(self._subtype) or RATES.get(format)
            if rates:
                self.rate = rates[min(bisect.bisect_left(rates, rate), len(rates) - 1)]
            if format in MAX_BYTES:
                self._most = MAX_BYTES[format] // _BYTES.get(self._subtype, 2)
            self._resampler = Resampler(rate, self.rate)
            self._check_length(frames or 0)
            sink.flush()
            self._target = sink if regular else tempfile.TemporaryFile()  # noqa: SIM115
            self._watched = ErrorCapturingFile(self._target)
            self._file = self._open(format, subtype)
            self.lost_tags = write_tags(self._file, format, tags or {})
        else:
            if self._subtype != "PCM_16":
                raise AudioError("a WAV stream to a pipe is 16-bit; use --raw for other formats")
            sink.write(_wav_header(rate))
        self._resampler = Resampler(rate, self.rate)

    def _open(self, format: str, subtype: str | None) -> soundfile.SoundFile:
        try:
            return soundfile.SoundFile(
                self._watched, "w", self.rate, 1, subtype, format=format, closefd=False
            )
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            self._watched.check()
            raise AudioError(
                f"cannot write {format} {self._subtype} at {self.rate} Hz; --rate and --subtype"
                " choose others"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif self._file is not None:  # before its target is closed
            with contextlib.suppress(soundfile.LibsndfileError):
                self._file.close()

    def write(self, x: Samples) -> None:
        """Writes samples (n,), clipped to full scale."""
        self._check_length(self._resampler.taken + len(x))
        self._write(self._resampler(x))

    def close(self) -> None:
        """Ends the file; AudioError if it is empty and its format cannot be."""
        self._write(self._resampler(np.zeros(0, np.float32), last=True))
        if self._file is not None:
            self._watched.run(self._file.close)
            if not self._target.seek(0, os.SEEK_END):
                raise AudioError(f"{self._format} cannot hold no samples")
            if self._target is not self._sink:
                self._target.seek(0)
                shutil.copyfileobj(self._target, self._sink)
                self._target.close()
        self._sink.flush()

    def _write(self, x: Samples) -> None:
        file = self._file
        if file is None:
            self._sink.write(to_bytes(x, self._encoding))
            self._sink.flush()
        elif self._subtype in _FLOATS:
            self._watched.run(lambda: file.write(np.clip(x, -1.0, 1.0)))
        else:
            bits = _BITS.get(self._subtype, 16)
            # libsndfile uses the high bits.
            y = to_integers(x, bits) << (32 - bits)
            self._watched.run(lambda: file.write(y))

    def _check_length(self, frames: int) -> None:
        """AudioError if this number of samples is too large for the file."""
        if self._most is not None and frames * self.rate > self._most * self._resampler.rate:
            hours = self._most / self.rate / 3600
            raise AudioError(
                f"{self._format} ends at 4 GiB, which is {hours:.1f} h of this sound; name the"
                " output .w64, .rf64 or .flac"
            )


def _is_regular(file: BinaryIO) -> bool:
    """Whether a file can seek to its beginning."""
    return file.seekable() and stat.S_ISREG(os.fstat(file.fileno()).st_mode) and not file.tell()


class ErrorCapturingFile:
    """A file for libsndfile, which passes no exceptions on; keeps the first one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: BaseException | None = None

    def run(self, do: Callable[[], object]) -> None:
        """Runs a call of libsndfile; raises the error of the file."""
        try:
            do()
        except (soundfile.LibsndfileError, AssertionError) as error:
            self.check()
            raise AudioError(f"cannot be written ({error or 'not all of it was taken'})") from error
        self.check()

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def _try(self, do: Callable[[], int], otherwise: int) -> int:
        try:
            return do()
        except BaseException as error:  # an interrupt too
            self._error = self._error or error
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
