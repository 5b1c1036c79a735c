"""LC3, by liblc3."""

from __future__ import annotations

import numpy as np

from pcodec.audio.pcm import floats, int16
from pcodec.errors import PcodecError
from pcodec.eval.metrics import RATE, Samples
from pcodec.eval.peers.base import AbsentError, PeerCodec, PeerResult, frames, timed


def lc3(kbit_s: float) -> PeerCodec:
    """LC3 (Bluetooth LE Audio), frames of 10 ms, in the .lc3 files of liblc3."""
    try:
        import lc3
    except ImportError:
        raise AbsentError("the package lc3py is not installed") from None
    size, frame_bytes = 160, round(kbit_s * 1000 / 100 / 8)
    if not 20 <= frame_bytes <= 400:
        raise PcodecError(f"lc3-{kbit_s:g}: the rates in kbit/s are 16 to 320")

    def run(samples: Samples) -> PeerResult:
        encoder, decoder = lc3.Encoder(10000, RATE), lc3.Decoder(10000, RATE)

        def encode() -> list[bytes]:
            pieces = frames(np.pad(int16(samples), (0, 2 * size)), size)
            return [encoder.encode(p.tobytes(), frame_bytes, bit_depth=16) for p in pieces]

        def decode(packets: list[bytes]) -> Samples:
            return floats([np.frombuffer(decoder.decode(p, bit_depth=16), "<i2") for p in packets])

        packets, encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, packets)
        bits = 8 * frame_bytes * len(packets)
        return PeerResult(
            decoded, bits, 18 + len(packets) * (frame_bytes + 2), encode_seconds, decode_seconds
        )

    about = "liblc3, frames of 10 ms"
    return PeerCodec(f"lc3-{kbit_s:g}", about, about, run)
