"""A user's program: every name of the public API, used as its types allow."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

import pcodec

Samples = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.uint16]


def through_bytes(wav: npt.NDArray[np.float64], rate: int) -> tuple[Samples, int]:
    """Encodes and decodes a file; a stranger's damage is his own."""
    data: bytes = pcodec.encode(wav, rate, model="speech16k")
    try:
        return pcodec.decode(data, model=None)
    except (pcodec.ChecksumError, pcodec.TruncatedError, pcodec.VersionError) as error:
        damage: pcodec.FormatError = error
        raise damage from None
    except (pcodec.AudioError, pcodec.ModelMismatchError) as error:
        mine: pcodec.PcodecError = error
        raise mine from None


def through_tokens(codec: pcodec.Codec, wav: Samples) -> Samples:
    """The grid of indices, cut by rows and columns as an array is."""
    tokens: Tokens = codec.to_tokens(wav, 16000)
    rows: int = codec.config.rows
    assert tokens.shape[1] == rows
    samples: Samples = codec.from_tokens(tokens[: len(tokens) // 2])
    return samples


def live(codec: pcodec.Codec, microphone: Iterable[Samples]) -> Iterable[Samples]:
    """A stream of samples through a stream of columns."""
    latency: float = codec.latency / codec.config.sample_rate
    assert latency < 0.1
    with codec.stream_encoder() as encoder, codec.stream_decoder(column=0) as decoder:
        for chunk in microphone:
            columns: Tokens = encoder.push(chunk)
            yield decoder.push(columns)
        yield decoder.push(encoder.finish())
        yield decoder.decode_packet(None, columns=2)
        yield decoder.conceal(1)
        yield decoder.finish()


def many(codec: pcodec.Codec, chunks: list[Samples]) -> list[Samples]:
    """Several streams as one batch."""
    encoders = [codec.stream_encoder() for _ in chunks]
    decoders = [codec.stream_decoder() for _ in chunks]
    columns: list[Tokens] = pcodec.encode_together(encoders, chunks)
    return pcodec.decode_together(decoders, columns)


def without_audio(path: Path, copy: Path) -> None:
    """The tokens of a file, and a file of tokens; warnings become errors."""
    warnings.simplefilter("error", pcodec.AudioWarning)
    tokens: Tokens = pcodec.read_tokens(path)
    pcodec.write_tokens(copy, tokens)


def main(path: Path) -> None:
    """Loads a model by name or folder."""
    version: str = pcodec.__version__
    codec: pcodec.Codec = pcodec.load(str(path), vocoder="spectral", device="cpu", threads=1)
    print(version, through_tokens(codec, np.zeros(16000, np.float32)).shape)
