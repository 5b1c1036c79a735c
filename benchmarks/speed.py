"""Where the time goes, on one core: each stage, beside libopus in the same run.

    python benchmarks/speed.py AUDIO

Takes 60 s of AUDIO (repeated if it is shorter). Times are the best of five, as shares of
real time. Writes a markdown table.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

import pcodec
from pcodec.audio import Resampler, read
from pcodec.bitpack import pack, unpack
from pcodec.codec import CHUNK_COLUMNS, Decoding, encode_stream
from pcodec.eval.codecs import AbsentError, Opus
from pcodec.eval.metrics import RATE

SECONDS = 60


def best(what: Callable[[], Any], times: int = 5) -> float:
    """Seconds of the fastest run."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        took.append(time.perf_counter() - start)
    return min(took)


def each(what: Callable[[Any], Any], parts: Iterable[Any]) -> Callable[[], Any]:
    """Does it with each part; what comes of one is gone before the next, as in a stream."""

    def run() -> None:
        for part in parts:
            what(part)

    return run


def main() -> None:
    """Runs it."""
    torch.set_num_threads(1)
    clip = read(Path(sys.argv[1]), RATE)
    clip = np.resize(clip, SECONDS * RATE)
    codec = pcodec.load()
    rows: list[tuple[str, float]] = []

    def encode() -> bytes:
        out = io.BytesIO()
        encode_stream(codec, [clip], RATE, out)
        return out.getvalue()

    coded = encode()

    def decode() -> None:
        for _ in Decoding(io.BytesIO(coded), codec=codec).blocks():
            pass

    decode()
    e, d = codec.encoder_networks, codec.decoder_networks
    step = CHUNK_COLUMNS * codec.config.column_samples
    with torch.inference_mode():
        x = torch.from_numpy(clip).double()[None]
        pieces = [x[:, i : i + step] for i in range(0, x.shape[1], step)]
        mels = [e.mel(piece) for piece in pieces]
        latents = [e.encoder(m) for m in mels]
        tokens = np.concatenate([e.quantizer.search(y[0]) for y in latents]).astype(np.uint16)
        packed = pack(tokens, 10)
        looked = d.quantizer.lookup(torch.from_numpy(tokens.astype(np.int64)))[None]
        parts = looked.split(CHUNK_COLUMNS, 1)
        decoded = [d.decoder(part) for part in parts]
        spectra = [d.spectral.spectrum(m) for m in decoded]
        wide = np.resize(clip, SECONDS * 44100)
        stages: list[tuple[str, Callable[[], Any]]] = [
            ("resample 44.1 to 16 kHz", lambda: Resampler(44100, RATE)(wide, last=True)),
            ("encode: mel", each(e.mel, pieces)),
            ("encode: encoder", each(e.encoder, mels)),
            ("encode: codebook search", each(lambda y: e.quantizer.search(y[0]), latents)),
            ("encode: pack", lambda: pack(tokens, 10)),
            ("decode: unpack", lambda: unpack(packed, 24, 10)),
            ("decode: decoder", each(d.decoder, parts)),
            ("decode: vocoder, spectrum", each(d.spectral.spectrum, decoded)),
            ("decode: vocoder, consistency", each(d.spectral.consistency, spectra)),
            ("decode: vocoder, synthesis", each(d.spectral.synthesize, spectra)),
        ]
        rows += [(name, best(what)) for name, what in stages]
    rows += [("**encode, all**", best(encode)), ("**decode, all**", best(decode))]
    try:
        peer = Opus(8000)
    except AbsentError as error:
        print(f"{error}\n")
    else:
        packets = peer.encode(clip)
        rows.append(("libopus 8 kbit/s, encode", best(lambda: peer.encode(clip))))
        rows.append(("libopus 8 kbit/s, decode", best(lambda: peer.decode(packets))))
    print("| stage | of real time | times real time |\n|---|---|---|")
    for name, seconds in rows:
        print(f"| {name} | {seconds / SECONDS:.5f} | {SECONDS / seconds:.0f} |")


if __name__ == "__main__":
    main()
