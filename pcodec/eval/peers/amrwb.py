"""AMR-WB, by libvo-amrwbenc and libopencore-amrwb."""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np

from pcodec.audio.pcm import floats, int16
from pcodec.errors import PcodecError
from pcodec.eval.metrics import Samples
from pcodec.eval.peers.base import FRAME, PeerCodec, PeerResult, frames, library, pointer, timed


def amrwb(kbit_s: float) -> PeerCodec:
    """AMR-WB (3GPP TS 26.171), in the file format of RFC 4867."""
    modes = {6.6: 0, 8.85: 1, 12.65: 2, 14.25: 3, 15.85: 4, 18.25: 5, 19.85: 6, 23.05: 7}
    if kbit_s not in modes:
        raise PcodecError(f"amrwb-{kbit_s:g}: the rates in kbit/s are {', '.join(map(str, modes))}")
    encoding = library("vo-amrwbenc", "libvo-amrwbenc0")
    decoding = library("opencore-amrwb", "libopencore-amrwb0")
    encoding.E_IF_init.restype = decoding.D_IF_init.restype = ctypes.c_void_p

    def run(samples: Samples) -> PeerResult:
        encoder = ctypes.c_void_p(encoding.E_IF_init())
        decoder = ctypes.c_void_p(decoding.D_IF_init())

        def encode() -> list[bytes]:
            room, packets = (ctypes.c_ubyte * 64)(), []
            for frame in frames(np.pad(int16(samples), (0, FRAME)), FRAME):
                size = encoding.E_IF_encode(encoder, modes[kbit_s], pointer(frame), room, 0)
                packets.append(bytes(room[:size]))
            return packets

        def decode(packets: list[bytes]) -> Samples:
            out = np.zeros((len(packets), FRAME), "<i2")
            for row, packet in zip(out, packets, strict=True):
                decoding.D_IF_decode(decoder, packet, pointer(row), 0)
            return floats(list(out))

        packets, encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, packets)
        encoding.E_IF_exit(encoder)
        decoding.D_IF_exit(decoder)
        # A packet begins with the header byte of the file format, and holds 20 ms.
        bits, file = round(kbit_s * 20) * len(packets), 9 + sum(map(len, packets))
        return PeerResult(decoded, bits, file, encode_seconds, decode_seconds)

    about = "libvo-amrwbenc, libopencore-amrwb, without DTX"
    return PeerCodec(f"amrwb-{kbit_s:g}", about, about, run)
