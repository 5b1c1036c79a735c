"""Packet loss: pcodec's concealment beside that of Opus, the same loss in time.

    python benchmarks/packet_loss.py DATA [--every N]

DATA is a folder, a list or a file as `pcodec eval` takes it. Writes a markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pcodec
from pcodec.audio import read
from pcodec.bitpack import pack
from pcodec.clips import find_clips
from pcodec.eval.codecs import FRAME, AbsentError, Opus
from pcodec.eval.metrics import RATE, or_nan

TICK = 512
"""samples: the loss process lives on a grid of 32 ms"""
NAMES = ("pesq", "stoi", "visqol")


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


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every Nth file")
    arguments = parser.parse_args()
    codec = pcodec.load()
    try:
        peers = {f"Opus {kbps}": Opus(kbps * 1000) for kbps in (8, 9)}
    except AbsentError as error:
        print(f"{error}\n")
        peers = {}
    clips = [read(path, RATE) for path, _ in find_clips(arguments.data)][:: arguments.every]
    conditions = [(0.0, 1.0)] + [(r, b) for b in (1.0, 2.5) for r in (0.05, 0.1, 0.2)]
    print(f"{len(clips)} files, {sum(map(len, clips)) / RATE / 60:.1f} minutes\n")
    print("| loss | codec | kbit/s | PESQ-WB | STOI | ViSQOL |\n|---|---|---|---|---|---|")
    for share, burst in conditions:
        name = f"{share:.0%}" + (f", bursts of {burst * TICK / RATE * 1000:.0f} ms" * (burst > 1))
        scores: dict[str, list[list[float]]] = {}
        bits: dict[str, float] = {}
        for i, clip in enumerate(clips):
            lost = losses(len(clip) // TICK + 2, share, burst, np.random.default_rng([7, i]))
            tokens = codec.to_tokens(clip)
            columns = [pack(column[None], 10) for column in tokens]
            with codec.stream_decoder() as decoder:
                pieces = [
                    decoder.decode_packet(None if gone else packet)
                    for packet, gone in zip(columns, lost[: len(columns)], strict=True)
                ]
                pieces.append(decoder.finish())
            outputs = {"pcodec": np.concatenate(pieces)[: len(clip)]}
            bits["pcodec"] = bits.get("pcodec", 0) + 8 * sum(map(len, columns))
            for peer_name, peer in peers.items():
                peer.reset()
                packets = peer.encode(clip)
                # A packet is lost if its middle falls into a lost tick.
                kept = [
                    None if lost[min(int((k + 0.5) * FRAME) // TICK, len(lost) - 1)] else packet
                    for k, packet in enumerate(packets)
                ]
                outputs[peer_name] = peer.decode(kept)[: len(clip)]
                bits[peer_name] = bits.get(peer_name, 0) + 8 * sum(map(len, packets))
            for codec_name, output in outputs.items():
                row = [or_nan(metric, clip, output) for metric in NAMES]
                scores.setdefault(codec_name, []).append(row)
        for codec_name, rows in scores.items():
            sent = bits[codec_name] / sum(map(len, clips)) * RATE / 1000
            pesq, stoi, visqol = np.nanmean(rows, 0)
            print(
                f"| {name} | {codec_name} | {sent:.2f} | {pesq:.2f} | {stoi:.3f} | {visqol:.2f} |"
            )


if __name__ == "__main__":
    main()
