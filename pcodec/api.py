"""What a user calls first: load a model, encode, decode."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcodec import models
from pcodec.audio.pcm import Samples, clean
from pcodec.codec import Codec
from pcodec.pcx.transcode import Decoding, encode_stream


def load(
    name: str | None = None,
    vocoder: str = "spectral",
    device: str = "cpu",
    threads: int | None = None,
) -> Codec:
    """A codec by the name of its model (or the path of its folder); the shipped one if None.

    device: "cpu", "cuda" (with onnxruntime-gpu) or "auto"; PcodecError if it is not there.
    threads: that a network computes with; None for one a core, up to `MAX_THREADS`.
    """
    return Codec(models.find(name), vocoder, device, threads)


def encode(wav: NDArray[Any], rate: int, model: str | None = None) -> bytes:
    """Audio (frames,) or (frames, channels) at a rate in Hz -> a .pcx stream."""
    mono = clean(wav)
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
