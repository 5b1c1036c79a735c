"""Draws learning_curve.png from learning_curve.tsv, both beside this file."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

here = Path(__file__).parent
with (here / "learning_curve.tsv").open() as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
for axis, metric in zip(axes, ("pesq", "stoi"), strict=True):
    for stage in dict.fromkeys(row["stage"] for row in rows):
        points = [(float(r["hours"]), float(r[metric])) for r in rows if r["stage"] == stage]
        axis.plot(*zip(*points, strict=True), "o-", label=stage)
    axis.set(xlabel="hours of training on 2 cores, quantiser included", ylabel=metric.upper())
    axis.grid(alpha=0.3)
    axis.legend()
figure.savefig(here / "learning_curve.png", dpi=100)
