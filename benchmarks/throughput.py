"""How fast tokens are made of many files: single calls, batches, `pcodec tokens`, Ray.

    python benchmarks/throughput.py AUDIO [--ray] [--cores N] [--seconds N]

Takes clips of 1, 4, 15 and 60 s of AUDIO, which is repeated if it is shorter. Each call of the
library has SECONDS of audio, and the command ten times as much, as its workers must start first.
Every way runs on N cores, three times in turns; the best time counts. Without --ray its row is
missing; Ray itself is started before. Takes about four minutes on two cores that have nothing else
to do; what it prints is the tables of docs/howto/corpora.md.
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
from typing import Any, NamedTuple

import numpy as np
import soundfile

import pcodec
from pcodec.audio import Samples, read
from pcodec.cli import cli
from pcodec.codec import Codec
from pcodec.cores import cores

RATE, TURNS = 16000, 3
LENGTHS = (1, 4, 15, 60)
COMMAND = 10
"""Times as much audio for the command."""

HOURS, CORES = (10_000, 1_000_000), (2, 16, 128, 1024)

SINGLE_ENCODE, BATCH_ENCODE = "`to_tokens`, clip by clip", "`encode_batch`"
SINGLE_DECODE, BATCH_DECODE = "`from_tokens`, clip by clip", "`decode_batch`"
TOKENS, RAY = "`pcodec tokens`", "`pcodec tokens --engine ray`"


class Time(NamedTuple):
    """Seconds that a way took: of the clock, of this process' cores, of its children's."""

    clock: float
    own: float
    children: float

    @classmethod
    def now(cls) -> Time:
        of = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), *(usage.ru_utime + usage.ru_stime for usage in of))


def best_times(ways: dict[str, Callable[[], Any]]) -> dict[str, Time]:
    """The shortest time of each way, in turns."""
    times: dict[str, list[Time]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            before = Time.now()
            way()
            took = (b - a for a, b in zip(before, Time.now(), strict=True))
            times[name].append(Time(*took))
    return {name: min(some) for name, some in times.items()}


def calls(codec: Codec, clips: list[Samples]) -> dict[str, Callable[[], Any]]:
    """The ways of the library."""
    tokens = codec.encode_batch(clips[:1]) * len(clips)
    return {
        SINGLE_ENCODE: lambda: [codec.to_tokens(clip) for clip in clips],
        BATCH_ENCODE: lambda: codec.encode_batch(clips),
        SINGLE_DECODE: lambda: [codec.from_tokens(x) for x in tokens],
        BATCH_DECODE: lambda: codec.decode_batch(tokens),
    }


def command(folder: Path, clips: int, workers: int, *options: str) -> Callable[[], Any]:
    """`pcodec tokens` of a folder with so many clips, each time anew."""
    shards = ("--workers", str(workers), "--shard-clips", str(max(1, clips // (8 * workers))))

    def run() -> None:
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stderr(io.StringIO()):
            arguments = ["tokens", "-q", str(folder), "-o", out, *shards, *options]
            cli.main(arguments, standalone_mode=False)

    return run


def measure(
    codec: Codec, clip: Samples, seconds: float, count: int, ray: bool
) -> tuple[dict[str, float], Time]:
    """Times real time of each way with copies of a clip; the times of `pcodec tokens`."""
    length = len(clip) / RATE
    some = max(1, round(seconds / length))
    many = max(1, round(COMMAND * seconds / length))
    fast = best_times(calls(codec, [clip] * some))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(many):
            soundfile.write(folder / f"{i:05d}.flac", clip, RATE)
        ways = {TOKENS: command(folder, many, count)}
        if ray:
            ways[RAY] = command(folder, many, count, "--engine", "ray")
        slow = best_times(ways)
    speeds = {name: some * length / took.clock for name, took in fast.items()}
    speeds |= {name: many * length / took.clock for name, took in slow.items()}
    speeds["encoding: batch / single"] = speeds[BATCH_ENCODE] / speeds[SINGLE_ENCODE]
    speeds["decoding: batch / single"] = speeds[BATCH_DECODE] / speeds[SINGLE_DECODE]
    return speeds, slow[TOKENS]


def duration(hours: float) -> str:
    """Hours as text, in days where they are many."""
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--cores", type=int, default=cores())
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--ray", action="store_true", help="Measure the engine ray, too.")
    options = parser.parse_args()
    codec, speech = pcodec.load(threads=options.cores), read(options.audio, RATE)
    if options.ray:
        import ray

        ray.init(num_cpus=options.cores, log_to_driver=False, logging_level="ERROR")
    speeds, times = {}, {}
    for length in LENGTHS:
        clip = np.resize(speech, length * RATE)
        found = measure(codec, clip, options.seconds, options.cores, options.ray)
        speeds[length], times[length] = found
    heads = " | ".join(f"{length} s" for length in LENGTHS)
    print(f"| times real time, {options.cores} cores, clips of | {heads} |")
    print("|---" * (1 + len(LENGTHS)) + "|")
    for name in speeds[LENGTHS[0]]:
        form = ".2f" if "/" in name else ".0f"
        print(f"| {name} | {' | '.join(f'{speeds[n][name]:{form}}' for n in LENGTHS)} |")
    middle = LENGTHS[2]
    one = speeds[middle][TOKENS] / options.cores
    print(f"\nSo one core takes {one:.0f} hours of clips of {middle} s per hour, and a corpus:\n")
    print(f"| hours | {' | '.join(f'{n} cores' for n in CORES)} |")
    print("|---" * (1 + len(CORES)) + "|")
    for hours in HOURS:
        print(f"| {hours:,} | {' | '.join(duration(hours / one / n) for n in CORES)} |")
    shares = [round(times[n].children / times[n].own) for n in LENGTHS]
    print(
        "\nThe process that reads the list and writes the shards has as much to do as"
        f" {', '.join(map(str, shares[:-1]))} and {shares[-1]} workers, for clips of these lengths:"
        " with more of them the local engine gains nothing."
    )


if __name__ == "__main__":
    main()
