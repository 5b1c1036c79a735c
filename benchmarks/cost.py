"""What a file costs by its length: time and memory of the two commands, start-up included.

    python benchmarks/cost.py AUDIO [--hours 3]

AUDIO is repeated. One core. Writes a markdown table, and with it docs/cost.png.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from pcodec.audio import read

RATE = 16000
PICTURE = Path(__file__).parent.parent / "docs" / "cost.png"


def cost(*arguments: object) -> tuple[float, float]:
    """Seconds and MB (peak, resident) of a pcodec command in a process of its own."""
    command = [sys.executable, "-m", "pcodec", *map(str, arguments), "--threads", "1"]
    started = time.perf_counter()
    pid = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, command
    return time.perf_counter() - started, usage.ru_maxrss / 1000


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    arguments = parser.parse_args()
    clip = read(arguments.audio, RATE)
    rows = []
    print("| audio, s | encode, s | MB | decode, s | MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seconds in (1, 3, 10, 60, 600, 3600, 10800):
            if seconds > arguments.hours * 3600:
                break
            wav, pcx, out = (folder / f"{seconds}{s}" for s in (".wav", ".pcx", "_out.wav"))
            with soundfile.SoundFile(wav, "w", RATE, 1, "PCM_16") as file:
                for start in range(0, seconds * RATE, len(clip)):
                    file.write(clip[: seconds * RATE - start])
            row = (*cost("encode", "-q", wav, pcx), *cost("decode", "-q", pcx, out))
            rows.append((seconds, *row))
            print(f"| {seconds} | {row[0]:.2f} | {row[1]:.0f} | {row[2]:.2f} | {row[3]:.0f} |")
            for path in (wav, pcx, out):
                path.unlink()

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    length, encode, encode_mb, decode, decode_mb = np.array(rows).T
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, took, memory in (("encode", encode, encode_mb), ("decode", decode, decode_mb)):
        axes[0].loglog(length, took, "o-", label=name)
        axes[1].semilogx(length, memory, "o-", label=name)
    axes[0].set(xlabel="audio, s", ylabel="s, one core, start-up included")
    axes[1].set(xlabel="audio, s", ylabel="MB resident at most", ylim=(0, None))
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
