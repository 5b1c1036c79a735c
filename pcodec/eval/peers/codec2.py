"""Codec 2, by libcodec2."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import numpy as np
import soxr

from pcodec.audio.pcm import floats, int16
from pcodec.errors import PcodecError
from pcodec.eval.metrics import RATE, Samples
from pcodec.eval.peers.base import PeerCodec, PeerResult, frames, library, pointer, timed


def codec2(kbit_s: float) -> PeerCodec:
    """Codec 2, in .c2 files. It is narrow band, so soxr resamples to 8 kHz and back."""
    modes = {3.2: 0, 2.4: 1, 1.6: 2, 1.4: 3, 1.3: 4, 1.2: 5}
    if kbit_s not in modes:
        raise PcodecError(
            f"codec2-{kbit_s:g}: the rates in kbit/s are {', '.join(map(str, modes))}"
        )
    codec2 = library("codec2", "libcodec2-1.0")
    codec2.codec2_create.restype = ctypes.c_void_p

    def run(samples: Samples) -> PeerResult:
        state = ctypes.c_void_p(codec2.codec2_create(modes[kbit_s]))
        size = codec2.codec2_samples_per_frame(state)
        bits = codec2.codec2_bits_per_frame(state)

        def encode() -> list[Any]:
            packets = []
            for frame in frames(np.pad(int16(soxr.resample(samples, RATE, 8000)), (0, size)), size):
                packets.append(np.zeros(-(-bits // 8), np.uint8))
                codec2.codec2_encode(state, pointer(packets[-1]), pointer(frame))
            return packets

        def decode(packets: list[Any]) -> Samples:
            out = np.zeros((len(packets), size), "<i2")
            for row, packet in zip(out, packets, strict=True):
                codec2.codec2_decode(state, pointer(row), pointer(packet))
            resampled: Samples = soxr.resample(floats(list(out)), 8000, RATE)
            return resampled

        packets, encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, packets)
        codec2.codec2_destroy(state)
        file = 7 + sum(len(packet) for packet in packets)
        return PeerResult(decoded, bits * len(packets), file, encode_seconds, decode_seconds)

    about = "libcodec2, 8 kHz"
    return PeerCodec(f"codec2-{kbit_s:g}", about, about, run)
