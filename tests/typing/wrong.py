"""A program with errors: mypy must find one, of the named kind, in each line marked E."""

import numpy as np

import pcodec

wav = np.zeros(16000, np.float32)
pcodec.encode(wav)  # E: call-arg
pcodec.encode("speech.wav", 16000)  # E: arg-type
text: str = pcodec.encode(wav, 16000)  # E: assignment
pcodec.decode("speech.pcx")  # E: arg-type
samples = pcodec.decode(b"")[0].astype(np.int16).lower()  # E: attr-defined
codec = pcodec.load(vocoder=1)  # E: arg-type
codec.to_token(wav)  # E: attr-defined
codec.stream_encoder().push([0.0, 0.1])  # E: arg-type
codec.stream_decoder().push(wav)  # E: arg-type
codec.config.hop = 64  # E: misc
with codec.stream_encoder() as encoder:
    encoder.decode_packet(None)  # E: attr-defined
pcodec.decode_together([encoder], [])  # E: list-item
pcodec.open("speech.pcx")  # E: attr-defined
latency: str = codec.latency  # E: assignment
raise pcodec.FormatError.of_file(1, "no name")  # E: arg-type
