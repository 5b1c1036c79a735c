"""Streaming encoders and decoders, for one stream or for many as a batch.

Coding a whole file is a stream with one push: there is no other implementation.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pcodec.audio.pcm import Samples, clean
from pcodec.pcx.packing import Indices, check_indices, column_bytes, unpack
from pcodec.runtime.concealment import Concealment
from pcodec.runtime.state import Array, State, StateKey

if TYPE_CHECKING:
    from typing_extensions import Self

    from pcodec.codec import Codec, DecoderNetworks


CHUNK_COLUMNS = 128
"""Most columns per run of the networks; more would not be faster, but take more memory."""

FRAMES = StateKey("stream encoder", "frames")
"""Spectra of frames that do not fill a column yet."""

LATENTS, LOST = StateKey("stream decoder", "latents"), StateKey("stream decoder", "lost")
"""Latents of the last columns (B, columns, rows, dim), and whether each was lost."""

LEVEL = StateKey("stream decoder", "level")
"""Fade of the log-mel, nepers, for frames that the decoder has not put out yet."""


class _Batch:
    """Streams that took their last step together, and their state."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._shapes: frozenset[tuple[StateKey, tuple[int, ...]]] | None = None

    @property
    def shapes(self) -> frozenset[tuple[StateKey, tuple[int, ...]]]:
        """Shapes of the state; only streams with equal shapes fit into one batch."""
        # Not a cached_property: before Python 3.12 all streams would share its lock, and a fork
        # could copy it while it is held.
        if self._shapes is None:
            self._shapes = frozenset((k, memory.shape[1:]) for k, memory in self.state.items())
        return self._shapes


class _Stream:
    """A stream: its place in the batch whose state it is part of."""

    def __init__(self, state: State) -> None:
        self._batch, self._place = _Batch(state), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._batch = _Batch({})

    def _check_open(self) -> None:
        if not self._batch.state:
            raise ValueError("the stream has ended")


def _gather(streams: Sequence[_Stream]) -> State:
    """The state of streams as one batch that may be changed: the one they share, or a copy."""
    streams[0]._check_open()
    memory = streams[0]._batch
    places = [stream._place for stream in streams if stream._batch is memory]
    batch = len(next(iter(memory.state.values())))
    if places == list(range(batch)) and batch == len(streams):
        return memory.state
    return {
        key: np.concatenate([s._batch.state[key][s._place : s._place + 1] for s in streams])
        for key in memory.state
    }


def _scatter(streams: Sequence[_Stream], state: State) -> None:
    """Makes a new state the batch of these streams."""
    memory = _Batch(state)
    for place, stream in enumerate(streams):
        stream._batch, stream._place = memory, place


class StreamEncoder(_Stream):
    """Samples at the codec's rate -> indices (columns, rows), as soon as they are known."""

    def __init__(self, codec: Codec) -> None:
        bins = codec.config.n_fft // 2 + 1
        super().__init__({FRAMES: np.zeros((1, 0, bins), np.complex128)})
        self._codec = codec
        _ = codec.encoder  # loads it, so that an error comes here and not at the first push
        self._max_length = CHUNK_COLUMNS * codec.config.column_samples
        self._taken = 0

    def push(self, samples: Samples) -> Indices:
        """Encodes the next samples (n,), any n; returns the columns that they complete."""
        return self._push(clean(samples), last=False)

    def finish(self) -> Indices:
        """Ends the stream; returns its last columns, the last one padded with silence."""
        with self:
            missing = -self._taken % self._codec.config.column_samples
            return self._push(np.zeros(missing, np.float32), last=True)

    def _push(self, samples: Samples, last: bool) -> Indices:
        out = [self._none()]
        step = self._max_length
        pieces = [samples[i : i + step] for i in range(0, len(samples), step)] or [samples]
        for i, piece in enumerate(pieces):
            out += self._step([self], [piece], last and i == len(pieces) - 1)
        return np.concatenate(out)

    def _none(self) -> Array:
        """No columns."""
        return np.zeros((0, self._codec.config.rows), np.uint16)

    def _columns(self, frames: Array, state: State) -> Array:
        """Spectra (B, frames, bins) of whole columns -> output of the stream for each."""
        return self._codec.encoder.indices(frames, state)

    def _key(self, samples: Samples) -> Any:
        """Streams with equal keys can take a step as one batch."""
        return id(self._codec), len(samples), self._batch.shapes

    @staticmethod
    def _step(
        streams: list[StreamEncoder], samples: list[Samples], last: bool = False
    ) -> list[Indices]:
        """Encodes samples (n,) of each stream; returns the columns that they complete."""
        codec, state = streams[0]._codec, _gather(streams)
        encoder, config = codec.encoder, codec.config
        new = encoder.spectra(np.stack(samples), state, last)
        frames = np.concatenate([state[FRAMES], new], 1)
        whole = frames.shape[1] // config.patch_frames * config.patch_frames
        state[FRAMES] = frames[:, whole:].copy()
        columns = [streams[0]._none()] * len(streams)
        if whole:
            columns = list(streams[0]._columns(frames[:, :whole], state))
        _scatter(streams, state)
        for stream in streams:
            stream._taken += len(samples[0])
        return columns


