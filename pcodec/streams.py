"""Streams: samples or columns as they come, of one stream or of many at once.

Offline is a stream of one push: there is no other implementation.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pcodec.audio.pcm import Samples, clean
from pcodec.pcx.packing import Indices, check_indices, unpack
from pcodec.runtime.concealment import Concealment
from pcodec.runtime.state import Array, Past

if TYPE_CHECKING:
    from typing_extensions import Self

    from pcodec.codec import Codec


CHUNK_COLUMNS = 128
"""Columns that go through the networks at once: enough for speed, little memory."""

# What a stream remembers beside what its networks do.
FRAMES = "frames that are no whole column yet"
LATENTS, LOST = "latents of the last columns", "whether these were lost"
LEVEL = "what is to be added to frames that the decoder looks ahead of"


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
        if np.ma.is_masked(columns):
            raise ValueError("masked columns are lost ones: `conceal` stands in for them")
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
