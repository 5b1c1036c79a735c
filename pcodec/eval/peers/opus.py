"""Opus, by libopus."""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np

from pcodec.errors import PcodecError
from pcodec.eval.metrics import RATE, Samples
from pcodec.eval.peers.base import (
    FRAME,
    PeerCodec,
    PeerResult,
    frames,
    library,
    ogg_bytes,
    pointer,
    timed,
)


class Opus:
    """libopus: mono wide-band speech, variable bit rate, complexity 10, packets of 20 ms."""

    VOIP, SET_BITRATE, SET_BANDWIDTH, SET_COMPLEXITY, GET_LOOKAHEAD, WIDE_BAND = (
        2048,
        4002,
        4008,
        4010,
        4027,
        1103,
    )

    def __init__(self, bit_rate: int) -> None:
        self.opus = library("opus", "libopus0")
        for function in (self.opus.opus_encoder_create, self.opus.opus_decoder_create):
            function.restype = ctypes.c_void_p
        self.opus.opus_get_version_string.restype = ctypes.c_char_p
        self.version = self.opus.opus_get_version_string().decode()
        self.bit_rate = bit_rate
        self.reset()

    def reset(self) -> None:
        """Begins a stream anew."""
        opus, error = self.opus, ctypes.c_int()
        self._free()
        self.encoder = ctypes.c_void_p(
            opus.opus_encoder_create(RATE, 1, self.VOIP, ctypes.byref(error))
        )
        self.decoder = ctypes.c_void_p(opus.opus_decoder_create(RATE, 1, ctypes.byref(error)))
        for request, value in (
            (self.SET_BITRATE, self.bit_rate),
            (self.SET_COMPLEXITY, 10),
            (self.SET_BANDWIDTH, self.WIDE_BAND),
        ):
            if opus.opus_encoder_ctl(self.encoder, request, ctypes.c_int(value)):
                raise PcodecError(f"libopus does not accept {self.bit_rate} bit/s")
        skip = ctypes.c_int()
        opus.opus_encoder_ctl(self.encoder, self.GET_LOOKAHEAD, ctypes.byref(skip))
        self.delay = skip.value

    def _free(self) -> None:
        if hasattr(self, "encoder"):
            self.opus.opus_encoder_destroy(self.encoder)
            self.opus.opus_decoder_destroy(self.decoder)

    def encode(self, samples: Samples) -> list[bytes]:
        """Samples (n,) -> the packets of their frames."""
        room = (ctypes.c_ubyte * 1500)()
        packets = []
        for frame in frames(np.pad(samples, (0, self.delay)).astype(np.float32), FRAME):
            size = self.opus.opus_encode_float(self.encoder, pointer(frame), FRAME, room, len(room))
            packets.append(bytes(room[:size]))
        return packets

    def decode(self, packets: list[bytes] | list[bytes | None]) -> Samples:
        """Packets, None for a lost one -> samples, without the codec's delay."""
        out = np.zeros((len(packets), FRAME), np.float32)
        for row, packet in zip(out, packets, strict=True):
            size = 0 if packet is None else len(packet)
            self.opus.opus_decode_float(self.decoder, packet, size, pointer(row), FRAME, 0)
        return out.ravel()[self.delay :]


def opus(kbit_s: float) -> PeerCodec:
    """Opus, in Ogg (RFC 7845)."""
    codec = Opus(round(kbit_s * 1000))

    def run(samples: Samples) -> PeerResult:
        codec.reset()
        packets, encode_seconds = timed(codec.encode, samples)
        decoded, decode_seconds = timed(codec.decode, packets)
        sizes = [len(packet) for packet in packets]
        bits, file = 8 * sum(sizes), ogg_bytes(sizes, [19, 16 + len(codec.version)], 50)
        return PeerResult(decoded, bits, file, encode_seconds, decode_seconds)

    about = f"{codec.version}, wide band, VBR, complexity 10, 20 ms"
    return PeerCodec(f"opus-{kbit_s:g}", about, about, run)