class LatentStream(StreamEncoder):
    """Samples at the codec's rate -> latents (columns, rows, dim) before quantisation."""

    def _none(self) -> Array:
        return np.zeros((0, self._codec.config.rows, self._codec.config.latent_dim))

    def _columns(self, frames: Array, state: State) -> Array:
        return self._codec.encoder.latents(frames, state)


class StreamDecoder(_Stream):
    """Indices (columns, rows) -> samples at the codec's rate, as soon as they are known.

    Lost columns are concealed. The concealment network predicts them from the columns before. It
    predicts the last lost one again when the next column arrives, because the decoder's look-ahead
    leaves time for that. Without that network the last column is repeated. Long losses fade out.
    """

    _max_length = CHUNK_COLUMNS
    """Most columns per step."""
    FADE, KEPT_FRAMES, SILENCE = 0.12, 16, -30.0
    """Fade of a loss in nepers per frame of 8 ms, -48 dB in 0.4 s; frames at full level before it;
    what is added to the log-mel for silence."""

    def __init__(self, codec: Codec, column: int = 0) -> None:
        self._codec = codec
        config = codec.config
        state: State = {
            LATENTS: np.zeros((1, 0, config.rows, config.latent_dim), np.float32),
            LOST: np.zeros((1, 0), bool),
            LEVEL: np.zeros((1, 0), np.float32),
        }
        self._networks.vocoder.start(state, column * config.patch_frames)
        super().__init__(state)
        self._lost_frames = 0

    @property
    def _networks(self) -> DecoderNetworks:
        return self._codec.decoder  # not kept: a child process after a fork loads its own

    def push(self, columns: Indices) -> Samples:
        """Decodes the next columns (n, rows); returns the samples that are known by then.

        ValueError if an index is not in the codebook."""
        columns = self._checked(columns)
        self._check_open()
        out = [np.zeros(0, np.float32)]
        for start in range(0, len(columns), CHUNK_COLUMNS):
            out += self._step([self], [columns[start : start + CHUNK_COLUMNS]])
        return np.concatenate(out)

    def _checked(self, columns: Indices) -> Indices:
        if np.ma.is_masked(columns):
            raise ValueError("masked columns are lost: use `conceal` for them")
        columns = np.asarray(columns)
        config = self._codec.config
        if columns.ndim != 2 or columns.shape[1] != config.rows:
            raise ValueError(f"columns of shape {columns.shape}, not (columns, {config.rows})")
        check_indices(columns, config.bits)
        return columns

    def _key(self, columns: Indices) -> Any:
        """Streams with equal keys can take a step as one batch."""
        return id(self._codec), len(columns), self._batch.shapes

    @staticmethod
    def _step(streams: list[StreamDecoder], columns: list[Indices]) -> list[Samples]:
        """Decodes columns (n, rows) of each stream; returns the samples that they complete."""
        latents = streams[0]._networks.decoder.lookup(np.stack(columns))
        if latents.shape[1]:
            for stream, own in zip(streams, latents, strict=True):
                if stream._lost_frames:
                    stream._look_back(own[None, :1])
                    stream._lost_frames = 0
        state = _gather(streams)
        _remember(state, latents, False, streams[0]._codec.config.concealment_history)
        frames = latents.shape[1] * streams[0]._codec.config.patch_frames
        level = np.zeros((len(streams), frames), np.float32)
        return StreamDecoder._decode(streams, state, latents, level, last=False)

    def decode_packet(self, payload: bytes | None, columns: int = 1) -> Samples:
        """Decodes a packet of packed columns, or conceals a lost one.

        payload: 1 to ``columns`` whole columns, as `pack` makes them; None for a lost packet,
        which counts as ``columns`` columns. columns: the most that a packet holds, as sender and
        receiver agreed. Returns the samples (n,) at the codec's rate that are known by then.

        ValueError, and no change of the stream, if the payload is empty, too large, or not a
        whole number of columns.

            decoder.decode_packet(payload, columns=5)
            decoder.decode_packet(None, columns=5)
        """
        columns, config = operator.index(columns), self._codec.config
        if columns < 1:
            raise ValueError(f"a packet of {columns} columns: it must hold at least 1")
        if payload is None:
            return self.conceal(columns)
        size = column_bytes(config.rows, config.bits)
        if len(payload) % size or not size <= len(payload) <= columns * size:
            most = f"1 to {columns} whole columns" if columns > 1 else "1 column"
            raise ValueError(f"a packet of {len(payload)} bytes: it must be {most} of {size} bytes")
        return self.push(unpack(payload, config.rows, config.bits))

    def conceal(self, columns: int, silence: bool = False) -> Samples:
        """Conceals a number of lost columns; ValueError if it is negative."""
        columns, config = operator.index(columns), self._codec.config
        if columns < 0:
            raise ValueError(f"{columns} lost columns: must not be negative")
        self._check_open()
        out = [np.zeros(0, np.float32)]
        while columns > 0:
            # A step ends where the last received column leaves the history, so that the result
            # does not depend on how a loss is divided into calls.
            history = config.concealment_history
            until = history - self._lost_frames // config.patch_frames
            count = min(columns, CHUNK_COLUMNS if until <= 0 else until)
            columns -= count
            state = _gather([self])
            frames = np.arange(count * config.patch_frames) + self._lost_frames
            level = -self.FADE * (frames - self.KEPT_FRAMES).clip(0)
            self._lost_frames += len(frames)
            forgotten = 0 if state[LOST].all() else history * config.patch_frames
            level[frames >= (0 if silence else forgotten)] = self.SILENCE
            unknown = np.zeros((1, count, config.rows, config.latent_dim), np.float32)
            before = state[LOST].shape[1]
            _remember(state, unknown, True, before + count)
            conceal = self._networks.concealment or Concealment.hold
            predicted = conceal(state[LATENTS], state[LOST])[:, before:]
            _remember(state, unknown[:, :0], True, history)
            out += self._decode([self], state, predicted, level[None], last=False)
        return np.concatenate(out)

    def _look_back(self, latents: Array) -> None:
        """Predicts the last lost column again, now with the latents (1, 1, rows, dim) after it."""
        decoder, model = self._networks.decoder, self._networks.concealment
        if model is None or not decoder.look_ahead:
            return
        state = _gather([self])
        history = np.concatenate([state[LATENTS], latents], 1)
        lost = np.pad(state[LOST], ((0, 0), (0, 1)))
        decoder.look_back(model(history, lost)[:, -2:-1], state)
        _scatter([self], state)

    def finish(self) -> Samples:
        """Ends the stream; returns the samples that were waiting for later columns."""
        with self:
            state = _gather([self])
            nothing = state[LATENTS][:, :0]
            return self._decode([self], state, nothing, state[LEVEL][:, :0], last=True)[0]

    @staticmethod
    def _decode(
        streams: list[StreamDecoder], state: State, latents: Array, level: Array, last: bool
    ) -> list[Samples]:
        """Latents (streams, columns, rows, dim) -> samples.

        level: added to the log-mel, nepers, (streams, frames).
        """
        networks = streams[0]._networks
        mel, low = networks.decoder(latents, state, last)
        level = np.concatenate([state[LEVEL], level], 1, dtype=np.float32)
        mel, state[LEVEL] = mel + level[:, : mel.shape[1], None], level[:, mel.shape[1] :]
        samples = networks.vocoder(mel, low, state, last)
        samples = networks.low_shelf(samples, state, last).astype(np.float32)
        _scatter(streams, state)
        return list(samples.clip(-1, 1))


