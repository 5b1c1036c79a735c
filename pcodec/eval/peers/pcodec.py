"""This codec."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from pcodec import models
from pcodec.eval.metrics import RATE, Samples
from pcodec.eval.peers.base import AbsentError, PeerCodec, PeerResult, digest, timed


def pcodec(vocoder: str | None, model: str | None, name: str | None = None) -> PeerCodec:
    """This codec, through a .pcx file's bytes.

    vocoder: None for the first one of the model. name: in tables.
    """
    chosen = models.find(model)
    if vocoder is None:
        vocoder = next(iter(chosen.vocoders), "spectral")
    if vocoder not in chosen.vocoders:
        raise AbsentError(f"model {chosen.name} has no vocoder {vocoder!r}")

    import onnxruntime

    from pcodec.codec import Codec
    from pcodec.pcx.transcode import PcxReader, encode_stream

    codec = Codec(chosen, vocoder, threads=1)
    here = Path(__file__).parents[2]
    code = [p for part in (".", "audio", "pcx", "runtime") for p in (here / part).glob("*.py")]
    files = [*sorted(code), *sorted(chosen.folder.glob("*.safetensors"))]
    identity = digest(files) + onnxruntime.__version__

    def run(samples: Samples) -> PeerResult:
        def encode() -> tuple[bytes, int]:
            file = io.BytesIO()
            writer = encode_stream(codec, [samples], RATE, file)
            return file.getvalue(), writer.columns

        def decode(data: bytes) -> Samples:
            blocks = list(PcxReader(io.BytesIO(data), codec=codec).blocks())
            return np.concatenate([np.zeros(0, np.float32), *blocks])

        # Networks are read when they are first used.
        _ = codec.encoder, codec.decoder
        (data, columns), encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, data)
        bits = columns * codec.config.rows * codec.config.bits
        return PeerResult(decoded, bits, len(data), encode_seconds, decode_seconds, data)

    if name is None:
        name = "pcodec" if vocoder == "spectral" else f"pcodec-{vocoder}"
    about = f"{chosen.name}, vocoder {vocoder}"
    return PeerCodec(name, about, identity, run)
