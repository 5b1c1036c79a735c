"""Speex, by libspeex."""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np

from pcodec.audio.pcm import floats, int16
from pcodec.errors import PcodecError
from pcodec.eval.metrics import Samples
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


def speex(kbit_s: float) -> PeerCodec:
    """Wide-band Speex, with the enhancement of its decoder, in Ogg."""
    qualities = {3.95: 0, 5.75: 1, 7.75: 2, 9.8: 3, 12.8: 4}
    if kbit_s not in qualities:
        raise PcodecError(
            f"speex-{kbit_s:g}: the rates in kbit/s are {', '.join(map(str, qualities))}"
        )
    speex = library("speex", "libspeex1")
    speex.speex_lib_get_mode.restype = ctypes.c_void_p
    mode = ctypes.c_void_p(speex.speex_lib_get_mode(1))
    for function in (speex.speex_encoder_init, speex.speex_decoder_init):
        function.restype = ctypes.c_void_p
    set_quality, set_complexity, set_enhancement = 4, 16, 0

    def run(samples: Samples) -> PeerResult:
        encoder = ctypes.c_void_p(speex.speex_encoder_init(mode))
        decoder = ctypes.c_void_p(speex.speex_decoder_init(mode))
        for state, request, value in (
            (encoder, set_quality, qualities[kbit_s]),
            (encoder, set_complexity, 10),
        ):
            speex.speex_encoder_ctl(state, request, ctypes.byref(ctypes.c_int(value)))
        speex.speex_decoder_ctl(decoder, set_enhancement, ctypes.byref(ctypes.c_int(1)))
        bits = (ctypes.c_ubyte * 256)()  # more than a SpeexBits holds
        speex.speex_bits_init(bits)

        def encode() -> list[bytes]:
            room, packets = ctypes.create_string_buffer(200), []
            # One more frame, because of the delay of the decoder.
            for frame in frames(np.pad(int16(samples), (0, FRAME)), FRAME):
                speex.speex_bits_reset(bits)
                speex.speex_encode_int(encoder, pointer(frame.copy()), bits)
                size = speex.speex_bits_write(bits, room, len(room))
                packets.append(room.raw[:size])
            return packets

        def decode(packets: list[bytes]) -> Samples:
            out = np.zeros((len(packets), FRAME), "<i2")
            for row, packet in zip(out, packets, strict=True):
                speex.speex_bits_read_from(bits, packet, len(packet))
                speex.speex_decode_int(decoder, bits, pointer(row))
            return floats(list(out))

        packets, encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, packets)
        speex.speex_bits_destroy(bits)
        speex.speex_encoder_destroy(encoder)
        speex.speex_decoder_destroy(decoder)
        sizes = [len(packet) for packet in packets]
        file = ogg_bytes(sizes, [80, 40], 50)
        return PeerResult(decoded, 8 * sum(sizes), file, encode_seconds, decode_seconds)

    about = f"libspeex, wide band, quality {qualities[kbit_s]}, complexity 10"
    return PeerCodec(f"speex-{kbit_s:g}", about, about, run)