def _remember(state: State, latents: Array, lost: bool, keep: int) -> None:
    """Appends columns (B, columns, rows, dim) to a decoder's history; keeps the last ``keep``."""
    gone = np.full(latents.shape[:2], lost)
    state[LATENTS] = np.concatenate([state[LATENTS], latents], 1)[:, -keep:].copy()
    state[LOST] = np.concatenate([state[LOST], gone], 1)[:, -keep:]


def encode_together(streams: list[StreamEncoder], samples: list[Samples]) -> list[Indices]:
    """`push` of several streams at once; each stream at most once.

    Streams that have read equally many samples so far, and get equally many now, are computed as
    one batch. ValueError, and no change of any stream, if one of them has ended.
    """
    _check_all(streams, StreamEncoder)
    return _together(streams, [clean(x) for x in samples])


def decode_together(streams: list[StreamDecoder], columns: list[Indices]) -> list[Samples]:
    """`encode_together` for decoders: columns (n, rows) of each -> samples of each."""
    _check_all(streams, StreamDecoder)
    checked = [s._checked(c) for s, c in zip(streams, columns, strict=True)]
    return _together(streams, checked)


def _check_all(streams: Sequence[_Stream], kind: type[_Stream]) -> None:
    """TypeError or ValueError if one of the streams is of another kind or has ended."""
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
        if len(new[0]) <= some[0]._max_length:
            results = some[0]._step(some, new)
        else:
            results = [stream.push(x) for stream, x in zip(some, new, strict=True)]
        for i, result in zip(members, results, strict=True):
            out[i] = result
    return out
