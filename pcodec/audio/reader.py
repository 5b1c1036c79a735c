"""Reading audio in blocks: any file that libsndfile reads, pipes, raw PCM."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
import soundfile

from pcodec.audio.formats import RAW_FORMATS
from pcodec.audio.headers import Header, read_header, with_size
from pcodec.audio.links import Link, find_links, flac_of_ogg, is_ogg_flac, ogg_pages
from pcodec.audio.pcm import Downmix, Samples, bytes_of, from_bytes
from pcodec.audio.resample import Resampler
from pcodec.audio.source import Source, Window, tag_before
from pcodec.audio.tags import read_tags
from pcodec.errors import AudioError, shown

BLOCK_SECONDS = 16.0
"""Seconds that are read at once by default."""
_MAX_TAGS = 60_000
"""Bytes of tags as JSON, which are kept in one block."""
_PCX_MAGIC = b"\x89PCX"
_UNRECOGNISED = 1
"""libsndfile's error code for an unknown file type."""
_T = TypeVar("_T")


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

    def __init__(
        self,
        source: Path | BinaryIO,
        raw: tuple[int, str] | None = None,
        channel: int | None = None,
        ignore_length: bool = False,
    ) -> None:
        """A file by its path, or a stream.

        raw: (rate in Hz, format) of headerless mono PCM. channel: the one to take, from 0; None
        for the mean of all. ignore_length: whether what follows the samples that a header
        states are samples too.
        """
        self.name = shown(source) if isinstance(source, Path) else "standard input"
        self.taken = 0
        """Frames read so far."""
        self.missing_frames = 0
        """Frames missing of those that the header states; known at the end."""
        self.damages: list[str] = []
        """What is wrong with the source as far as it was read, one sentence each."""
        self.frames: int | None = None
        self._mix, self._channel = Downmix(), channel
        self._remarks: list[str] = []
        self._resources: list[Any] = []
        self._path = source if isinstance(source, Path) else None
        self._ignore_length = ignore_length
        try:
            with self._errors():
                stream = source.open("rb", buffering=0) if isinstance(source, Path) else source
                self._resources.append(stream)
                self._parts = iter(self._begin(stream, raw))
                self._first = next(self._parts)
                self.rate, self.channels = self._first.rate, self._first.channels
                if channel is not None and not 0 <= channel < self.channels:
                    many = f"{self.channels} channels" if self.channels > 1 else "one channel"
                    raise AudioError(f"has {many}, so there is no channel {channel + 1}")
        except BaseException:
            self.close()
            raise

    @property
    def remarks(self) -> list[str]:
        """Warnings about the samples that were read, one sentence each."""
        return self._remarks + self._mix.losses(self.rate)

    def tags(self) -> dict[str, str]:
        """What the source says of itself, as `read_tags` gives it; nothing of a stream."""
        tags = read_tags(self._path) if self._path and self._path.is_file() else {}
        for name in sorted(tags, key=lambda name: -len(tags[name])):
            if len(json.dumps(tags)) > _MAX_TAGS:
                del tags[name]
                self._remarks.append(f"its tag {name} is too long to be kept")
        return tags

    def blocks(self, seconds: float = BLOCK_SECONDS) -> Iterator[Samples]:
        """Mono float32 samples (n,), at most ``seconds`` at a time."""
        part: _Part | None = self._first
        while part is not None:
            # A later stream may have another rate.
            resampler = Resampler(part.rate, self.rate)
            for block in self._blocks_of(part, max(1, round(seconds * part.rate))):
                yield from self._taken(resampler(self._mix(block)))
            yield from self._taken(resampler(np.zeros(0, np.float32), last=True))
            self.missing_frames += part.missing
            self.damages += part.damages
            with self._errors():
                part = next(self._parts, None)
        self._mix.finish()

    def close(self) -> None:
        for resource in reversed(self._resources):
            resource.close()

    def _blocks_of(self, part: _Part, frames: int) -> Iterator[Samples]:
        while True:
            with self._errors():
                block = part.read(frames, self._channel)
            if not len(block):
                return
            yield block

    def _taken(self, samples: Samples) -> Iterator[Samples]:
        self.taken += len(samples)
        if len(samples):
            yield samples

    def _begin(self, stream: BinaryIO, raw: tuple[int, str] | None) -> Iterable[_Part]:
        """The streams of an open source, one by one."""
        source = Source(stream)
        if raw is not None:
            rate, kind = raw
            return [_Pcm(source, Header(rate, 1, RAW_FORMATS[kind], 0, 0, False), True)]
        about = os.fstat(stream.fileno()) if self._path else None
        size = about.st_size if about and stat.S_ISREG(about.st_mode) else None
        if not source.peek(1):
            raise AudioError("the file is empty" if self._path else "no audio came")
        begin = 0
        while tag := tag_before(source.peek(10)):
            begin += source.skip(tag)
        if source.peek(4) == _PCX_MAGIC:
            raise AudioError("is a .pcx stream already; `pcodec decode` makes audio of it")
        header = read_header(source)
        if header is not None and header.encoding is not None:
            return [self._pcm(source, header, None if size is None else size - begin)]
        in_ogg = is_ogg_flac(source)
        if source.peek(4) == b"OggS" and size is None and not in_ogg:
            return _ogg_parts(source)
        # libsndfile seeks.
        file: BinaryIO
        if size is not None and self._path is not None and not in_ogg:
            file = self._path.open("rb")
            self._resources.append(file)
            return self._library(file, begin, header)
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._resources.append(file)
        portions = iter(lambda: source.read_some(1 << 20), b"")
        file.writelines(flac_of_ogg(source) if in_ogg else portions)
        return self._library(file, 0, header)

    def _pcm(self, source: Source, header: Header, size: int | None) -> _Pcm:
        """Samples that need no library, in a file of so many bytes, or a stream."""
        source.skip(header.offset)
        if not header.channels or not header.rate:
            raise AudioError(f"its header states {header.channels} channels, {header.rate} Hz")
        endless = self._ignore_length
        if not header.known and not endless:
            endless = not header.size and not header.is_end(source)
            if endless and size is not None:
                self._remarks.append(
                    "its header states no samples; what follows it is taken for samples"
                )
        part = _Pcm(source, header, endless)
        if size is not None:
            here = size - header.offset
            bounded = header.known and not endless
            self.frames = (min(here, header.size) if bounded else here) // part.frame
        elif header.known and not endless:
            self.frames = header.size // part.frame
        return part

    def _library(self, file: BinaryIO, begin: int, header: Header | None) -> Iterable[_Part]:
        """A stream that libsndfile decodes, in a file after ``begin`` bytes."""
        links = find_links(file)
        if links is not None:
            parts = [_Library(link.data, link) for link in links]
            lengths = [part.frames for part in parts]
            if None not in lengths:
                self.frames = sum(length or 0 for length in lengths)
            return parts
        end = file.seek(0, os.SEEK_END)
        head = b""
        damages = []
        if header is not None:
            file.seek(begin)
            head = file.read(header.offset)
            if header.known and begin + header.offset + header.size > end:
                cut = begin + header.offset + header.size - end
                damages.append(f"cut off: {cut} bytes are missing")
            elif header.known:
                file.seek(begin + header.offset + header.size)
                damages += _excess_damage(header.excess(Source(file)))
            else:
                head = with_size(head, end - begin - header.offset)
        target: Path | Window = Window(file, begin + len(head), end, head)
        if self._path is not None and not begin and not head:
            target = self._path  # its suffix helps libsndfile
        part = _Library(target, damages=damages)
        if part.frames == 0 and header is not None and end - begin - header.offset > 1000:
            raise AudioError("its header states no samples, though it is not empty")
        self.frames = part.frames
        return [part]

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns errors into an AudioError that names the source."""
        try:
            yield
        except AudioError as error:
            raise AudioError(f"{self.name}: {error}") from error
        except soundfile.LibsndfileError as error:
            text = error.error_string
            if error.code == _UNRECOGNISED:
                text = f"not audio of a type that is read here; ffmpeg may read it: {self._hint()}"
            raise AudioError(f"{self.name}: {text}") from error
        except TypeError:  # soundfile asks so for the rate of what is called .raw
            raise AudioError(f"{self.name}: headerless samples need --raw and --rate") from None
        except IsADirectoryError:
            raise AudioError(f"{self.name}: is a folder; give -r and -d DIR") from None
        except OSError as error:
            text = error.strerror or str(error)
            raise AudioError(f"{self.name}: cannot be read: {text}") from error

    def _hint(self) -> str:
        """The ffmpeg command that converts the source."""
        name, out = self._path or "-", self._path.with_suffix(".pcx") if self._path else "-"
        words = (shlex.quote(shown(word)) for word in (name, out))
        return "ffmpeg -i {} -f wav - | pcodec encode - {}".format(*words)


class _Part(Protocol):
    """One stream of a source."""

    rate: int
    channels: int
    missing: int
    """Frames missing of those that its header states; known at the end."""
    damages: list[str]

    def read(self, frames: int, channel: int | None) -> Samples:
        """The next frames, at most ``frames``: (n, channels), or (n, 1) of one channel."""


class _Pcm:
    """Samples that need no library."""

    def __init__(self, source: Source, header: Header, endless: bool) -> None:
        """endless: read to the end, whatever size the header states."""
        assert header.encoding is not None
        self._source, self._header, self._encoding = source, header, header.encoding
        self.rate, self.channels = header.rate, header.channels
        self.frame = header.channels * bytes_of(header.encoding)
        self._left = None if endless else header.size // self.frame * self.frame
        self.missing = 0
        self.damages: list[str] = []

    def read(self, frames: int, channel: int | None) -> Samples:
        size = frames * self.frame
        if self._left is not None and size > self._left:
            size = self._left
            if size < self.frame and not self._header.known and not self._is_end():
                self._left, size = None, frames * self.frame
        data = self._source.read(size)
        if self._left is not None:
            self._left -= len(data)
            if len(data) < self.frame:
                self._finish()
        return from_bytes(data, self._encoding, self.channels, channel)

    def _is_end(self) -> bool:
        return self._header.is_end(self._source)

    def _finish(self) -> None:
        assert self._left is not None
        if self._left and self._header.known:
            self.missing = -(-self._left // self.frame)  # an incomplete frame is missing
            self.damages.append(f"cut off: {self.missing} frames are missing")
        elif self._header.known:
            self._source.skip(self._header.size % self.frame)
            self.damages += _excess_damage(self._header.excess(self._source))


def _excess_damage(size: int) -> list[str]:
    if not size:
        return []
    return [
        f"{size} bytes follow the samples that its header states and are left out;"
        " --ignore-length takes them for samples"
    ]


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """A file of libsndfile that is only read forwards, as one without a length cannot seek."""

    def seekable(self) -> bool:
        return False


class _Library:
    """A stream that libsndfile decodes."""

    def __init__(
        self, source: Path | Window, link: Link | None = None, damages: Iterable[str] = ()
    ) -> None:
        self._window = source if isinstance(source, Window) else None
        self._file = self._checked(
            lambda: _Forward(os.fsencode(source) if isinstance(source, Path) else source)
        )
        self.rate, self.channels = self._file.samplerate, self._file.channels
        self._stated = link.frames if link else None
        self.frames: int | None = self._stated or self._file.frames
        if self.frames == np.iinfo(np.int64).max:
            self.frames = None
        self._taken = 0
        self.missing = link.missing if link else 0
        self.damages = list(damages)

    def _checked(self, do: Callable[[], _T]) -> _T:
        """Runs a call of libsndfile; raises the error of the file."""
        try:
            return do()
        finally:
            if self._window is not None and self._window.error is not None:
                raise self._window.error

    def read(self, frames: int, channel: int | None) -> Samples:
        beyond = self._stated is not None and self._taken >= self._stated
        if self._stated is not None and not beyond:
            frames = min(frames, self._stated - self._taken)
        try:
            block = self._checked(lambda: self._file.read(frames, "float32", always_2d=True))
        except soundfile.LibsndfileError:
            if not beyond:
                raise
            self.damages.append("what follows its last frame is no audio and is left out")
            block = np.zeros((0, self.channels), np.float32)
        self._taken += len(block)
        if not len(block):
            self._finish()
        return block if channel is None else block[:, channel : channel + 1]

    def _finish(self) -> None:
        self._file.close()
        more = self._taken - (self._stated or self._taken)
        if more < 0:
            self.missing = -more
        elif more:
            self.damages.append(f"its header states {more} frames fewer than there are")
        if self.missing:
            self.damages.append(f"cut off: {self.missing} frames are missing")


def _ogg_parts(source: Source) -> Iterator[_Part]:
    """The links of an Ogg stream, decoded one after the other as they arrive."""
    pages = _OggPages(source)
    while (descriptor := pages.next_link()) is not None:
        yield _LiveOgg(descriptor, pages)
    if pages.error is not None:
        raise pages.error


class _OggPages:
    """Passes the pages of an Ogg stream on, each of its links through a pipe of its own."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._links: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._out: BinaryIO | None = None
        self.error: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def next_link(self) -> int | None:
        """The descriptor that the next link can be read from; None if none follows."""
        return self._links.get()

    def stop(self) -> None:
        """Ends the link that is being read, which its reader waits for."""
        if self._out is not None:
            self._out.close()

    def _run(self) -> None:
        try:
            for page in ogg_pages(self._source):
                if page.begins or self._out is None:
                    self.stop()
                    read_end, write_end = os.pipe()
                    self._out = os.fdopen(write_end, "wb", buffering=0)
                    self._links.put(read_end)
                with contextlib.suppress(BrokenPipeError):  # of this link no more is wanted
                    self._out.write(page.data)
        except Exception as error:
            self.error = error
        self.stop()
        self._links.put(None)


class _LiveOgg:
    """A link of an Ogg stream that comes through a pipe."""

    missing = 0

    def __init__(self, descriptor: int, pages: _OggPages) -> None:
        self._pages = pages
        self._file = self._interruptible(lambda: _Forward(descriptor))
        self.rate, self.channels = self._file.samplerate, self._file.channels
        self.damages: list[str] = []

    def read(self, frames: int, channel: int | None) -> Samples:
        block = self._interruptible(lambda: self._file.read(frames, "float32", always_2d=True))
        if not len(block):
            self._file.close()
        return block if channel is None else block[:, channel : channel + 1]

    def _interruptible(self, do: Callable[[], _T]) -> _T:
        """Runs a call of libsndfile in a thread, so that a signal can interrupt the wait."""
        results: list[_T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(do())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            thread.join()
        except BaseException:
            self._pages.stop()
            thread.join()
            raise
        if errors:
            raise errors[0]
        return results[0]
