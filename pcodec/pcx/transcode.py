"""Audio to a .pcx stream, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from pcodec import models
from pcodec.audio.pcm import Samples
from pcodec.audio.resample import Resampler, resampled_length
from pcodec.codec import Codec, checked_rate
from pcodec.errors import FormatError
from pcodec.models import Model
from pcodec.pcx.blocks import Damage, Piece
from pcodec.pcx.compact import entropy_model, strength_for
from pcodec.pcx.compact import load as load_entropy
from pcodec.pcx.layout import Header
from pcodec.pcx.packing import Indices
from pcodec.pcx.parser import Parser
from pcodec.pcx.seek import seek
from pcodec.pcx.writer import Writer
from pcodec.runtime.entropy import EntropyModel
from pcodec.runtime.state import Array
from pcodec.streams import CHUNK_COLUMNS, LatentStream, StreamDecoder, StreamEncoder

BLOCK_COLUMNS, COMPACT_BLOCK_COLUMNS = 32, 64
"""Default columns of a block. Each one of kind C begins without a past to foretell it from, so
these are longer."""

CHOSEN_TOGETHER = 8
"""Blocks whose indices are chosen side by side."""

RESAMPLER_COLUMNS = 8
"""Columns (256 ms) that a resampler needs before its output no longer depends on its start."""


def encode_stream(
    codec: Codec,
    blocks: Iterable[Samples],
    source_rate: int,
    out: BinaryIO,
    block_columns: int | None = None,
    serial: int = 0,
    compact: bool = False,
    bit_rate: float | None = None,
    strength: float = 0.0,
) -> Writer:
    """Encodes mono blocks at a source rate into a .pcx stream, as they come.

    block_columns: of a block; None for the default. compact: whether to code the indices by how
    likely they are, in fewer bytes. bit_rate: bit/s that this shall take on average over speech, by
    choosing indices that are likelier; or strength: how much a bit counts then, see
    `EntropyModel.choose`. PcodecError if the model cannot.
    """
    if bit_rate is not None:
        compact, strength = True, strength_for(codec.model, bit_rate)
    source_rate = checked_rate(source_rate)
    resampler = Resampler(source_rate, codec.config.sample_rate)
    entropy = load_entropy(codec.model) if compact else None
    header = codec.model.header(
        source_rate,
        block_columns=block_columns or (COMPACT_BLOCK_COLUMNS if compact else BLOCK_COLUMNS),
        serial=serial,
        entropy_id=codec.model.entropy_id if compact else None,
    )
    writer = Writer(out, header, entropy)
    chooses = entropy is not None and strength > 0
    with LatentStream(codec) if chooses else codec.stream_encoder() as encoder:
        columns = _columns(encoder, resampler, blocks)
        if entropy is not None and chooses:
            distances = codec.encoder.quantizer.distances
            columns = _chosen(columns, header.block_columns, entropy, distances, strength)
        for part in columns:
            writer.write(part)
    writer.finish(resampler.given, {"source_frames": resampler.taken})
    return writer


def _columns(
    encoder: StreamEncoder, resampler: Resampler, blocks: Iterable[Samples]
) -> Iterator[Array]:
    """What an encoder makes of mono blocks at a source rate, as they come."""
    for block in blocks:
        yield encoder.push(resampler(block))
    yield encoder.push(resampler(np.zeros(0, np.float32), last=True))
    yield encoder.finish()


def _chosen(
    latents: Iterable[Array],
    columns: int,
    entropy: EntropyModel,
    distances: Callable[[Array], Array],
    strength: float,
) -> Iterator[Indices]:
    """Latents (n, rows, dim) as they come to indices that take fewer bits, in blocks of columns."""
    waiting: list[Array] = []
    for part in latents:
        waiting.append(part)
        if sum(map(len, waiting)) >= CHOSEN_TOGETHER * columns:
            ready = np.concatenate(waiting)
            whole = len(ready) // columns * columns
            yield from entropy.choose(_split(ready[:whole], columns), distances, strength)
            waiting = [ready[whole:]]
    yield from entropy.choose(_split(np.concatenate(waiting), columns), distances, strength)


def _split(latents: Array, columns: int) -> list[Array]:
    return [latents[i : i + columns] for i in range(0, len(latents), columns)]


class PcxReader:
    """A .pcx stream on its way to samples: `header`, `rate`, `blocks`, then `damages`."""

    def __init__(
        self,
        stream: BinaryIO,
        model: Model | None = None,
        vocoder: str = "spectral",
        rate: int | None = None,
        start: float = 0.0,
        end: float | None = None,
        on_error: str = "conceal",
        device: str = "cpu",
        threads: int | None = None,
        codec: Codec | None = None,
    ) -> None:
        """Reads the header and finds the model.

        rate: Hz of the samples; None is the source's. start, end: seconds, sample-exact; what
        lies before is passed over fast if the stream can seek. on_error: "conceal" lost
        columns, fill them with "silence", or "stop" with a FormatError.
        """
        self._stream, self._on_error = stream, on_error
        self._model, self._given = model, codec
        # Of a file that was read from already, no place is known by its number.
        self._seekable = start > 0 and stream.seekable() and stream.tell() == 0
        self.parser = Parser(entropy=self._entropy_model)
        self._first: list[Piece] = []
        self._drop = self._column = 0
        while self.parser.header is None:
            data = _read_some(stream)
            self._first += self.parser.feed(data) if data else self.parser.close()
        self.header: Header = self.parser.header
        if codec is None or not codec.model.fits(self.header):
            codec = Codec(models.for_header(self.header, model), vocoder, device, threads)
        self.codec = codec
        self.rate = rate or self.header.source_rate
        self._start = round(start * self.rate)
        self._end = None if end is None else round(end * self.rate)

    @property
    def damages(self) -> list[Damage]:
        """What was wrong so far with the part that was asked for."""
        column = self.header.column_samples / self.header.sample_rate * self.rate
        return [
            damage
            for damage in self.parser.damages
            if (self._end is None or damage.first_column * column < self._end)
            and (damage.first_column + max(1, damage.columns)) * column > self._start
        ]

    def _entropy_model(self, header: Header) -> EntropyModel:
        given = self._given
        fits = self._model is None and given is not None and given.model.fits(header)
        return entropy_model(header, given.model if fits and given else self._model)

    def _pieces(self) -> Iterator[Piece]:
        yield from _joined(self._first)
        while data := _read_some(self._stream):
            yield from _joined(self.parser.feed(data))
        yield from _joined(self.parser.close())

    def _length(self) -> int:
        """Samples of the whole stream at the wanted rate, known at its end."""
        samples, frames = self.parser.samples, self.parser.tags.get("source_frames")
        source, codec = self.header.source_rate, self.header.sample_rate
        if self.rate != source:
            return resampled_length(samples, codec, self.rate)
        if isinstance(frames, int) and resampled_length(frames, source, codec) == samples:
            return frames
        return samples * source // codec

    def _skip(self) -> int:
        """Seeks; the first sample, at the wanted rate, of what will be decoded."""
        header, warm_up = self.header, self.codec.warm_up + RESAMPLER_COLUMNS
        if not self._seekable:
            return 0
        # Start where a column starts on a whole sample of the wanted rate.
        step = header.sample_rate // np.gcd(header.sample_rate, header.column_samples * self.rate)
        column = self._start * header.sample_rate // self.rate // header.column_samples - warm_up
        column = self._column = max(0, int(column // step * step))
        if column:
            first = seek(self._stream, header, column)
            self.parser = Parser(header, first, self._entropy_model)
            self._first = []
            self._drop = column - first
        return column * header.column_samples * self.rate // header.sample_rate

    def blocks(self) -> Iterator[Samples]:
        """Samples (n,) at the wanted rate, as they become known."""
        position = self._skip() if self._start else 0
        drop = self._drop
        resampler = Resampler(self.header.sample_rate, self.rate)
        with self.codec.stream_decoder(self._column) as decoder:
            for piece in self._pieces():
                if drop >= piece.columns:
                    drop -= piece.columns
                    continue
                for samples in self._samples(decoder, piece, drop):
                    block = resampler(samples)
                    yield from self._cut(block, position)
                    position += len(block)
                    if self._end is not None and position >= self._end:
                        self._stop_if_damaged()
                        return
                drop = 0
            self._stop_if_damaged()
            samples = decoder.finish()
        block = np.concatenate([resampler(samples), resampler(np.zeros(0, np.float32), last=True)])
        block = block[: max(0, self._length() - position)]
        if self._start and self._start >= position + len(block):
            end = self._length() / self.rate
            raise FormatError(f"the start lies behind the end, at {end:.2f} s")
        yield from self._cut(block, position)

    def _samples(self, decoder: StreamDecoder, piece: Piece, drop: int) -> Iterator[Samples]:
        """Samples of a piece without its first columns; long gaps in portions."""
        if piece.indices is not None:
            yield decoder.push(piece.indices[drop:])
            return
        self._stop_if_damaged()
        for start in range(drop, piece.columns, CHUNK_COLUMNS):
            count = min(CHUNK_COLUMNS, piece.columns - start)
            yield decoder.conceal(count, self._on_error == "silence")

    def _stop_if_damaged(self) -> None:
        if self._on_error == "stop" and self.damages:
            raise FormatError(f"damaged: {self.damages[0].reason}")

    def _cut(self, block: Samples, position: int) -> Iterator[Samples]:
        """What of a block at a position lies between start and end."""
        low = max(0, self._start - position)
        high = len(block) if self._end is None else min(len(block), self._end - position)
        if low < high:
            yield block[low:high]


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Pieces that came at once, as few: the networks are faster on many columns."""
    waiting: list[Piece] = []
    for piece in [*pieces, None]:
        full = sum(p.columns for p in waiting) >= CHUNK_COLUMNS
        if waiting and (full or piece is None or piece.indices is None):
            indices = np.concatenate([p.indices for p in waiting if p.indices is not None])
            yield Piece(waiting[0].first_column, len(indices), indices)
            waiting = []
        if piece is not None and piece.indices is None:
            yield piece
        elif piece is not None:
            waiting.append(piece)


def _read_some(stream: BinaryIO) -> bytes:
    """What a stream has now, up to 64 KiB; b"" at its end."""
    read: Any = getattr(stream, "read1", stream.read)
    data: bytes = read(1 << 16)
    return data
