"""A loaded model: audio -> mel -> latents -> indices, and back."""

from __future__ import annotations

import math
import operator
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pcodec.audio.pcm import Samples, clean
from pcodec.audio.resample import Resampler
from pcodec.cores import cores, threads_for
from pcodec.errors import AudioError, PcodecError
from pcodec.models import Model
from pcodec.pcx.layout import MAX_RATE
from pcodec.pcx.packing import Indices
from pcodec.runtime.biquad import low_shelf
from pcodec.runtime.concealment import Concealment
from pcodec.runtime.decoder import Decoder
from pcodec.runtime.encoder import Encoder
from pcodec.runtime.network import Processor
from pcodec.runtime.quantizer import read_codebook
from pcodec.streams import StreamDecoder, StreamEncoder
from pcodec.vocoders import VOCODERS, runtime_class

MAX_THREADS = 8
"""Default cap on threads per network; its matrix products are too small to gain from more."""

_T = TypeVar("_T")


class DecoderNetworks:
    """The networks of a decoder: indices to mels, mels to samples, concealment."""

    def __init__(self, model: Model, vocoder: str, processor: Processor) -> None:
        """PcodecError if the model lacks the vocoder."""
        if vocoder not in model.vocoders:
            raise PcodecError(f"model {model.name} has no vocoder {vocoder!r}")
        self._arguments = model.config, model.folder, processor
        self.decoder = Decoder(*self._arguments)
        self.vocoder = runtime_class(vocoder)(*self._arguments)
        self.low_shelf = low_shelf(model.config.sample_rate)
        self._can_conceal = (model.folder / "concealment.safetensors").exists()
        self._concealment: Concealment | None = None

    @property
    def concealment(self) -> Concealment | None:
        """Loaded at the first loss; None if the model has none."""
        if self._can_conceal and self._concealment is None:
            self._concealment = Concealment(*self._arguments)
        return self._concealment


