"""Draws a training: losses and scores of a model folder's STAGE.jsonl files over minutes.

python docs/training_curve.py FOLDER [PICTURE]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from pcodec.train.stages import STAGES

OTHERS = ("hifigan", "concealment", "entropy")
"""Stages whose losses are others."""
PANELS = {
    "loss: log-mel": "mel",
    "loss: mels of the waveform": "waveform",
    "PESQ-WB on dev": "pesq",
    "STOI on dev": "stoi",
}


def curves(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of each stage, with "minutes" from the start of the first one."""
    found, before = {}, 0.0
    for stage in STAGES:
        path = folder / f"{stage}.jsonl"
        if path.exists() and stage not in OTHERS:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[stage] = [{**x, "minutes": (before + x["seconds"]) / 60} for x in lines]
            before += lines[-1]["seconds"]
    return found


def draw(folder: Path, picture: Path) -> None:
    """Writes the picture."""
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(14, 3.6), layout="constrained")
    for axis, (title, key) in zip(axes, PANELS.items(), strict=True):
        for stage, lines in curves(folder).items():
            points = [(x["minutes"], x[key]) for x in lines if key in x]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", ms=3, label=stage)
        axis.set(title=title, xlabel="minutes")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw(folder, Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "curve.png")
