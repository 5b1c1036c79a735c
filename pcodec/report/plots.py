"""Plots of the report: metrics against bit rates, as SVG."""

from __future__ import annotations

import itertools
import math
from html import escape
from typing import Any

import numpy as np

from pcodec.report.numbers import number, ticks, wanted, with_unit

FAMILIES = 8
"""Number of colours and marks."""


def family(name: str) -> str:
    """The family of a codec: its name up to the last hyphen."""
    return name.rpartition("-")[0] or name


class Axis:
    """Maps values to pixels, linearly or by their logarithm."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self.log, self.start, self.end = log, start, end
        self.low, self.high = (math.log(low), math.log(high)) if log else (low, high)

    def __call__(self, value: float) -> float:
        value = math.log(value) if self.log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        if not self.log:
            return ticks(self.low, self.high, most)
        low, high = math.exp(self.low), math.exp(self.high)
        for digits_ in ((1, 1.5, 2, 3, 4, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
            found = [d * 10.0**p for p in range(-3, 6) for d in digits_ if low <= d * 10**p <= high]
            if len(found) <= most:
                break
        return found


MARKS = (
    "M{x} {y}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M{x} {y}m-3.6-3.6h7.2v7.2h-7.2z",
    "M{x} {y}m0-5l4.6 8h-9.2z",
    "M{x} {y}m0-5l5 5l-5 5l-5-5z",
    "M{x} {y}m0 5l4.6-8h-9.2z",
    "M{x} {y}m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "M{x} {y}m-5-2.5h10v5h-10z",
    "M{x} {y}m-2.5-5h5v10h-5z",
)


def plot(metric: dict[str, Any], codecs: list[dict[str, Any]], number_: int) -> str:
    """A metric against the payload's bit rate, as SVG; empty if no codec has a score."""
    points = [
        (c["kbit_s"], c["scores"][metric["name"]], c["name"])
        for c in codecs
        if c["kbit_s"] > 0 and metric["name"] in c["scores"]
    ]
    if not points:
        return ""
    families = list(dict.fromkeys(family(c["name"]) for c in codecs))
    width, height, left, right, top, bottom = 460, 300, 48, 14, 12, 40
    rates = [rate for rate, _, _ in points]
    log = max(rates) > 3 * min(rates)
    pad = (max(rates) / min(rates)) ** 0.08 * 1.12 if log else (max(rates) - min(rates)) * 0.12 or 1
    ends = (min(rates) / pad, max(rates) * pad) if log else (min(rates) - pad, max(rates) + pad)
    low, high = (f(s[e] for _, s, _ in points) for f, e in ((min, "low"), (max, "high")))
    room = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    x = Axis(*ends, left, width - right, log)
    y = Axis(low - room, high + room, height - bottom, top, False)
    label = f"{with_unit(metric)} against payload bit rate; {wanted(metric)[:-2]}"
    out = [
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="plot-{number_}"><title id="plot-{number_}">{escape(label)}</title>'
    ]
    out += [
        f'<path class="grid" d="M{left} {y(value):.1f}H{width - right}"/>'
        f'<text class="tick" x="{left - 7}" y="{y(value) + 3.5:.1f}" text-anchor="end">'
        f"{number(value)}</text>"
        for value in y.ticks(6)
    ]
    out += [
        f'<path class="axis" d="M{x(value):.1f} {height - bottom}v4"/>'
        f'<text class="tick" x="{x(value):.1f}" y="{height - bottom + 17}" '
        f'text-anchor="middle">{number(value)}</text>'
        for value in x.ticks(9)
    ]
    out.append(
        f'<path class="axis" d="M{left} {height - bottom}H{width - right}"/>'
        f'<text class="tick" x="{(left + width - right) / 2}" y="{height - 5}" '
        f'text-anchor="middle">payload, kbit/s{" (logarithmic)" if log else ""}</text>'
    )
    taken: list[Area] = []
    for i, name in enumerate(families):
        line = sorted((x(rate), y(s["mean"])) for rate, s, n in points if family(n) == name)
        if len(line) > 1:
            d = "L".join(f"{px:.1f} {py:.1f}" for px, py in line)
            out.append(f'<path class="line f{i % FAMILIES}" d="M{d}"/>')
        for (ax, ay), (bx, by) in itertools.pairwise(line):  # labels keep off the line, too
            steps = np.linspace((ax, ay), (bx, by), 2 + int(abs(bx - ax) + abs(by - ay)) // 8)
            taken += [(px - 1.5, py - 1.5, px + 1.5, py + 1.5) for px, py in steps.tolist()]
    marks = []
    for rate, score, name in points:
        i = families.index(family(name)) % FAMILIES
        px, py = round(x(rate), 1), round(y(score["mean"]), 1)
        said = f"{name}: {score['mean']:.4g} [{score['low']:.4g}, {score['high']:.4g}]"
        up, down = y(score["high"]), y(score["low"])
        marks.append(
            f'<g class="point f{i}"><title>{escape(said)} at {rate:.2f} kbit/s</title>'
            f'<path class="bar" d="M{px} {up:.1f}V{down:.1f}M{px - 3:.1f} {up:.1f}h6'
            f'M{px - 3:.1f} {down:.1f}h6"/>'
            f'<path class="mark" d="{MARKS[i].format(x=px, y=py)}"/></g>'
        )
        taken += [(px - 6, py - 6, px + 6, py + 6), (px - 3, up, px + 3, down)]
    box = (left, top, width - right, height - bottom)
    for rate, score, name in points:
        i = families.index(family(name)) % FAMILIES
        shown = name if len(name) <= 24 else f"{name[:23]}\u2026"
        tx, ty, anchor, area = free_place(x(rate), y(score["mean"]), 7 * len(shown), box, taken)
        taken.append(area)
        out.append(
            f'<text class="name f{i}" x="{tx:.1f}" y="{ty:.1f}" text-anchor="{anchor}">'
            f"{escape(shown)}</text>"
        )
    return "".join([*out, *marks, "</svg>"])


Area = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def free_place(
    x: float, y: float, wide: float, box: Area, taken: list[Area]
) -> tuple[float, float, str, Area]:
    """Where a label of a point covers least: x, y, what of it is there, the area it takes."""
    tries = [(8, 4, "start"), (-8, 4, "end"), (0, -10, "middle"), (0, 19, "middle")]
    tries += [(dx, dy, anchor) for dy in (-8, 16) for dx, anchor in ((7, "start"), (-7, "end"))]
    tries += [(0, -24, "middle"), (0, 33, "middle"), (12, 28, "start"), (12, -20, "start")]
    shift = {"start": 0.0, "middle": wide / 2, "end": wide}
    found = []
    for rank, (dx, dy, anchor) in enumerate(tries):
        start = x + dx - shift[anchor]
        area = (start, y + dy - 9, start + wide, y + dy + 3)
        outside = max(0, box[0] - area[0]) + max(0, area[2] - box[2])
        outside += max(0, box[1] - area[1]) + max(0, area[3] - box[3])
        covered = sum(
            max(0, min(area[2], a[2]) - max(area[0], a[0]))
            * max(0, min(area[3], a[3]) - max(area[1], a[1]))
            for a in taken
        )
        found.append((3 * rank + 100 * outside + 2 * covered, (x + dx, y + dy, anchor, area)))
    return min(found)[1]
