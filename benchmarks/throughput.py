"""How fast tokens are made of many files: single calls, batches, `pcodec tokens`, Ray.

    python benchmarks/throughput.py AUDIO [--threads N] [--seconds N]

Takes clips of 1, 4, 15 and 60 s of AUDIO (repeated if it is shorter), so many that each way has
some SECONDS of work. The ways are run in turns, five times; the best time of each counts. Writes
a markdown table of times real time: of the clock, and of a core (audio per second of processor
time). Without Ray, its row is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import pcodec
from pcodec.audio import read
from pcodec.cli import cli
from pcodec.cores import cores

RATE, TURNS = 16000, 5
LENGTHS = (1, 4, 15, 60)


def used() -> float:
    """Seconds of processor time of this process and those that it has waited for."""
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def measure(ways: dict[str, Callable[[], Any]], seconds: float) -> dict[str, tuple[float, float]]:
    """Times real time of each way, in turns: of the clock, of a core."""
    best: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            clock, core = time.perf_counter(), used()
            way()
            best[name].append((time.perf_counter() - clock, used() - core))
    return {
        name: (seconds / min(t for t, _ in times), seconds / min(c for _, c in times))
        for name, times in best.items()
    }


def command(folder: Path, *options: str) -> Callable[[], Any]:
    """`pcodec tokens` of a folder, each time anew."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stderr(io.StringIO()):
            arguments = ["tokens", "-q", str(folder), "-o", out, *options]
            cli.main(arguments, standalone_mode=False)

    return run


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--ray", action="store_true", help="With Ray, started before.")
    options = parser.parse_args()
    codec = pcodec.load(threads=options.threads)
    speech = read(options.audio, RATE)
    if options.ray:
        import ray

        ray.init(num_cpus=options.threads, log_to_driver=False, logging_level="ERROR")
    print(f"{options.threads} threads or workers; {options.seconds:g} s of audio each\n")
    print("| clips of | | times real time | of a core |\n|---|---|---|---|")
    for length in LENGTHS:
        clips = [np.resize(speech, length * RATE)] * max(1, round(options.seconds / length))
        tokens = codec.encode_batch(clips[:1]) * len(clips)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for i, clip in enumerate(clips):
                soundfile.write(folder / f"{i:04d}.flac", clip, RATE)
            workers = ("--workers", str(options.threads))
            shards = ("--shard-clips", str(max(1, len(clips) // 16)))
            ways: dict[str, Callable[[], Any]] = {
                "to_tokens": lambda: [codec.to_tokens(clip) for clip in clips],  # noqa: B023
                "encode_batch": lambda: codec.encode_batch(clips),  # noqa: B023
                "from_tokens": lambda: [codec.from_tokens(x) for x in tokens],  # noqa: B023
                "decode_batch": lambda: codec.decode_batch(tokens),  # noqa: B023
                "pcodec tokens": command(folder, *workers, *shards),
            }
            if options.ray:
                ways["pcodec tokens, Ray"] = command(folder, "--engine", "ray", *workers, *shards)
            for way, (clock, core) in measure(ways, length * len(clips)).items():
                # Ray's processes are not this one's children.
                of_core = "" if "Ray" in way else f"{core:.0f}"
                print(f"| {length} s | {way} | {clock:.0f} | {of_core} |", flush=True)


if __name__ == "__main__":
    main()
