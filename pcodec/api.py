"""The functions that a user calls first: load a model, encode, decode."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcodec import models
from pcodec.audio.pcm import Samples, clean
from pcodec.codec import Codec
from pcodec.pcx.transcode import PcxReader, encode_stream


def load(
    name: str | None = None,
    vocoder: str = "spectral",
    device: str = "cpu",
    threads: int | None = None,
) -> Codec:
    """Loads a model by its name or the path of its folder; the shipped one if None.

    device: "cpu", "cuda" (with onnxruntime-gpu) or "auto". threads: per network; None for one per
    core, at most `MAX_THREADS`. PcodecError if there is no such model or device.
    """
    return Codec(models.find(name), vocoder, device, threads)


def encode(
    wav: NDArray[Any],
    rate: int,
    model: str | None = None,
    *,
    codec: Codec | None = None,
    compact: bool = False,
    bit_rate: float | None = None,
    search: int = 0,
) -> bytes:
    """Audio (frames,) or (frames, channels) at a rate in Hz -> a .pcx stream.

    model: name or folder of a model; the shipped one if None. codec: a loaded one instead.
    compact: whether to entropy-code the indices, in fewer bytes. bit_rate: average bit/s for
    speech, reached by choosing likelier indices; implies ``compact``. search: iterations of a
    search for better indices, with torch; 0 for none. PcodecError if the model has no entropy
    model or not this bit rate, or if torch is missing.
    """
    if search < 0:
        raise ValueError(f"search={search}: a number of iterations")
    mono = clean(wav)
    out = io.BytesIO()
    chosen = _one_of(model, codec) or load(model)
    encode_stream(chosen, [mono], rate, out, compact=compact, bit_rate=bit_rate, search=search)
    return out.getvalue()


def decode(
    data: bytes, model: str | None = None, *, codec: Codec | None = None
) -> tuple[Samples, int]:
    """A .pcx stream -> float32 samples (frames,) and their rate in Hz, the source's.

    Concatenated streams are decoded as one recording, at the rate of the first. Lost parts of a
    damaged stream are concealed.

    model: name or folder of the model; None for the installed one that fits the stream. codec: a
    loaded one instead. FormatError if the data is not a .pcx stream, ModelMismatchError if its
    model is not the given one, or not installed.
    """
    codec = _one_of(model, codec)
    chosen = codec.model if codec else models.find(model) if model else None
    decoding = PcxReader(io.BytesIO(data), chosen, codec=codec)
    return np.concatenate([np.zeros(0, np.float32), *decoding.blocks()]), decoding.rate


def _one_of(model: str | None, codec: Codec | None) -> Codec | None:
    if model is not None and codec is not None:
        raise ValueError("give model or codec, not both")
    return codec
