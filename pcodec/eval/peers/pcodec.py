"""This codec, through the bytes of a .pcx file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from pcodec import models
from pcodec.errors import PcodecError
from pcodec.eval.metrics import RATE, Samples
from pcodec.eval.peers.base import AbsentError, PeerCodec, PeerResult, digest, timed


def pcodec(vocoder: str | None, model: str | None, name: str, rate: str | None = None) -> PeerCodec:
    """This codec.

    vocoder: None for the first one of the model. name: shown in tables. rate: None for packed
    indices, "compact" to entropy-code the same indices, a bit rate in kbit/s, or "search-N" to
    search for indices in N iterations.
    """
    bit_rate, search = None, 0
    compact = rate is not None
    if rate not in (None, "compact"):
        word, _, iterations = rate.partition("-")
        try:
            if word == "search":
                compact, search = False, int(iterations)
                if search < 1:
                    raise ValueError(iterations)
            else:
                bit_rate = 1000 * float(rate)
        except ValueError:
            text = "use pcodec-compact, for 5 kbit/s pcodec-5, or pcodec-search-8"
            raise PcodecError(f"no codec {name!r}; {text}") from None
    chosen = models.find(model)
    if vocoder is None:
        vocoder = next(iter(chosen.vocoders), "spectral")
    if vocoder not in chosen.vocoders:
        raise AbsentError(f"model {chosen.name} has no vocoder {vocoder!r}")

    import onnxruntime

    from pcodec.codec import Codec
    from pcodec.pcx.compact import load, strength_for
    from pcodec.pcx.transcode import PcxReader, encode_stream, load_search

    codec = Codec(chosen, vocoder, threads=1)
    if bit_rate is not None:
        strength_for(chosen, bit_rate)
    elif compact:
        load(chosen)
    if search:
        load_search(chosen)
    here = Path(__file__).parents[2]
    parts = (".", "audio", "pcx", "runtime", *(("networks", "train") if search else ()))
    code = [p for part in parts for p in (here / part).glob("*.py")]
    files = [*sorted(code), *sorted(chosen.folder.glob("*.safetensors"))]
    identity = digest(files) + onnxruntime.__version__
    if search:
        import torch

        identity += torch.__version__

    def run(samples: Samples) -> PeerResult:
        def encode() -> tuple[bytes, int]:
            file = io.BytesIO()
            writer = encode_stream(
                codec, [samples], RATE, file, compact=compact, bit_rate=bit_rate, search=search
            )
            return file.getvalue(), writer.payload_bytes

        def decode(data: bytes) -> Samples:
            blocks = list(PcxReader(io.BytesIO(data), codec=codec).blocks())
            return np.concatenate([np.zeros(0, np.float32), *blocks])

        # Loads the networks before the clock starts.
        _ = codec.encoder, codec.decoder
        if search:
            load_search(chosen)(codec, search)
        (data, payload), encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, data)
        return PeerResult(decoded, 8 * payload, len(data), encode_seconds, decode_seconds, data)

    about = f"{chosen.name}, vocoder {vocoder}" + (f", {rate}" if rate else "")
    return PeerCodec(name, about, identity, run)
