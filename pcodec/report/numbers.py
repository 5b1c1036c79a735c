"""Numbers of the report as text."""

from __future__ import annotations

import math
from typing import Any

MINUS = "\u2212"


def digits(scores: list[dict[str, float]]) -> int:
    """Decimals by a metric's intervals: the usual half width is 2 or more of the last digit."""
    halves = sorted((s["high"] - s["low"]) / 2 for s in scores)
    half = halves[len(halves) // 2] if halves else 0.0
    return 3 if half <= 0 else min(4, max(0, math.ceil(-math.log10(half / 2))))


def two_figures(value: float) -> str:
    """A number with two significant figures."""
    if value <= 0:
        return f"{value:.0f}"
    return f"{value:.{min(6, max(0, 1 - math.floor(math.log10(value))))}f}"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two others, evenly spaced."""
    for power in range(-6, 9):
        for digit in (1, 2, 5):
            step = digit * 10.0**power
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most:
                return [round(i * step, 9) for i in range(first, last + 1)]
    return []


def number(value: float) -> str:
    """The label of a tick, with a real minus sign."""
    return f"{value:g}".replace("-", MINUS)


def wanted(metric: dict[str, Any]) -> str:
    """Whether higher or lower is better, in words."""
    return "lower is better \u2193" if metric["better"] == "lower" else "higher is better \u2191"


def with_unit(metric: dict[str, Any]) -> str:
    """A metric's title and its unit, if it has one."""
    return f"{metric['title']}, {metric['unit']}" if metric["unit"] else str(metric["title"])
