"""Speech as it comes: other levels, an offset, rumble, raised pitch, noise, languages; and music.

    python benchmarks/conditions.py LIST [--every N] [--music FOLDER]

LIST is a tsv with columns `path` and `language`. What comes out is measured against what
went in, noise included; an offset and rumble are not: there the reference is the clean speech.
"Level" is that of the output relative to the reference, dB. Writes a markdown table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import soxr

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


class Input(NamedTuple):
    """What is coded, and what the result is compared with."""

    samples: Samples
    reference: Samples


def faster(clip: Samples, factor: float) -> Samples:
    """Speech played faster: pitch, formants and tempo rise alike."""
    result: Samples = soxr.resample(clip, factor, 1.0, "VHQ").astype(np.float32)
    return result / np.float32(max(1.0, float(np.abs(result).max())))


def disturbed(clip: Samples) -> dict[str, Input]:
    """Speech with what a high pass removes, at half of full scale, so that nothing clips."""
    clip = (clip * (0.5 / float(np.abs(clip).max()))).astype(np.float32)
    result = {f"offset of {x:g}": Input(clip + np.float32(x), clip) for x in (0.05, 0.25)}
    spectrum = np.fft.rfft(np.random.default_rng(2).standard_normal(len(clip)))
    hertz = np.fft.rfftfreq(len(clip), 1 / RATE)
    rumble = np.fft.irfft(np.where((hertz > 15) & (hertz < 50), spectrum, 0), len(clip))
    # A quarter of the energy of both.
    rumble *= np.sqrt(np.mean(clip**2) / 3 / np.mean(rumble**2))
    result["rumble of 15 to 50 Hz"] = Input((clip + rumble).astype(np.float32), clip)
    return result


def inputs(clip: Samples, others: list[Samples]) -> dict[str, Input]:
    """What one clip becomes, by condition."""
    result = {name: Input(x, x) for name, x in as_heard(clip, others).items()}
    return {**result, **disturbed(clip)}


def as_heard(clip: Samples, others: list[Samples]) -> dict[str, Samples]:
    """What one clip becomes where the result is compared with all that was heard."""
    peak = float(np.abs(clip).max())
    white = np.random.default_rng(1).standard_normal(len(clip))
    babble = np.sum([np.resize(x / np.std(x), len(clip)) for x in others], 0)
    result = {"as it is": clip}
    for level in (0, -10, -20, -30, -40, -50):
        scaled = clip * (10 ** (level / 20) / peak)
        rounded = (scaled * 32767).round() / 32768  # to 16 bits, as in a file
        result[f"peak at {level} dBFS"] = rounded.astype(np.float32)
    for factor in (1.5, 2.0):
        result[f"played {factor:g} times faster"] = faster(clip, factor)
    for ratio in (20, 10, 0):
        result[f"white noise, {ratio} dB below"] = mixed(clip, white, ratio)
    for ratio in (20, 10, 0):
        result[f"{len(others)} other voices, {ratio} dB below"] = mixed(clip, babble, ratio)
    return result


@cache
def _codec() -> Codec:
    return pcodec.load(threads=1)


def scores(given: Input) -> list[float]:
    """By each of NAMES, of what comes out, and its level relative to the reference, dB."""
    samples, reference = given
    decoded = _codec().from_tokens(_codec().to_tokens(samples))[: len(samples)]
    level = 10 * np.log10(np.mean(decoded**2) / np.mean(reference**2))
    return [*(or_nan(metric, reference, decoded) for metric in NAMES), float(level)]


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every Nth file")
    parser.add_argument("--music", type=Path, help="a folder of it")
    arguments = parser.parse_args()
    rows = read_list(arguments.list)[:: arguments.every]
    clips = [read(path, RATE) for path, _ in rows]
    todo: list[tuple[str, Input]] = []
    for i, clip in enumerate(clips):
        todo += inputs(clip, [clips[(i + k) % len(clips)] for k in range(1, 5)]).items()
    if arguments.music:
        pieces = read_list(arguments.music)[:: arguments.every]
        music = (read(path, RATE)[: SECONDS * RATE] for path, _ in pieces)
        todo += [("music", Input(piece, piece)) for piece in music]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(scores, [given for _, given in todo]))
    table = [(name, row) for (name, _), row in zip(todo, done, strict=True)]
    plain = [row for name, row in table if name == "as it is"]
    table += [
        (f"as it is, language {about.get('language')}", row)
        for (_, about), row in zip(rows, plain, strict=True)
    ]
    print("| | files | PESQ-WB | STOI | ViSQOL | log-mel distance | level, dB (worst) |")
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(name for name, _ in table):
        own = [row for n, row in table if n == name]
        pesq, stoi, visqol, log_mel, level = np.nanmean(own, 0)
        worst = max((row[-1] for row in own), key=abs)
        print(f"| {name} | {len(own)} | {pesq:.2f} | {stoi:.3f} | {visqol:.2f} |", end="")
        print(f" {log_mel:.3f} | {level:+.2f} ({worst:+.2f}) |")


if __name__ == "__main__":
    main()
