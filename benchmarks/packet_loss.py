"""Packet loss: pcodec's concealment beside that of Opus, the same loss in time.

    python benchmarks/packet_loss.py DATA [--every N]

DATA is a folder, a list or a file as `pcodec eval` takes it. Writes a markdown table.
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
from numpy.typing import NDArray

import pcodec
from pcodec.audio import read
from pcodec.audio.clips import find_clips
from pcodec.codec import Codec
from pcodec.cores import cores
from pcodec.eval.metrics import RATE, Samples, or_nan
from pcodec.eval.peers.base import FRAME, AbsentError
from pcodec.eval.peers.opus import Opus
from pcodec.pcx.packing import pack

TICK = 512
"""samples: the loss process lives on a grid of 32 ms"""
CONDITIONS = [(0.0, 1.0)] + [(share, burst) for burst in (1.0, 2.5) for share in (0.05, 0.1, 0.2)]
"""share of lost ticks, mean ticks of a burst"""
OPUS_RATES = (8000, 8400, 9000)
"""asked for; it gives some 7.7, 8.1 and 8.5 kbit/s"""
NAMES = ("pesq", "stoi", "visqol")


class Score(NamedTuple):
    """Of one codec on one clip under one condition."""

    condition: tuple[float, float]
    codec: str
    bits: int
    values: list[float]


def losses(ticks: int, rate: float, burst: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which ticks are lost: independent, or in bursts of a mean length (Gilbert's model)."""
    if burst <= 1:
        return rng.random(ticks) < rate
    end = 1 / burst
    begin = rate * end / (1 - rate)
    lost, state = np.zeros(ticks, bool), False
    for i in range(ticks):
        state = rng.random() >= end if state else rng.random() < begin
        lost[i] = state
    return lost


@cache
def _codec() -> Codec:
    return pcodec.load(threads=1)


@cache
def _peers() -> dict[str, Opus]:
    try:
        return {f"Opus {rate / 1000:g}": Opus(rate) for rate in OPUS_RATES}
    except AbsentError:
        return {}


def ours(packets: list[bytes], lost: NDArray[np.bool_]) -> Samples:
    """What is heard of packets of a column each."""
    with _codec().stream_decoder() as decoder:
        pieces = [
            decoder.decode_packet(None if gone else packet)
            for packet, gone in zip(packets, lost[: len(packets)], strict=True)
        ]
        return np.concatenate([*pieces, decoder.finish()])


def opus(peer: Opus, packets: list[bytes], lost: NDArray[np.bool_]) -> Samples:
    """The same of Opus. A packet is lost if its middle falls into a lost tick."""
    middles = ((np.arange(len(packets)) + 0.5) * FRAME).astype(int)
    gone = lost[np.minimum(middles // TICK, len(lost) - 1)]
    return peer.decode([None if g else p for p, g in zip(packets, gone, strict=True)])


def measured(number: int, path: Path) -> tuple[int, list[Score]]:
    """The samples of a clip, and its scores."""
    clip, scores = read(path, RATE), []
    columns = [pack(column[None], 10) for column in _codec().to_tokens(clip)]
    for share, burst in CONDITIONS:
        rng = np.random.default_rng([7, number])
        lost = losses(len(clip) // TICK + 2, share, burst, rng)
        heard = {"pcodec": (columns, ours(columns, lost))}
        for name, peer in _peers().items():
            peer.reset()
            packets = peer.encode(clip)
            heard[name] = packets, opus(peer, packets, lost)
        for name, (packets, output) in heard.items():
            values = [or_nan(metric, clip, output[: len(clip)]) for metric in NAMES]
            scores.append(Score((share, burst), name, 8 * sum(map(len, packets)), values))
    return len(clip), scores


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every Nth file")
    arguments = parser.parse_args()
    paths = [path for path, _ in find_clips(arguments.data)][:: arguments.every]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores(), context) as pool:
        lengths, lists = zip(*pool.map(measured, range(len(paths)), paths), strict=True)
    seconds = sum(lengths) / RATE
    print(f"{len(paths)} files, {seconds / 60:.1f} minutes\n")
    print("| loss | codec | kbit/s | PESQ-WB | STOI | ViSQOL |\n|---|---|---|---|---|---|")
    table: dict[tuple[tuple[float, float], str], list[Score]] = {}
    for score in (score for scores in lists for score in scores):
        table.setdefault((score.condition, score.codec), []).append(score)
    for ((share, burst), codec), scores in table.items():
        name = f"{share:.0%}" + (f", bursts of {burst * TICK / RATE * 1000:.0f} ms" * (burst > 1))
        sent = sum(score.bits for score in scores) / seconds / 1000
        pesq, stoi, visqol = np.nanmean([score.values for score in scores], 0)
        print(f"| {name} | {codec} | {sent:.2f} | {pesq:.2f} | {stoi:.3f} | {visqol:.2f} |")


if __name__ == "__main__":
    main()
