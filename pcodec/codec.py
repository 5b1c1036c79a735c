"""The whole path: audio -> mel -> latents -> indices, and back; offline and streaming.

Offline is a stream of one push: there is no other implementation.
"""

from __future__ import annotations

import io
import operator
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from pcodec import models
from pcodec.audio.pcm import Samples, clean
from pcodec.audio.resample import Resampler, resampled_length
from pcodec.cores import cores
from pcodec.errors import AudioError, FormatError, PcodecError
from pcodec.models import Model
from pcodec.pcx.blocks import Damage, Piece
from pcodec.pcx.layout import MAX_RATE, Header
from pcodec.pcx.packing import Indices, check_indices, unpack
from pcodec.pcx.parser import Parser
from pcodec.pcx.seek import seek
from pcodec.pcx.writer import Writer
from pcodec.runtime.graph import Processor
from pcodec.runtime.spectral import Concealment, Decoder, Encoder, HifiGan, SpectralVocoder
from pcodec.runtime.state import Array, Past

if TYPE_CHECKING:
    from typing_extensions import Self

CHUNK_COLUMNS = 128
"""Columns that go through the networks at once: enough for speed, little memory."""

MOST_THREADS = 8
"""of a network, unless more are asked for; its products are small"""

# What a stream remembers beside what its networks do.
FRAMES = "frames that are no whole column yet"
LATENTS, LOST = "latents of the last columns", "whether these were lost"
LEVEL = "what is to be added to frames that the decoder looks ahead of"


class Synthesizer:
    """What a decoder runs: indices to mels, mels to samples, and what stands in for lost ones."""

    VOCODERS: ClassVar[dict[str, type[SpectralVocoder | HifiGan]]] = {
        "spectral": SpectralVocoder,
        "hifigan": HifiGan,
    }

    def __init__(self, model: Model, vocoder: str, processor: Processor) -> None:
        """PcodecError if the model lacks the vocoder."""
        if vocoder not in model.vocoders:
            raise PcodecError(f"model {model.name} has no vocoder {vocoder!r}")
        what = model.config, model.folder, processor
        self.decoder = Decoder(*what)
        self.vocoder = self.VOCODERS[vocoder](*what)
        there = (model.folder / "concealment.safetensors").exists()
        self.concealment = Concealment(*what) if there else None


