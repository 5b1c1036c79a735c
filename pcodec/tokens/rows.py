"""Turns clips into rows of tokens; a bad file becomes a row with an error."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from pcodec import models
from pcodec.audio.pcm import Samples
from pcodec.audio.reader import BLOCK_SECONDS, Reader
from pcodec.audio.resample import Resampler
from pcodec.codec import Codec, checked_rate
from pcodec.errors import AudioError, ModelMismatchError, PcodecError
from pcodec.pcx.blocks import grid
from pcodec.pcx.packing import Indices
from pcodec.pcx.tokens import check_whole, parse
from pcodec.tokens import storage
from pcodec.tokens.sources import PCX, Clip

TOLERANCE = 0.025
"""Seconds by which a segment may exceed its file, since lists round their numbers."""


class Row(NamedTuple):
    """The tokens of a clip."""

    id: str
    path: str
    speaker: str | None
    seconds: float
    """Seconds of the source."""
    samples: int
    """Samples at the codec's rate: the ``length`` to give to `from_tokens`."""
    tokens: Indices
    """(columns, rows)"""
    error: str | None = None
    """Why there are no tokens; None if there are."""


class Tokenizer:
    """Makes rows of clips; loads the model when it is first needed."""

    def __init__(self, model: str | None) -> None:
        """model: as `pcodec.load` takes it. PcodecError if there is none."""
        self.model = models.find(model)

    @functools.cached_property
    def codec(self) -> Codec:
        codec = Codec(self.model, threads=1)
        codec.encoder  # noqa: B018 (reads the weights now, so that their errors are not a clip's)
        return codec

    def __call__(self, clip: Clip) -> Row:
        """The row of a clip.

        OSError if a remote file cannot be reached; PcodecError if the model cannot be loaded.
        """
        is_pcx = clip.path.lower().endswith(PCX)
        codec = None if is_pcx else self.codec
        try:
            if clip.error is not None:
                raise AudioError(clip.error)
            if clip.data is None and not storage.is_remote(clip.location):
                # A clearer error than libsndfile's if there is no such file.
                Path(clip.location).stat()
            coded = self._stored(clip) if codec is None else self._encoded(clip, codec)
            return self._row(clip, *coded)
        except PcodecError as error:
            text = str(error)
        except FileNotFoundError:
            text = "no such file"
        except OSError as error:
            if storage.is_remote(clip.location):
                raise
            text = error.strerror or str(error)
        for name in (clip.location, "standard input"):  # the row has the name of the file
            text = text.removeprefix(f"{name}: ").partition("; ffmpeg")[0]
        nothing = np.zeros((0, self.model.config.rows), np.uint16)
        return self._row(clip, 0.0, 0, nothing, " ".join(text.split()))

    @staticmethod
    def _row(clip: Clip, *what: Any) -> Row:
        speaker = None if clip.speaker is None else _printable(clip.speaker)
        return Row(_printable(clip.id), _printable(clip.path), speaker, *what)

    def _stored(self, clip: Clip) -> tuple[float, int, Indices]:
        """The tokens of a .pcx file."""
        data = clip.data
        with storage.open_file(clip.location) if data is None else io.BytesIO(data) as file:
            chain, pieces = parse(file)
        check_whole(chain)
        header = chain.known_header
        if not self.model.fits(header):
            raise ModelMismatchError(
                f"the stream was made with another model, {header.bitstream_id.hex()}"
            )
        tokens: Indices = grid(pieces, header.rows).astype(np.uint16)
        seconds, frames = chain.start, chain.links[0].source_frames
        if frames is not None and len(chain.links) == 1:
            seconds = frames / header.source_rate
        return seconds, chain.samples, tokens

    def _encoded(self, clip: Clip, codec: Codec) -> tuple[float, int, Indices]:
        """The tokens of audio, in constant memory."""
        rate, blocks = _segment(clip) if _is_part(clip) else _whole(clip)
        resampler = Resampler(checked_rate(rate), self.model.config.sample_rate)
        with codec.stream_encoder() as encoder:
            tokens = [encoder.push(resampler(block)) for block in blocks]
            tokens.append(encoder.push(resampler(np.zeros(0, np.float32), last=True)))
            tokens.append(encoder.finish())
        return resampler.taken / rate, resampler.given, np.concatenate(tokens)


def _is_part(clip: Clip) -> bool:
    return clip.duration is not None or clip.start > 0 or clip.channels is not None


def _whole(clip: Clip) -> tuple[int, Iterator[Samples]]:
    """The rate of a whole file, and its samples in blocks; AudioError if it is truncated."""
    data = clip.data
    if data is None and storage.is_remote(clip.location):
        data = _fetched(clip.location)
    reader = Reader(Path(clip.location) if data is None else io.BytesIO(data))

    def blocks() -> Iterator[Samples]:
        try:
            yield from reader.blocks()
        finally:
            reader.close()
        if reader.damages:
            raise AudioError(reader.damages[0])

    return reader.rate, blocks()


def _segment(clip: Clip) -> tuple[int, Iterator[Samples]]:
    """The rate and the blocks of a part of a file, which is read from the start of the part."""
    source: Any = clip.location
    if storage.is_remote(clip.location):
        source = io.BytesIO(_fetched(clip.location))
    try:
        file = soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        raise AudioError(error.error_string) from error
    start = int(clip.start * file.samplerate + 0.5)
    wanted = None if clip.duration is None else int(clip.duration * file.samplerate + 0.5)

    def blocks() -> Iterator[Samples]:
        with file:
            try:
                file.seek(min(start, file.frames))
                taken = 0
                while wanted is None or taken < wanted:
                    size = int(BLOCK_SECONDS * file.samplerate)
                    size = size if wanted is None else min(size, wanted - taken)
                    block = file.read(size, "float32", always_2d=True)
                    if not len(block):
                        break
                    taken += len(block)
                    block = np.where(np.isfinite(block), block, np.float32(0))
                    if clip.channels is not None:
                        block = block[:, list(clip.channels)]
                    yield block.mean(1)
            except soundfile.LibsndfileError as error:
                raise AudioError(error.error_string) from error
            except IndexError:
                raise AudioError(f"has {file.channels} channels") from None
            missing = (wanted or 0) - taken
            if missing > TOLERANCE * file.samplerate or start > file.frames:
                text = f"the file ends at {file.frames / file.samplerate:.2f} s"
                raise AudioError(f"{text}, before the clip does")

    return file.samplerate, blocks()


@functools.lru_cache(maxsize=1)
def _fetched(uri: str) -> bytes:
    """A whole remote file; cached, as the next clip may be from the same file."""
    with storage.open_file(uri) as file:
        return file.read()


def _printable(text: str) -> str:
    """Text as valid UTF-8; invalid bytes, as file names may have, are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
