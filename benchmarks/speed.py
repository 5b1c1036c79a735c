"""Where the time goes, on one core: each stage, beside libopus in the same run.

    python benchmarks/speed.py AUDIO

Takes 60 s of AUDIO (repeated if it is shorter). Times are the best of five, but one with
--search, as shares of real time. Writes a markdown table.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pcodec
from pcodec.audio import Resampler, Writer, read
from pcodec.eval.metrics import RATE
from pcodec.eval.peers.base import AbsentError
from pcodec.eval.peers.opus import Opus
from pcodec.pcx.compact import load
from pcodec.pcx.packing import pack, unpack
from pcodec.pcx.transcode import PcxReader, encode_stream
from pcodec.runtime.spectral import SpectralVocoder
from pcodec.streams import CHUNK_COLUMNS

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
    clip = read(Path(sys.argv[1]), RATE)
    clip = np.resize(clip, SECONDS * RATE)
    codec = pcodec.load(threads=1)
    torch.set_num_threads(1)
    rows: list[tuple[str, float]] = []

    def encode(compact: bool = False, search: int = 0) -> bytes:
        out = io.BytesIO()
        encode_stream(codec, [clip], RATE, out, compact=compact, search=search)
        return out.getvalue()

    coded, compact = encode(), encode(compact=True)

    def decode(data: bytes = coded) -> None:
        for _ in PcxReader(io.BytesIO(data), codec=codec).blocks():
            pass

    decode()
    encoder, decoder, vocoder = codec.encoder, codec.decoder.decoder, codec.decoder.vocoder
    assert isinstance(vocoder, SpectralVocoder)
    entropy = load(codec.model)
    step = CHUNK_COLUMNS * codec.config.column_samples
    pieces = [clip[None, i : i + step] for i in range(0, len(clip), step)]
    spectra = [encoder.spectra(piece, {}, True) for piece in pieces]
    latents = [encoder.latents(x, {}).reshape(-1, codec.config.latent_dim) for x in spectra]
    tokens = np.concatenate([encoder.quantizer.nearest(x) for x in latents]).reshape(-1, 24)
    packed = pack(tokens, 10)
    blocks = [tokens[i : i + 64] for i in range(0, len(tokens), 64)]
    payloads = list(zip(entropy.compress(blocks), map(len, blocks), strict=True))
    looked = decoder.lookup(tokens)[None]
    parts = [looked[:, i : i + CHUNK_COLUMNS] for i in range(0, len(tokens), CHUNK_COLUMNS)]
    decoded = [decoder(part, {}, True) for part in parts]
    polar = [vocoder.polar(*x, {}, True) for x in decoded]
    consistent = [vocoder.consistency(*x, {}, True) for x in polar]
    wide = np.resize(clip, SECONDS * 44100)

    def write(path: Path) -> None:
        with path.open("wb") as file, Writer(file, RATE) as writer:
            for piece in pieces:
                writer.write(piece[0])

    stages: list[tuple[str, Callable[[], Any]]] = [
        ("read a WAV file", lambda: read(wav, RATE)),
        ("resample 44.1 to 16 kHz", lambda: Resampler(44100, RATE)(wide, last=True)),
        ("encode: spectrum", each(lambda x: encoder.spectra(x, {}, True), pieces)),
        ("encode: mel, low band, encoder", each(lambda x: encoder.latents(x, {}), spectra)),
        ("encode: codebook search", each(encoder.quantizer.nearest, latents)),
        ("encode: pack", lambda: pack(tokens, 10)),
        ("encode: entropy coding", lambda: entropy.compress(blocks)),
        ("decode: entropy coding", lambda: entropy.decompress(payloads)),
        ("decode: unpack", lambda: unpack(packed, 24, 10)),
        ("decode: decoder", each(lambda x: decoder(x, {}, True), parts)),
        ("decode: vocoder, spectrum", each(lambda x: vocoder.polar(*x, {}, True), decoded)),
        (
            "decode: vocoder, consistency",
            each(lambda x: vocoder.consistency(*x, {}, True), polar),
        ),
        ("decode: vocoder, synthesis", each(lambda x: vocoder.synthesis(x, {}, True), consistent)),
        ("write a WAV file", lambda: write(wav)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder, "speech.wav")
        write(wav)
        rows += [(name, best(what)) for name, what in stages]
    rows += [
        ("**encode, all**", best(encode)),
        ("**decode, all**", best(decode)),
        ("encode, all, `--compact`", best(lambda: encode(compact=True))),
        ("encode, all, `--search 8`", best(lambda: encode(search=8), 1)),
        ("decode, all, of a compact file", best(lambda: decode(compact))),
    ]
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
