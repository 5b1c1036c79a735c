"""What bit rates a model can have, and what they cost.

    python benchmarks/rates.py DATA [--every N] [--model DIR] [--write]

Codes DATA (a folder, a list or a file as `pcodec eval` takes it) with choices of indices for which
bits count more and more. Prints a markdown table. With --write, the model's config.json gets the
table "rates" of it, by which `pcodec encode --bitrate` finds what to do: use dev data for that, not
what is tested on.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

import pcodec
from pcodec import models
from pcodec.audio import read
from pcodec.audio.clips import find_clips
from pcodec.codec import Codec
from pcodec.cores import cores
from pcodec.eval.metrics import RATE, or_nan
from pcodec.networks.checkpoint import replaced
from pcodec.pcx.transcode import encode_stream

STRENGTHS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.2, 2.0, 3.0, 5.0)
OFFERED = 3.0
"""The largest strength in a model's table: beyond, speech falls apart."""
METRICS = ("pesq", "stoi", "estoi")


@cache
def codec(model: str | None) -> Codec:
    """A model, loaded once a process."""
    return pcodec.load(model, threads=1)


def measure(job: tuple[Path, float, str | None]) -> list[float]:
    """Of a file coded with a strength: seconds, bytes of payload, bytes of file, scores."""
    path, strength, model = job
    samples, out = read(path, RATE), io.BytesIO()
    writer = encode_stream(codec(model), [samples], RATE, out, compact=True, strength=strength)
    decoded, _ = pcodec.decode(out.getvalue(), codec=codec(model))
    scores = [or_nan(metric, samples, decoded) for metric in METRICS]
    return [len(samples) / RATE, writer.payload_bytes, len(out.getvalue()), *scores]


def extremes(paths: list[Path], model: str | None) -> str:
    """What `--compact` makes of the loudest and the quietest file, of silence and of noise."""
    files = {path: read(path, RATE) for path in paths}
    by_level = sorted(files, key=lambda path: float(np.square(files[path]).mean()))
    noise = np.random.default_rng(0).normal(0, 0.1, 60 * RATE).astype(np.float32)
    minute = np.resize(np.concatenate(list(files.values())), 60 * RATE)
    inputs = {
        f"the loudest file ({by_level[-1].name})": files[by_level[-1]],
        f"the quietest file ({by_level[0].name})": files[by_level[0]],
        "a minute of speech": minute,
        "a minute of silence": np.zeros(60 * RATE, np.float32),
        "a minute of white noise": noise,
    }
    lines = ["| input | bytes | with `--compact` | kbit/s of payload | on disk |"]
    lines.append("|---|---|---|---|---|")
    for name, samples in inputs.items():
        out = io.BytesIO()
        writer = encode_stream(codec(model), [samples], RATE, out, compact=True)
        plain, small = len(pcodec.encode(samples, RATE, codec=codec(model))), len(out.getvalue())
        payload, disk = (8 * n * RATE / len(samples) / 1000 for n in (writer.payload_bytes, small))
        lines.append(f"| {name} | {plain} | {small} | {payload:.2f} | {disk:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take each Nth clip only")
    parser.add_argument("--model", help="name or folder")
    parser.add_argument("--write", action="store_true", help="into the model's config.json")
    options = parser.parse_args()
    paths = [path for path, _ in find_clips(options.data)][:: options.every]
    jobs = [(path, strength, options.model) for strength in STRENGTHS for path in paths]
    with ProcessPoolExecutor(cores()) as pool:
        found = np.array(list(pool.map(measure, jobs))).reshape(len(STRENGTHS), len(paths), -1)
    print(
        "| strength | kbit/s | kbit/s on disk | PESQ-WB | STOI | ESTOI |\n|---|---|---|---|---|---|"
    )
    rates: list[tuple[float, float]] = []
    for strength, files in zip(STRENGTHS, found, strict=True):
        seconds, payload, disk = files[:, :3].sum(0)
        pesq, stoi, estoi = np.nanmean(files[:, 3:], 0)
        rates.append((strength, round(8 * payload / seconds)))
        disk_rate = 8 * disk / seconds / 1000
        cells = f"{strength:g} | {rates[-1][1] / 1000:.2f} | {disk_rate:.2f} | {pesq:.3f}"
        print(f"| {cells} | {stoi:.4f} | {estoi:.4f} |")
    print("\n" + extremes(paths, options.model))
    if options.write:
        path = models.find(options.model).folder / "config.json"
        about: dict[str, Any] = json.loads(path.read_text())
        about["rates"] = [rate for rate in rates if rate[0] <= OFFERED]
        with replaced(path) as part:
            part.write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
