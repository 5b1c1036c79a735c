"""Speech as it comes: at other levels, in noise, in other languages; and music.

    python benchmarks/conditions.py LIST [--every N] [--music FOLDER]

LIST is a tsv with columns `path` and `language`. What comes out is measured against what
went in, the noise included. Writes a markdown table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

import pcodec
from pcodec.audio import read
from pcodec.audio.clips import read_list
from pcodec.codec import Codec
from pcodec.eval.metrics import RATE, Samples, or_nan

NAMES = ("pesq", "stoi", "visqol", "log_mel")
SECONDS = 10
"""of a piece of music"""


def mixed(clip: Samples, noise: Samples, ratio: float) -> Samples:
    """Speech with noise, so many dB below it; scaled where it would be beyond full scale."""
    gain = np.sqrt(np.mean(clip**2) / np.mean(noise**2)) * 10 ** (-ratio / 20)
    both = clip + gain * noise
    result: Samples = (both / max(1.0, float(np.abs(both).max()))).astype(np.float32)
    return result


def inputs(clip: Samples, others: list[Samples]) -> dict[str, Samples]:
    """What one clip becomes, by condition."""
    peak = float(np.abs(clip).max())
    white = np.random.default_rng(1).standard_normal(len(clip))
    babble = np.sum([np.resize(x / np.std(x), len(clip)) for x in others], 0)
    result = {"as it is": clip}
    for level in (0, -10, -20, -30, -40):
        scaled = clip * (10 ** (level / 20) / peak)
        result[f"peak at {level} dBFS"] = scaled.astype(np.float32)
    for ratio in (20, 10, 0):
        result[f"white noise, {ratio} dB below"] = mixed(clip, white, ratio)
    for ratio in (20, 10, 0):
        result[f"{len(others)} other voices, {ratio} dB below"] = mixed(clip, babble, ratio)
    return result


@cache
def _codec() -> Codec:
    return pcodec.load(threads=1)


def scores(samples: Samples) -> list[float]:
    """By each of NAMES, of what comes out."""
    decoded = _codec().from_tokens(_codec().to_tokens(samples))[: len(samples)]
    return [or_nan(metric, samples, decoded) for metric in NAMES]


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every Nth file")
    parser.add_argument("--music", type=Path, help="a folder of it")
    arguments = parser.parse_args()
    rows = read_list(arguments.list)[:: arguments.every]
    clips = [read(path, RATE) for path, _ in rows]
    todo: list[tuple[str, Samples]] = []
    for i, clip in enumerate(clips):
        todo += inputs(clip, [clips[(i + k) % len(clips)] for k in range(1, 5)]).items()
    if arguments.music:
        pieces = read_list(arguments.music)[:: arguments.every]
        todo += [("music", read(path, RATE)[: SECONDS * RATE]) for path, _ in pieces]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(scores, [samples for _, samples in todo]))
    table = [(name, row) for (name, _), row in zip(todo, done, strict=True)]
    plain = [row for name, row in table if name == "as it is"]
    table += [
        (f"as it is, language {about.get('language')}", row)
        for (_, about), row in zip(rows, plain, strict=True)
    ]
    print("| | files | PESQ-WB | STOI | ViSQOL | log-mel distance |\n|---|---|---|---|---|---|")
    for name in dict.fromkeys(name for name, _ in table):
        own = [row for n, row in table if n == name]
        pesq, stoi, visqol, log_mel = np.nanmean(own, 0)
        print(f"| {name} | {len(own)} | {pesq:.2f} | {stoi:.3f} | {visqol:.2f} | {log_mel:.3f} |")


if __name__ == "__main__":
    main()
