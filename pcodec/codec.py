"""A loaded model: audio -> mel -> latents -> indices, and back."""

from __future__ import annotations

import math
import os
import threading
import weakref
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcodec.audio.pcm import Samples, clean
from pcodec.audio.resample import Resampler
from pcodec.cores import cores, threads_for
from pcodec.errors import AudioError, PcodecError
from pcodec.models import Model
from pcodec.pcx.layout import MAX_RATE
from pcodec.pcx.packing import Indices
from pcodec.runtime.concealment import Concealment
from pcodec.runtime.decoder import Decoder
from pcodec.runtime.encoder import Encoder
from pcodec.runtime.graph import Processor
from pcodec.runtime.hifigan import HifiGan
from pcodec.runtime.spectral import SpectralVocoder
from pcodec.streams import StreamDecoder, StreamEncoder

MAX_THREADS = 8
"""Default cap on threads per network; its matrix products are too small to gain from more."""


VOCODERS: dict[str, type[SpectralVocoder | HifiGan]] = {
    "spectral": SpectralVocoder,
    "hifigan": HifiGan,
}


class DecoderNetworks:
    """What a decoder runs: indices to mels, mels to samples, and what stands in for lost ones."""

    def __init__(self, model: Model, vocoder: str, processor: Processor) -> None:
        """PcodecError if the model lacks the vocoder."""
        if vocoder not in model.vocoders:
            raise PcodecError(f"model {model.name} has no vocoder {vocoder!r}")
        what = model.config, model.folder, processor
        self.decoder = Decoder(*what)
        self.vocoder = VOCODERS[vocoder](*what)
        there = (model.folder / "concealment.safetensors").exists()
        self.concealment = Concealment(*what) if there else None


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
        """device: "cpu", "cuda" or "auto"; PcodecError if it is not there.

        threads: that a network computes with; None for one a core, up to `MAX_THREADS`.
        """
        if vocoder not in VOCODERS:
            raise PcodecError(f"no vocoder is called {vocoder!r}: {', '.join(VOCODERS)}")
        self.model, self.config, self.vocoder = model, model.config, vocoder
        self.processor = Processor.of(threads_for(threads or min(MAX_THREADS, cores())), device)
        self._arguments = model, vocoder, device, threads
        self._loading = threading.Lock()
        self._all.add(self)

    def __reduce__(self) -> tuple[type[Codec], tuple[Any, ...]]:
        """A copy, or the same in another process, loads the model anew."""
        return type(self), self._arguments

    def _forget(self) -> None:
        """Loads the networks anew when they are used next."""
        self._loading = threading.Lock()
        self.__dict__.pop("_encoder", None)
        self.__dict__.pop("_decoder", None)

    @property
    def encoder(self) -> Encoder:
        """The encoder's networks; PcodecError if they are not those of config.json."""
        with self._loading:
            return self._encoder

    @property
    def decoder(self) -> DecoderNetworks:
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
    def _decoder(self) -> DecoderNetworks:
        return DecoderNetworks(self.model, self.vocoder, self.processor)

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
        frames = clean(wav)
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

        It is a sum. A column is encoded when the last of its frames is complete; the decoder waits
        for the columns that it looks ahead at, the vocoder for frames and for its windows.
        """
        c = self.config
        encoder = c.column_samples + (c.window - c.hop) // 2
        decoder = c.decoder_look_ahead * c.column_samples
        return encoder + decoder + VOCODERS[self.vocoder].latency(c)

    @property
    def warm_up(self) -> int:
        """Columns before one that a decoder needs to give that one as if it had read them all."""
        c = self.config
        frames = VOCODERS[self.vocoder].history(c)
        return c.decoder_history + math.ceil(frames / c.patch_frames)


def _forget_networks() -> None:
    for codec in list(Codec._all):
        codec._forget()


if hasattr(os, "register_at_fork"):
    # The threads that networks compute with are not there in the child of a fork.
    os.register_at_fork(after_in_child=_forget_networks)


def checked_rate(rate: float) -> int:
    """A sample rate in Hz; AudioError if it cannot be coded."""
    if not 0 < rate <= MAX_RATE or rate % 1:
        raise AudioError(f"a sample rate of {rate} Hz: whole ones up to {MAX_RATE} can be coded")
    return int(rate)
