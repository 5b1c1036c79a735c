"""Draws history.png from history.tsv, and writes the table at the top of performance.md.

    python docs/history.py [--check]

history.tsv has one line for each figure that was measured, old ones too: a new measurement is
a new line. With --check nothing is written, and the exit code tells whether the table is current.
"""

from __future__ import annotations

import csv
import datetime
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
BEGIN, END = "<!-- history -->\n", "\n<!-- end -->"


class Figure(NamedTuple):
    """What a figure of history.tsv is, and what is wanted of it."""

    title: str
    better: str
    target: float
    why: str


FIGURES = {
    "column_ms": Figure("a column, both ways, 99.9 %, ms", "lower", 8, ""),
    "streams_ms": Figure("32 streams, a column of each, 99.9 %, ms", "lower", 32, "a column"),
    "encode_opus": Figure("encode, times libopus' encoding", "lower", 1.1, "Lyra v2"),
    "decode_opus": Figure("decode, times libopus' encoding", "lower", 1.5, "Lyra v2"),
    "lost_20": Figure("PESQ lost at 20 % loss", "lower", 1.56, "Opus, 8.1 kbit/s"),
    "lost_20_bursts": Figure("the same in bursts of 80 ms", "lower", 1.55, "Opus, 8.1 kbit/s"),
    "pesq": Figure("PESQ-WB on dev", "higher", 3.13, "Opus, 8.5 kbit/s"),
    "distillmos": Figure("DistillMOS on dev", "higher", 4.1, ""),
}
"""Those with a target; the others are history only."""


def read() -> list[dict[str, str]]:
    """The lines of history.tsv, oldest first."""
    with (HERE / "history.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return sorted(rows, key=lambda row: row["date"])


def latest(rows: list[dict[str, str]], figure: str) -> list[dict[str, str]]:
    """The newest line of each machine, of those with what runs today; best first."""
    own = [row for row in rows if row["figure"] == figure]
    own = [row for row in own if row["runtime"] == own[-1]["runtime"]]
    newest = {row["machine"]: row for row in own}
    worst_first = FIGURES[figure].better == "higher"
    return sorted(newest.values(), key=lambda row: float(row["value"]), reverse=worst_first)


def table(rows: list[dict[str, str]]) -> str:
    """Target, today, machine, date, in Markdown."""
    lines = ["| what | target | today | machine | date |", "|---|---|---|---|---|"]
    for name, (title, better, target, why) in FIGURES.items():
        sign = "at most" if better == "lower" else "at least"
        wanted = f"{sign} {target:g}" + (f" ({why})" if why else "")
        for row in latest(rows, name):
            value = float(row["value"])
            met = value <= target if better == "lower" else value >= target
            shown = f"**{row['value']}**" if met else row["value"]
            machine = "" if row["machine"] == "any" else row["machine"]
            lines.append(f"| {title} | {wanted} | {shown} | {machine} | {row['date']} |")
            title = wanted = ""
    return "\n".join(lines)


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Quality by date, and the time of a column by machine."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (quality, time) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, label in (
        ("pesq", "PESQ-WB"),
        ("distillmos", "DistillMOS"),
        ("pesq_hifigan", "PESQ-WB, hifigan"),
    ):
        own = [row for row in rows if row["figure"] == name]
        dates = [datetime.date.fromisoformat(row["date"]) for row in own]
        quality.plot(dates, [float(row["value"]) for row in own], "o-", label=label)
    quality.set(ylabel="all of dev, through .pcx")
    quality.tick_params("x", rotation=30)
    quality.legend()
    own = [row for row in rows if row["figure"] == "column_ms"]
    names = [f"{row['machine'].partition(',')[0]}\n{row['runtime']}" for row in own]
    colours = ["tab:gray" if row["runtime"] == "torch" else "tab:blue" for row in own]
    time.bar(names, [float(row["value"]) for row in own], color=colours)
    time.axhline(FIGURES["column_ms"].target, color="tab:red", label="target")
    time.set(ylabel="ms for a column, both ways, 99.9 %")
    time.tick_params("x", labelsize="small")
    time.legend()
    for axis in (quality, time):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(check: bool) -> int:
    """Exit code 1 if the table was not current and is only to be checked."""
    rows, page = read(), HERE / "performance.md"
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    new = head + BEGIN + table(rows) + END + rest.partition(END)[2]
    if check:
        if new != text:
            print("docs/performance.md: the table of targets was not current")
        return int(new != text)
    page.write_text(new, encoding="utf-8")
    draw(rows, HERE / "history.png")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
