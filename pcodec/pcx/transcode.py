"""Encodes audio into a .pcx stream, and decodes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from pcodec import models
from pcodec.audio.pcm import Samples
from pcodec.audio.resample import Resampler, resampled_length
from pcodec.audio.tags import known_tags
from pcodec.codec import Codec, checked_rate
from pcodec.errors import FormatError, ModelMismatchError, PcodecError, needs_extra
from pcodec.models import Model
from pcodec.pcx.blocks import Piece
from pcodec.pcx.chain import Chain, Fault, Rest
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

if TYPE_CHECKING:
    from pcodec.search import SearchStream

BLOCK_COLUMNS, COMPACT_BLOCK_COLUMNS = 32, 64
"""Default columns per block. A block of type C starts without context for its probabilities, so
compact streams have longer blocks."""

CHOSEN_TOGETHER = 8
"""Blocks per batch when indices are chosen for fewer bits."""

RESAMPLER_COLUMNS = 8
"""Columns (256 ms) that a resampler needs before its output no longer depends on its start."""


def encode_stream(
    codec: Codec,
    blocks: Iterable[Samples],
    source_rate: int,
    out: BinaryIO,
    block_columns: int | None = None,
    serial: int = 0,
    *,
    tags: dict[str, str] | None = None,
    compact: bool = False,
    bit_rate: float | None = None,
    strength: float = 0.0,
    search: int = 0,
) -> Writer:
    """Encodes mono blocks (n,) at a source rate into a .pcx stream, as they arrive.

    block_columns: columns per block; None for the default. tags: such as the title. compact:
    whether to entropy-code the indices. bit_rate: average bit/s for speech, reached by choosing
    likelier indices; implies ``compact``. strength: the same as a weight of bits, see
    `EntropyModel.choose`. search: iterations of a search for better indices, see `pcodec.search`;
    0 for none. PcodecError if the model has no entropy model or not this bit rate, or if torch is
    missing.
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
    if tags:
        writer.tag(tags)
    chooses = entropy is not None and strength > 0
    with _encoder(codec, chooses, search) as encoder:
        columns = _columns(encoder, resampler, blocks)
        quantizer = codec.encoder.quantizer
        if entropy is not None and chooses:
            columns = _chosen(columns, header.block_columns, entropy, quantizer.distances, strength)
        elif search:
            columns = map(quantizer.indices, columns)
        for part in columns:
            writer.write(part)
    writer.finish(resampler.given, {"source_frames": resampler.taken})
    return writer


def _encoder(codec: Codec, chooses: bool, search: int) -> StreamEncoder | SearchStream:
    """An encoder of a stream; it gives latents if indices are chosen later, or searched for."""
    if search:
        return load_search(codec.model)(codec, search)
    return LatentStream(codec) if chooses else codec.stream_encoder()


def load_search(model: Model) -> type[SearchStream]:
    """`SearchStream`; PcodecError if what it needs is not installed, or not in the model."""
    if "spectral" not in model.vocoders:
        raise PcodecError(f"model {model.name} has no spectral vocoder to search with")
    try:
        from pcodec.search import SearchStream
    except ModuleNotFoundError as error:
        raise needs_extra("a search", "train", error) from error
    return SearchStream