class Codec:
    """A loaded model. Encoder and decoder are read when they are first used.

    Safe to use from many threads; a stream object belongs to one thread at a time.
    """

    def __init__(
        self,
        model: Model,
        vocoder: str = "spectral",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """device: "cpu", "cuda" or "auto"; PcodecError if it is not there.

        threads: that a network computes with; None for one a core, up to `MOST_THREADS`.
        """
        self.model, self.config, self.vocoder = model, model.config, vocoder
        self.processor = Processor.of(threads or min(MOST_THREADS, cores()), device)
        self._loading = threading.Lock()

    @property
    def encoder(self) -> Encoder:
        """The encoder's networks; PcodecError if they are not those of config.json."""
        with self._loading:
            return self._encoder

    @property
    def decoder(self) -> Synthesizer:
        """The decoder's networks; PcodecError if the model lacks the vocoder."""
        with self._loading:
            return self._decoder

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = Encoder(self.config, self.model.folder, self.processor)
        if encoder.bitstream_id != self.model.bitstream_id:
            text = "the weights are not those of config.json"
            raise PcodecError.of_file(self.model.folder, text)
        return encoder

    @cached_property
    def _decoder(self) -> Synthesizer:
        return Synthesizer(self.model, self.vocoder, self.processor)

    def stream_encoder(self) -> StreamEncoder:
        """An encoder of one stream: samples in, columns out."""
        return StreamEncoder(self)

    def stream_decoder(self, column: int = 0) -> StreamDecoder:
        """A decoder of one stream: columns in, samples out.

        column: the number of the first one, of a stream that is not decoded from its start.
        """
        return StreamDecoder(self, column)

    def to_tokens(self, wav: NDArray[Any], rate: int = 16000) -> Indices:
        """Audio (frames,) or (frames, channels) -> indices (columns, rows).

        AudioError if it, or its rate in Hz, cannot be coded.
        """
        frames, _ = clean(wav)
        rate = checked_rate(rate)
        with self.stream_encoder() as encoder:
            resampled = Resampler(rate, self.config.sample_rate)(frames, last=True)
            return np.concatenate([encoder.push(resampled), encoder.finish()])

    def from_tokens(self, tokens: Indices) -> Samples:
        """Indices (columns, rows) -> samples at the codec's rate."""
        with self.stream_decoder() as decoder:
            return np.concatenate([decoder.push(tokens), decoder.finish()])

    @property
    def latency(self) -> int:
        """Algorithmic latency in samples: the most that any output sample waits for.

        A column is encoded when the last of its frames is complete, which is the front
        end's overhang after its last sample. Its samples come out as far as the decoder
        does not look ahead at the next column, the vocoder at more frames, and the
        inverse STFT's windows overlap no missing frame.
        """
        c = self.config
        ahead = c.decoder_look_ahead * c.patch_frames + c.vocoder_look_ahead
        window_overhang = (c.window - c.hop) // 2
        synthesis_overhang = (c.vocoder_n_fft - c.hop) // 2
        return c.column_samples + window_overhang + ahead * c.hop + synthesis_overhang


class _Memory:
    """What streams that took their last step together remember, as one batch."""

    def __init__(self, past: Past) -> None:
        self.past = past

    @cached_property
    def shapes(self) -> frozenset[Any]:
        """Only streams that remember as much can take a step together."""
        return frozenset((key, memory.shape[1:]) for key, memory in self.past.items())


class _Stream:
    """A place in a memory. Offline use is a stream of one push."""

    def __init__(self, past: Past) -> None:
        self._memory, self._place = _Memory(past), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory = _Memory({})

    def _check_open(self) -> None:
        if not self._memory.past:
            raise ValueError("the stream has ended")


def _join(streams: Sequence[_Stream]) -> Past:
    """The memory of streams as one batch, theirs to change: they still share it, or a copy."""
    streams[0]._check_open()
    memory = streams[0]._memory
    places = [stream._place for stream in streams if stream._memory is memory]
    batch = len(next(iter(memory.past.values())))
    if places == list(range(batch)) and batch == len(streams):
        return memory.past
    return {
        key: np.concatenate([s._memory.past[key][s._place : s._place + 1] for s in streams])
        for key in memory.past
    }


def _share(streams: Sequence[_Stream], past: Past) -> None:
    """Gives streams their places in what they now remember."""
    memory = _Memory(past)
    for place, stream in enumerate(streams):
        stream._memory, stream._place = memory, place


class StreamEncoder(_Stream):
    """Samples at the codec's rate -> indices (columns, rows), as soon as they are known."""

    def __init__(self, codec: Codec) -> None:
        bins = codec.config.n_fft // 2 + 1
        super().__init__({FRAMES: np.zeros((1, 0, bins))})
        self._codec, self._encoder = codec, codec.encoder
        self._most = CHUNK_COLUMNS * codec.config.column_samples
        self._taken = 0

    def push(self, samples: Samples) -> Indices:
        """The next samples (n,), any n; `clean` makes of them what can be coded."""
        return self._push(clean(samples)[0], last=False)

    def finish(self) -> Indices:
        """Ends the stream; the last column is filled with silence."""
        with self:
            missing = -self._taken % self._codec.config.column_samples
            return self._push(np.zeros(missing, np.float32), last=True)

    def _push(self, samples: Samples, last: bool) -> Indices:
        config = self._codec.config
        out = [np.zeros((0, config.rows), np.uint16)]
        step = self._most
        pieces = [samples[i : i + step] for i in range(0, len(samples), step)] or [samples]
        for i, piece in enumerate(pieces):
            out += self._step([self], [piece], last and i == len(pieces) - 1)
        return np.concatenate(out)

    def _key(self, samples: Samples) -> Any:
        """Streams of the same key can take a step together."""
        return id(self._codec), len(samples), self._memory.shapes

    @staticmethod
    def _step(
        streams: list[StreamEncoder], samples: list[Samples], last: bool = False
    ) -> list[Indices]:
        """The columns that samples (n,) of each stream complete."""
        encoder, config, past = streams[0]._encoder, streams[0]._codec.config, _join(streams)
        new = encoder.magnitudes(np.stack(samples), past, last)
        frames = np.concatenate([past[FRAMES], new], 1)
        whole = frames.shape[1] // config.patch_frames * config.patch_frames
        past[FRAMES] = frames[:, whole:].copy()
        indices = np.zeros((len(streams), 0, config.rows), np.uint16)
        if whole:
            indices = encoder.indices(frames[:, :whole], past)
        _share(streams, past)
        for stream in streams:
            stream._taken += len(samples[0])
        return list(indices)


class StreamDecoder(_Stream):
    """Indices (columns, rows) -> samples at the codec's rate, as soon as they are known.

    Lost columns are concealed: the model's masked network, if it has one, foresees them
    from those before, and the last of them from the one after it too, for which the decoder
    waits anyway; else the last one is repeated. A longer loss fades out.
    """

    # Per frame of 8 ms, after four columns that keep their level: -48 dB in 0.4 s.
    FADE, KEPT_FRAMES = 0.12, 16
    _most = CHUNK_COLUMNS

    def __init__(self, codec: Codec, column: int = 0) -> None:
        self._codec, self._networks = codec, codec.decoder
        config = codec.config
        past: Past = {
            LATENTS: np.zeros((1, 0, config.rows, config.latent_dim), np.float32),
            LOST: np.zeros((1, 0), bool),
            LEVEL: np.zeros((1, 0), np.float32),
        }
        self._networks.vocoder.start(past, column * config.patch_frames)
        super().__init__(past)
        self._lost_frames = 0

    def push(self, columns: Indices) -> Samples:
        """The next columns; ValueError if an index is not in the codebook."""
        columns = self._checked(columns)
        self._check_open()
        out = [np.zeros(0, np.float32)]
        for start in range(0, len(columns), CHUNK_COLUMNS):
            out += self._step([self], [columns[start : start + CHUNK_COLUMNS]])
        return np.concatenate(out)

    def _checked(self, columns: Indices) -> Indices:
        columns = np.asarray(columns)
        config = self._codec.config
        if columns.ndim != 2 or columns.shape[1] != config.rows:
            raise ValueError(f"columns of shape {columns.shape}, not (columns, {config.rows})")
        check_indices(columns, config.bits)
        return columns

    def _key(self, columns: Indices) -> Any:
        """Streams of the same key can take a step together."""
        return id(self._codec), len(columns), self._memory.shapes

    @staticmethod
    def _step(streams: list[StreamDecoder], columns: list[Indices]) -> list[Samples]:
        """The samples that columns (n, rows) of each stream complete."""
        latents = streams[0]._networks.decoder.lookup(np.stack(columns))
        if latents.shape[1]:
            for stream, own in zip(streams, latents, strict=True):
                if stream._lost_frames:
                    stream._look_back(own[None, :1])
                    stream._lost_frames = 0
        past = _join(streams)
        _remember(past, latents, lost=False)
        frames = latents.shape[1] * streams[0]._codec.config.patch_frames
        level = np.zeros((len(streams), frames), np.float32)
        return StreamDecoder._decode(streams, past, latents, level, last=False)

    def decode_packet(self, payload: bytes | None, columns: int = 1) -> Samples:
        """A packet of packed columns, or None for a lost one that held so many columns.

        ValueError if the payload is not of whole columns.
        """
        if payload is None:
            return self.conceal(columns)
        config = self._codec.config
        return self.push(unpack(payload, config.rows, config.bits))

    def conceal(self, columns: int, silence: bool = False) -> Samples:
        """Stands in for so many lost columns; ValueError if less than none."""
        columns, config = operator.index(columns), self._codec.config
        if columns < 0:
            raise ValueError(f"{columns} lost columns")
        self._check_open()
        out = [np.zeros(0, np.float32)]
        while columns > 0:
            # Where the last one received is forgotten, whatever the calls, a step ends.
            until = Concealment.HISTORY - self._lost_frames // config.patch_frames
            count = min(columns, CHUNK_COLUMNS if until <= 0 else until)
            columns -= count
            past = _join([self])
            frames = np.arange(count * config.patch_frames) + self._lost_frames
            level = -self.FADE * (frames - self.KEPT_FRAMES).clip(0)
            self._lost_frames += len(frames)
            forgotten = 0 if past[LOST].all() else Concealment.HISTORY * config.patch_frames
            level[frames >= (0 if silence else forgotten)] = -30.0
            unknown = np.zeros((1, count, config.rows, config.latent_dim), np.float32)
            before = past[LOST].shape[1]
            _remember(past, unknown, lost=True, keep=before + count)
            conceal = self._networks.concealment or Concealment.hold
            foreseen = conceal(past[LATENTS], past[LOST])[:, before:]
            _remember(past, unknown[:, :0], lost=True)
            out += self._decode([self], past, foreseen, level[None], last=False)
        return np.concatenate(out)

    def _look_back(self, latents: Array) -> None:
        """Foresees the last lost column anew: that after it, (1, 1, rows, dim), has come."""
        decoder, model = self._networks.decoder, self._networks.concealment
        if model is None or not decoder.look_ahead:
            return
        past = _join([self])
        history = np.concatenate([past[LATENTS], latents], 1)
        lost = np.pad(past[LOST], ((0, 0), (0, 1)))
        decoder.look_back(model(history, lost)[:, -2:-1], past)
        _share([self], past)

    def finish(self) -> Samples:
        """Ends the stream; gives the samples that waited for the future."""
        with self:
            past = _join([self])
            nothing = past[LATENTS][:, :0]
            return self._decode([self], past, nothing, past[LEVEL][:, :0], last=True)[0]

    @staticmethod
    def _decode(
        streams: list[StreamDecoder], past: Past, latents: Array, level: Array, last: bool
    ) -> list[Samples]:
        """Latents (streams, columns, rows, dim) -> samples; level (streams, frames) is added."""
        networks = streams[0]._networks
        mel = networks.decoder(latents, past, last)
        level = np.concatenate([past[LEVEL], level], 1, dtype=np.float32)
        mel, past[LEVEL] = mel + level[:, : mel.shape[1], None], level[:, mel.shape[1] :]
        samples = networks.vocoder(mel, past, last)
        _share(streams, past)
        return list(samples.clip(-1, 1))


def _remember(past: Past, latents: Array, lost: bool, keep: int = Concealment.HISTORY) -> None:
    """Adds columns (B, columns, rows, dim) to a decoder's history, and keeps the last ones."""
    gone = np.full(latents.shape[:2], lost)
    past[LATENTS] = np.concatenate([past[LATENTS], latents], 1)[:, -keep:].copy()
    past[LOST] = np.concatenate([past[LOST], gone], 1)[:, -keep:]


def encode_together(streams: list[StreamEncoder], samples: list[Samples]) -> list[Indices]:
    """`push` of many streams at once, whose networks then run as one batch; none twice.

    Streams that are in step, and are given as many samples, share a batch. ValueError, and no
    step, if one of them has ended.
    """
    _check_all(streams, StreamEncoder)
    return _together(streams, [clean(x)[0] for x in samples])


def decode_together(streams: list[StreamDecoder], columns: list[Indices]) -> list[Samples]:
    """The same of decoders: columns (n, rows) of each -> samples of each."""
    _check_all(streams, StreamDecoder)
    checked = [s._checked(c) for s, c in zip(streams, columns, strict=True)]
    return _together(streams, checked)


def _check_all(streams: Sequence[_Stream], kind: type[_Stream]) -> None:
    """Before any of them takes a step."""
    for stream in streams:
        if not isinstance(stream, kind):
            raise TypeError(f"a {type(stream).__name__}, not a {kind.__name__}")
        stream._check_open()


def _together(streams: Any, inputs: list[Any]) -> list[Any]:
    groups: dict[Any, list[int]] = {}
    for i, (stream, new) in enumerate(zip(streams, inputs, strict=True)):
        groups.setdefault(stream._key(new), []).append(i)
    out: list[Any] = [None] * len(inputs)
    for members in groups.values():
        some, new = [streams[i] for i in members], [inputs[i] for i in members]
        if len(new[0]) <= some[0]._most:
            results = some[0]._step(some, new)
        else:
            results = [stream.push(x) for stream, x in zip(some, new, strict=True)]
        for i, result in zip(members, results, strict=True):
            out[i] = result
    return out


def checked_rate(rate: float) -> int:
    """A sample rate in Hz; AudioError if it cannot be coded."""
    if not 0 < rate <= MAX_RATE or rate % 1:
        raise AudioError(f"a sample rate of {rate} Hz: whole ones up to {MAX_RATE} can be coded")
    return int(rate)


def encode_stream(
    codec: Codec,
    blocks: Iterable[Samples],
    source_rate: int,
    out: BinaryIO,
    block_columns: int = 32,
    serial: int = 0,
) -> Writer:
    """Encodes mono blocks at a source rate into a .pcx stream, as they come."""
    source_rate = checked_rate(source_rate)
    resampler = Resampler(source_rate, codec.config.sample_rate)
    writer = Writer(
        out, codec.model.header(source_rate, block_columns=block_columns, serial=serial)
    )
    with codec.stream_encoder() as encoder:
        for block in blocks:
            writer.write(encoder.push(resampler(block)))
        writer.write(encoder.push(resampler(np.zeros(0, np.float32), last=True)))
        writer.write(encoder.finish())
    writer.finish(resampler.given, {"source_frames": resampler.taken})
    return writer


class Decoding:
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
        # Of a file that was read from already, no place is known by its number.
        self._seekable = start > 0 and stream.seekable() and stream.tell() == 0
        self.parser = Parser()
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
        header, warm_up = self.header, 64
        if not self._seekable:
            return 0
        # Start where a column starts on a whole sample of the wanted rate.
        step = header.sample_rate // np.gcd(header.sample_rate, header.column_samples * self.rate)
        column = self._start * header.sample_rate // self.rate // header.column_samples - warm_up
        column = self._column = max(0, int(column // step * step))
        if column:
            first = seek(self._stream, header, column)
            self.parser = Parser(header, first)
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


def load(
    name: str | None = None,
    vocoder: str = "spectral",
    device: str = "cpu",
    threads: int | None = None,
) -> Codec:
    """A codec by the name of its model (or the path of its folder); the shipped one if None.

    device: "cpu", "cuda" (with onnxruntime-gpu) or "auto"; PcodecError if it is not there.
    threads: that a network computes with; None for one a core, up to `MOST_THREADS`.
    """
    return Codec(models.find(name), vocoder, device, threads)


def encode(wav: NDArray[Any], rate: int, model: str | None = None) -> bytes:
    """Audio (frames,) or (frames, channels) at a rate in Hz -> a .pcx stream."""
    mono, _ = clean(wav)
    out = io.BytesIO()
    encode_stream(load(model), [mono], rate, out)
    return out.getvalue()


def decode(data: bytes, model: str | None = None) -> tuple[Samples, int]:
    """A .pcx stream -> float32 samples (frames,) and their rate in Hz, the source's.

    Lost parts of a damaged stream are concealed; FormatError if it is none,
    ModelMismatchError if neither ``model`` nor, without one, any that is installed made it.
    """
    decoding = Decoding(io.BytesIO(data), models.find(model) if model else None)
    return np.concatenate([np.zeros(0, np.float32), *decoding.blocks()]), decoding.rate