class Codec:
    """A loaded model. Encoder and decoder are read when they are first used.

    Safe to use from many threads; a stream object belongs to one thread at a time.
    """

    _all: ClassVar[weakref.WeakSet[Codec]] = weakref.WeakSet()

    def __init__(
        self,
        model: Model,
        vocoder: str = "spectral",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """device: "cpu", "cuda" or "auto"; PcodecError if the machine does not have it.

        threads: per network; None for one per core, at most `MAX_THREADS`.
        """
        if vocoder not in VOCODERS:
            raise PcodecError(f"no vocoder is called {vocoder!r}: {', '.join(VOCODERS)}")
        self.model, self.config, self.vocoder = model, model.config, vocoder
        self.processor = Processor.of(threads_for(threads or min(MAX_THREADS, cores())), device)
        self._arguments = model, vocoder, device, threads
        self._codebook: NDArray[np.float32] | None = None
        self._forget_networks()
        self._all.add(self)

    def _forget_networks(self) -> None:
        """Drops the networks; the next use loads them."""
        self._loading = threading.Lock()
        self._encoder: Encoder | None = None
        self._decoder: DecoderNetworks | None = None
        self._single: Codec | None = None

    def __reduce__(self) -> tuple[type[Codec], tuple[Any, ...]]:
        """Pickles the arguments only: a copy loads the model anew."""
        return type(self), self._arguments

    def __repr__(self) -> str:
        c = self.config
        return (
            f"<Codec {self.model.name}: {c.sample_rate} Hz, {self.rows} x {self.frame_rate:g}"
            f" tokens per second of {self.vocab_size}, {c.bit_rate:g} bit/s;"
            f" vocoder {self.vocoder}, {self.processor.device}, threads {self.processor.threads}>"
        )

    @property
    def rows(self) -> int:
        """Tokens per column, low frequencies first."""
        return self.config.rows

    @property
    def vocab_size(self) -> int:
        """Entries of the codebook; tokens are 0 to vocab_size - 1."""
        return self.config.codebook_entries

    @property
    def frame_rate(self) -> float:
        """Columns per second."""
        return self.config.sample_rate / self.config.column_samples

    @property
    def codebook(self) -> NDArray[np.float32]:
        """The latents that tokens stand for, (vocab_size, dim), float32, read-only.

        All rows share it. PcodecError if the model's codebook file cannot be read.
        """
        with self._loading:
            if self._codebook is None:
                codebook = read_codebook(self.config, self.model.folder)
                codebook.setflags(write=False)
                self._codebook = codebook
            return self._codebook

    @property
    def encoder(self) -> Encoder:
        """The encoder's networks; PcodecError if they do not match config.json."""
        with self._loading:
            if self._encoder is None:
                encoder = Encoder(self.config, self.model.folder, self.processor)
                if encoder.bitstream_id != self.model.bitstream_id:
                    text = "the weights do not match the bitstream id in config.json"
                    raise PcodecError.of_file(self.model.folder, text)
                self._encoder = encoder
            return self._encoder

    @property
    def decoder(self) -> DecoderNetworks:
        """The decoder's networks; PcodecError if the model lacks the vocoder."""
        with self._loading:
            if self._decoder is None:
                self._decoder = DecoderNetworks(self.model, self.vocoder, self.processor)
            return self._decoder

    def stream_encoder(self) -> StreamEncoder:
        """An encoder of one stream: samples in, columns out."""
        return StreamEncoder(self)

    def stream_decoder(self, column: int = 0) -> StreamDecoder:
        """A decoder of one stream: columns in, samples out.

        column: the number of the first one, of a stream that is not decoded from its start.
        """
        return StreamDecoder(self, column)

    def to_tokens(self, wav: NDArray[Any], rate: int | None = None) -> Indices:
        """Audio (frames,) or (frames, channels) -> tokens (columns, rows), uint16.

        wav: an array or a CPU tensor: floats with full scale at 1, or int16.
        rate: its sample rate, Hz; None for the codec's. AudioError if it, or the audio, cannot
        be coded.
        """
        frames = clean(wav)
        rate = checked_rate(self.config.sample_rate if rate is None else rate)
        with self.stream_encoder() as encoder:
            resampled = Resampler(rate, self.config.sample_rate)(frames, last=True)
            return np.concatenate([encoder.push(resampled), encoder.finish()])

    def from_tokens(self, tokens: Indices, length: int | None = None) -> Samples:
        """Tokens (columns, rows) -> samples at the codec's rate, float32.

        tokens: integers, an array or a CPU tensor; the lost columns of a masked array, such as
        `pcodec.read_tokens` gives, are concealed. length: samples to keep, since the
        last column is padded; None for all. ValueError if a token is not in the
        codebook, or the columns hold fewer samples than ``length``.
        """
        held = len(tokens) * self.config.column_samples
        if length is not None and not 0 <= operator.index(length) <= held:
            raise ValueError(f"{length} samples: {len(tokens)} columns hold {held}")
        with self.stream_decoder() as decoder:
            if np.ma.is_masked(tokens):
                parts = _push_masked(decoder, tokens)
            else:
                parts = [decoder.push(tokens)]
            return np.concatenate([*parts, decoder.finish()])[:length]

    def encode_batch(self, clips: Iterable[NDArray[Any]], rate: int | None = None) -> list[Indices]:
        """`to_tokens` of many clips of any lengths, as many at a time as the codec has threads.

        clips: audio (frames,) or (frames, channels) each, all at ``rate`` Hz (None: the codec's).
        Returns the tokens (columns, rows) of each, in order, the same as from single calls.
        AudioError if a clip cannot be coded.
        """
        return self._in_parallel(partial(self._of_one_thread.to_tokens, rate=rate), clips)

    def decode_batch(
        self, tokens: Iterable[Indices], lengths: Sequence[int] | None = None
    ) -> list[Samples]:
        """`from_tokens` of many clips of any lengths, as many at a time as the codec has threads.

        tokens: (columns, rows) each. lengths: samples to keep of each; None for all. Returns
        samples (n,) at the codec's rate, in order, those of single calls to the last bit of a
        float32, which may depend on the number of threads.
        """
        tokens = list(tokens)
        if lengths is None:
            return self._in_parallel(self._of_one_thread.from_tokens, tokens)
        if len(lengths) != len(tokens):
            raise ValueError(f"{len(lengths)} lengths for {len(tokens)} clips")
        return self._in_parallel(self._of_one_thread.from_tokens, tokens, lengths)

    @property
    def _of_one_thread(self) -> Codec:
        """The same codec, for calls in parallel: a clip per thread is faster than several."""
        if self.processor.threads == 1:
            return self
        if self._single is None:
            self._single = Codec(self.model, self.vocoder, self.processor.device, threads=1)
        return self._single

    def _in_parallel(self, function: Callable[..., _T], *inputs: Iterable[Any]) -> list[_T]:
        # The networks release Python's global lock, so threads are enough.
        with ThreadPoolExecutor(self.processor.threads) as pool:
            return list(pool.map(function, *inputs))

    @property
    def latency(self) -> int:
        """Algorithmic latency in samples: the most that any output sample waits for.

        The sum of three delays: the encoder waits until the last frame of a column is complete,
        the decoder for the columns of its look-ahead, the vocoder for its look-ahead and windows.
        """
        c = self.config
        encoder = c.column_samples + (c.window - c.hop) // 2
        decoder = c.decoder_look_ahead * c.column_samples
        return encoder + decoder + runtime_class(self.vocoder).latency(c)

    @property
    def warm_up(self) -> int:
        """Earlier columns that a decoder must read to decode one as if it had read them all."""
        c = self.config
        frames = runtime_class(self.vocoder).history(c)
        return c.decoder_history + math.ceil(frames / c.patch_frames)


def _after_fork_in_child() -> None:
    """Drops all networks: the threads that they run on exist in the parent only."""
    for codec in list(Codec._all):
        codec._forget_networks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def checked_rate(rate: float) -> int:
    """The sample rate as an integer, Hz; AudioError if it cannot be coded."""
    if not 0 < rate <= MAX_RATE or rate % 1:
        raise AudioError(
            f"a sample rate of {rate} Hz: only whole numbers up to {MAX_RATE} can be coded"
        )
    return int(rate)


def _push_masked(decoder: StreamDecoder, tokens: Any) -> list[Samples]:
    """Decodes tokens (columns, rows); conceals the masked columns."""
    lost: Any = np.ma.getmaskarray(tokens).any(1)
    runs = np.split(tokens.data, np.flatnonzero(np.diff(lost)) + 1)
    parts, column = [], 0
    for run in runs:
        parts.append(decoder.conceal(len(run)) if lost[column] else decoder.push(run))
        column += len(run)
    return parts