def _columns(
    encoder: StreamEncoder | SearchStream, resampler: Resampler, blocks: Iterable[Samples]
) -> Iterator[Array]:
    """The columns that an encoder makes of mono blocks at a source rate, as they arrive."""
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
    """Decodes a .pcx stream: `header` and `rate` are set at once, `blocks` returns the samples.

    `tags` and `damages` are complete after `blocks`. In a chain of streams, each is decoded by its
    own model; `header` and `rate` are those of the first.
    """

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

        rate: of the output in Hz; None for the source's. start, end: in seconds, exact to the
        sample; a stream that can seek is not decoded from its beginning. on_error: "conceal"
        lost columns, fill them with "silence", or "stop" with a FormatError.
        """
        self._stream, self._on_error = stream, on_error
        # Offsets count from the first byte, so the file must not have been read from.
        self._seekable = start > 0 and stream.seekable() and stream.tell() == 0
        self._model, self._options = model, (vocoder, device, threads)
        self._codecs = [] if codec is None else [codec]
        self.chain = Chain(entropy=self._entropy_model)
        self._portions = self.chain.read(stream)
        self._first: list[tuple[Parser, list[Piece]]] = []
        self._tagged = self.chain.parser
        while self.chain.header is None:
            self._first.append(next(self._portions))
        self.header: Header = self.chain.header
        self.codec = self._codec_of(self.header)
        self.rate = rate or self.header.source_rate
        self._start = round(start * self.rate)
        self._end = None if end is None else round(end * self.rate)
        self._number = 1
        """Number of the first link that is decoded."""
        self._column = self._drop = 0
        """First column to decode; columns to drop between the first block and it."""
        self._position = self._total = 0
        """Samples at the output rate: decoded or skipped so far; in total, once known."""

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the audio, as far as they were read; this encoder writes them first."""
        return known_tags(self._tagged.tags)

    @property
    def damages(self) -> list[Fault]:
        """Faults found so far between ``start`` and ``end``."""
        column = self.header.column_samples / self.header.sample_rate
        return [
            fault
            for fault in self.chain.faults
            if (self._end is None or fault.start * self.rate < self._end)
            and max(fault.end, fault.start + column) * self.rate > self._start
        ]

    def _entropy_model(self, header: Header) -> EntropyModel:
        own = self._codec_of(header).model
        return entropy_model(header, own if own.entropy_id == header.entropy_id else self._model)

    def _codec_of(self, header: Header) -> Codec:
        for codec in self._codecs:
            if codec.model.fits(header):
                return codec
        self._codecs.append(Codec(models.for_header(header, self._model), *self._options))
        return self._codecs[-1]

    def _length(self, parser: Parser) -> int:
        """Length at the output rate of a stream that was read to its end, in samples."""
        header, samples, frames = (
            parser.known_header,
            parser.samples,
            parser.tags.get("source_frames"),
        )
        source, codec = header.source_rate, header.sample_rate
        if self.rate != source:
            return resampled_length(samples, codec, self.rate)
        if isinstance(frames, int) and resampled_length(frames, source, codec) == samples:
            return frames
        return samples * source // codec

    def _skip(self) -> None:
        """Seeks to a block shortly before the start."""
        offset, header = 0, self.header
        column = self._column_before(header, self._start)
        if not column:
            return
        first = seek(self._stream, header, column)
        if not first:  # no index, or the start is in a later link of a chain
            offset, header = self._find_link()
            column = self._column_before(header, self._start - self._position)
            first = seek(cast(BinaryIO, Rest(self._stream, offset)), header, column)
        self._column, self._drop = column, column - first
        parser = Parser(header, first, self._entropy_model)
        where = self._number, self._position / self.rate
        self.chain = Chain(parser, *where, self._entropy_model)
        self._portions, self._first = self.chain.read(self._stream), []

    def _column_before(self, header: Header, sample: int) -> int:
        """The column to start at, so that a sample of a link is as if all had been decoded."""
        # A column that starts on a whole sample of the output rate.
        step = header.sample_rate // np.gcd(header.sample_rate, header.column_samples * self.rate)
        column = sample * header.sample_rate // self.rate // header.column_samples
        column -= self._codec_of(header).warm_up + RESAMPLER_COLUMNS
        return max(0, int(column // step * step))

    def _find_link(self) -> tuple[int, Header]:
        """Offset in the file of the link that holds the start, and the link's header.

        Sets the position to the link's first sample.
        """
        self._stream.seek(0)
        search = Chain()
        offset, link = 0, search.parser
        for parser, _ in search.read(self._stream):
            if parser is not link:
                length = self._length(link)
                if self._position + length > self._start:
                    break
                offset += link.bytes_read
                self._position += length
                link = parser
                self._number += 1
            header = link.header
            if header is not None:
                sure = (link.next_column - 1) * header.column_samples * self.rate
                if self._position + sure // header.sample_rate > self._start:
                    break
        return offset, link.known_header

    def blocks(self) -> Iterator[Samples]:
        """Samples (n,) at the output rate, as they become known."""
        if self._seekable and self._start:
            self._skip()
        portions = chain(self._first, self._portions)
        for number, (parser, group) in enumerate(groupby(portions, itemgetter(0)), self._number):
            pieces = (piece for _, found in group for piece in _joined(found))
            try:
                codec = self._codec_of(parser.known_header)
            except ModelMismatchError as error:
                where = f"stream {number}, from {self._position / self.rate:.2f} s"
                raise ModelMismatchError(f"{where}: {error}") from error
            yield from self._decoded(codec, parser, pieces)
            if self._end is not None and self._position >= self._end:
                return
        if self._start and self._start >= self._position:
            start, end = self._start / self.rate, self._total / self.rate
            raise FormatError(f"the start ({start:.2f} s) is after the end ({end:.2f} s)")

    def _decoded(self, codec: Codec, parser: Parser, pieces: Iterable[Piece]) -> Iterator[Samples]:
        """The samples of one link between ``start`` and ``end``."""
        header, begin = parser.known_header, self._position
        column, drop = self._column, self._drop
        self._column = self._drop = 0
        self._position += column * header.column_samples * self.rate // header.sample_rate
        resampler = Resampler(header.sample_rate, self.rate)
        with codec.stream_decoder(column) as decoder:
            for piece in pieces:
                if drop >= piece.columns:
                    drop -= piece.columns
                    continue
                for samples in self._samples(decoder, piece, drop):
                    yield from self._cut(resampler(samples))
                    if self._end is not None and self._position >= self._end:
                        self._stop_if_damaged()
                        return
                drop = 0
            self._stop_if_damaged()
            samples = decoder.finish()
        block = np.concatenate([resampler(samples), resampler(np.zeros(0, np.float32), last=True)])
        self._total = begin + self._length(parser)
        yield from self._cut(block[: max(0, self._total - self._position)])

    def _samples(self, decoder: StreamDecoder, piece: Piece, drop: int) -> Iterator[Samples]:
        """Samples of a piece after its first ``drop`` columns; long gaps in parts."""
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

    def _cut(self, block: Samples) -> Iterator[Samples]:
        """The part of the next samples between ``start`` and ``end``."""
        low = max(0, self._start - self._position)
        high = len(block) if self._end is None else min(len(block), self._end - self._position)
        self._position += len(block)
        if low < high:
            yield block[low:high]


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Joins consecutive pieces, because the networks are faster on many columns."""
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
