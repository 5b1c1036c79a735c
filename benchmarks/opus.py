"""libopus through ctypes (Debian: libopus0): the peer of the benchmarks."""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np
from numpy.typing import NDArray

RATE, FRAME = 16000, 320
"""Hz; samples of a packet of 20 ms"""
VOIP, SET_BITRATE, SET_COMPLEXITY, SET_BANDWIDTH, WIDEBAND = 2048, 4002, 4010, 4008, 1103


def library() -> ctypes.CDLL | None:
    """libopus, or None where it is not installed."""
    name = ctypes.util.find_library("opus") or "libopus.so.0"
    try:
        opus = ctypes.CDLL(name)
    except OSError:
        return None
    for function in ("opus_encoder_create", "opus_decoder_create"):
        getattr(opus, function).restype = ctypes.c_void_p
    return opus


class Opus:
    """Mono wide-band speech, variable bit rate, complexity 10, packets of 20 ms."""

    def __init__(self, opus: ctypes.CDLL, bit_rate: int) -> None:
        self.opus, error = opus, ctypes.c_int()
        self.encoder = ctypes.c_void_p(opus.opus_encoder_create(RATE, 1, VOIP, ctypes.byref(error)))
        self.decoder = ctypes.c_void_p(opus.opus_decoder_create(RATE, 1, ctypes.byref(error)))
        for request, value in (
            (SET_BITRATE, bit_rate),
            (SET_COMPLEXITY, 10),
            (SET_BANDWIDTH, WIDEBAND),
        ):
            opus.opus_encoder_ctl(self.encoder, request, ctypes.c_int(value))
        skip = ctypes.c_int()
        opus.opus_encoder_ctl(self.encoder, 4027, ctypes.byref(skip))  # GET_LOOKAHEAD
        self.delay = skip.value

    def encode(self, samples: NDArray[np.float32]) -> list[bytes]:
        """Samples (n,) -> the packets of their frames."""
        room = (ctypes.c_ubyte * 1500)()
        padded = np.pad(samples, (0, self.delay + -(len(samples) + self.delay) % FRAME))
        packets = []
        for start in range(0, len(padded), FRAME):
            frame = np.ascontiguousarray(padded[start : start + FRAME], np.float32)
            size = self.opus.opus_encode_float(
                self.encoder, frame.ctypes.data_as(ctypes.c_void_p), FRAME, room, len(room)
            )
            packets.append(bytes(room[:size]))
        return packets

    def decode(self, packets: list[bytes | None], length: int) -> NDArray[np.float32]:
        """Packets, None where one is lost -> samples (length,), without the codec's delay."""
        out = np.zeros((len(packets), FRAME), np.float32)
        for row, packet in zip(out, packets, strict=True):
            self.opus.opus_decode_float(
                self.decoder,
                packet,
                0 if packet is None else len(packet),
                row.ctypes.data_as(ctypes.c_void_p),
                FRAME,
                0,
            )
        return out.ravel()[self.delay : self.delay + length]
