"""Live use: two processes piped together in real time, and many streams in one process.

    python benchmarks/live.py AUDIO [--minutes 10]

1. `pcodec encode --live` piped into `pcodec decode`, fed at the pace of a microphone. Delay
   is from when a sample was said to when it can be heard; the output must be that of an
   offline run. 2. The computing of a column, one stream, one core. 3. 32 streams in step.
AUDIO is repeated. Writes a markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pcodec
from pcodec.audio import read
from pcodec.codec import Codec
from pcodec.eval.metrics import RATE, Samples

COLUMN, BLOCK, STREAMS = 512, 1, 32
"""samples; columns of a block in the pipe; streams in one process"""


def percentiles(values: NDArray[np.float64]) -> str:
    """Milliseconds: median, 99.9th percentile, most."""
    a, b = np.percentile(values, [50, 99.9]) * 1000
    return f"{a:.2f} | {b:.2f} | {values.max() * 1000:.2f}"


def resident(process: subprocess.Popen[bytes]) -> float:
    """MB that a process holds."""
    text = Path(f"/proc/{process.pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def pipe(samples: Samples) -> tuple[Samples, NDArray[np.float64], list[list[float]]]:
    """What is heard, each column's delay in seconds, and the memory of both in MB by minute."""
    run = [sys.executable, "-m", "pcodec"]
    options = ["--threads", "1", "--raw", "-", "-"]
    encoder = subprocess.Popen(
        [*run, "encode", "--live", "--block", str(BLOCK), "--rate", str(RATE), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    decoder = subprocess.Popen(
        [*run, "decode", *options], stdin=encoder.stdout, stdout=subprocess.PIPE, bufsize=0
    )
    assert encoder.stdin and encoder.stdout and decoder.stdout
    encoder.stdout.close()
    pcm = (samples * 32767).round().astype("<i2")
    started, memory = time.perf_counter() + 8.0, []  # both have loaded by then

    def speak() -> None:
        assert encoder.stdin
        for k in range(0, len(pcm), COLUMN):
            end = min(k + COLUMN, len(pcm))
            time.sleep(max(0.0, started + end / RATE - time.perf_counter()))
            encoder.stdin.write(pcm[k:end].tobytes())
            encoder.stdin.flush()
            if k // COLUMN % 1875 == 32:  # once a minute
                memory.append([resident(encoder), resident(decoder)])
        encoder.stdin.close()

    threading.Thread(target=speak, daemon=True).start()
    heard, count, delays = [], 0, []
    while data := decoder.stdout.read(1 << 16):
        now = time.perf_counter()
        # The first sample of what has come waited longest.
        delays.append(now - (started + count / RATE))
        heard.append(data)
        count += len(data) // 2
    assert encoder.wait() == 0 and decoder.wait() == 0
    output = np.frombuffer(b"".join(heard), "<i2").astype(np.float32) / 32767
    return output, np.array(delays[:-1]), memory  # the last comes with the end of the stream


def columns(codec: Codec, samples: Samples) -> NDArray[np.float64]:
    """Seconds that encoding and decoding of each column takes, one stream: (2, columns)."""
    took = []
    with codec.stream_encoder() as encoder, codec.stream_decoder() as decoder:
        for k in range(0, len(samples) - COLUMN, COLUMN):
            before = time.perf_counter()
            new = encoder.push(samples[k : k + COLUMN])
            between = time.perf_counter()
            decoder.push(new)
            took.append((between - before, time.perf_counter() - between))
    return np.array(took[32:]).T


def together(codec: Codec, samples: Samples) -> NDArray[np.float64]:
    """Seconds of each tick of 32 ms in which STREAMS streams take a column."""
    encoders = [codec.stream_encoder() for _ in range(STREAMS)]
    decoders = [codec.stream_decoder() for _ in range(STREAMS)]
    took = []
    for k in range(0, len(samples) // 2, COLUMN):
        # Each is somewhere else in the audio.
        new = [
            np.roll(samples[k : k + 2 * COLUMN], 37 * i)[:COLUMN] * (0.2 + i / STREAMS)
            for i in range(STREAMS)
        ]
        before = time.perf_counter()
        pcodec.decode_together(decoders, pcodec.encode_together(encoders, new))
        took.append(time.perf_counter() - before)
    return np.array(took[32:])


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    clip = read(arguments.audio, RATE)
    samples = np.resize(clip, int(arguments.minutes * 60 * RATE))
    codec = pcodec.load(threads=1)
    heard, delays, memory = pipe(samples)
    said = (samples * 32767).round() / np.float32(32768)
    offline = codec.from_tokens(codec.to_tokens(said))[: len(samples)]
    assert len(heard) == len(samples)
    noise = np.square(heard - offline, dtype=np.float64).sum()
    ratio = 10 * np.log10(np.square(offline, dtype=np.float64).sum() / noise)
    quarter = len(delays) // 4
    drift = 1000 * (np.median(delays[-quarter:]) - np.median(delays[:quarter]))
    one = columns(codec, samples)
    many = together(pcodec.load(), np.resize(clip, 60 * RATE))
    print(f"{arguments.minutes:g} minutes; algorithmic latency", end=" ")
    print(f"{codec.latency / RATE * 1000:.0f} ms\n")
    print("| ms | median | 99.9 % | most |\n|---|---|---|---|")
    print(f"| through both processes, from said to heard | {percentiles(delays)} |")
    print(f"| encoding of a column, one core | {percentiles(one[0])} |")
    print(f"| decoding of a column, one core | {percentiles(one[1])} |")
    print(f"| both | {percentiles(one.sum(0))} |")
    print(f"| of {STREAMS} columns of {STREAMS} streams, {os.cpu_count()} cores |", end=" ")
    print(f"{percentiles(many)} |\n")
    print(f"Drift of the delay, last quarter against first: {drift:+.1f} ms. Memory of the encoder")
    print(f"{memory[0][0]:.0f} -> {memory[-1][0]:.0f} MB, of the decoder", end=" ")
    print(f"{memory[0][1]:.0f} -> {memory[-1][1]:.0f} MB. Against the offline output:", end=" ")
    print(f"{ratio:.0f} dB.")


if __name__ == "__main__":
    main()
