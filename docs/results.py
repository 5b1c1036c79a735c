"""Writes the tables of results into README.md, docs/results.md and the model card; draws rates.png.

    python docs/results.py [--check]

They come from docs/results.json, which `pcodec eval` wrote (the command stands in
docs/results.md). With --check nothing is written, and the exit code tells what is not current.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pcodec.eval.metrics import METRICS

ROOT = Path(__file__).parent.parent
PANELS = ("pesq", "stoi", "visqol", "distillmos", "dnsmos")
"""metrics of the picture"""
SHORT = (
    "pesq", "stoi", "estoi", "visqol", "mcd", "phones", "warpq", "dnsmos", "distillmos", "speaker",
)  # fmt: skip
IN_FULL_ONLY = ("original", "pcodec-4.5")
"""Codecs that the short table leaves out."""


def cell(codec: dict[str, Any], metric: str, interval: bool) -> str:
    """A mean, and half of its 95 % interval."""
    score = codec["scores"].get(metric)
    if score is None:
        return ""
    digits = METRICS[metric].digits
    text = f"{score['mean']:.{digits}f}"
    half = (score["high"] - score["low"]) / 2
    return f"{text} ± {half:.{digits}f}" if interval else text


def table(header: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def title(metric: dict[str, Any]) -> str:
    """A metric's name, with its unit and an arrow to where better is."""
    unit = f", {metric['unit']}" if metric["unit"] else ""
    return f"{metric['title']}{unit} {'↑' if metric['better'] == 'higher' else '↓'}"


def blocks(document: dict[str, Any]) -> dict[str, str]:
    """What stands between the marks of each name."""
    codecs = [c for c in document["codecs"] if not c["absent"]]
    ours = next(c for c in codecs if c["name"] == "pcodec")
    metrics = document["metrics"]
    short = [m for m in metrics if m["name"] in SHORT]
    coded = [c for c in codecs if c["name"] not in IN_FULL_ONLY]
    seconds = sum(file["seconds"] for file in document["files"])
    software = ", ".join(f"{k} {v}" for k, v in document["software"].items())
    full = table(
        ["codec", "kbit/s", "with container", *map(title, metrics)],
        [
            [
                f"**{c['name']}**" if c is ours else c["name"],
                f"{c['kbit_s']:.2f}",
                f"{c['kbit_s_container']:.2f}",
                *(cell(c, m["name"], True) for m in metrics),
            ]
            for c in codecs
        ],
    )
    about = [f"- {c['name']}: {c['about']}" for c in codecs]
    about += [f"- {c['name']}: absent: {c['absent']}" for c in document["codecs"] if c["absent"]]
    about += [f"- {m['title']}: {m['definition']}" for m in metrics]
    scores = [[title(m), cell(ours, m["name"], True)] for m in metrics]
    scores += [
        ["bit rate, kbit/s", f"{ours['kbit_s']:.2f}"],
        ["bit rate of the files, kbit/s", f"{ours['kbit_s_container']:.2f}"],
        ["entropy of the indices, bits", f"{ours['codebook']['entropy_bits']:.2f}"],
        ["entries never used", str(ours["codebook"]["unused"])],
    ]
    return {
        "short": table(
            ["codec", "kbit/s", *map(title, short)],
            [
                [
                    f"**{c['name']}**" if c is ours else c["name"],
                    f"{c['kbit_s']:.2f}",
                    *(cell(c, m["name"], False) for m in short),
                ]
                for c in coded
            ],
        ),
        "full": f"{len(document['files'])} files, {seconds / 60:.1f} minutes, measured "
        f"{document['created'][:10]} with {software}.\n\n{full}\n\n" + "\n".join(about),
        "card": table(["metric", "mean ± half of the 95 % interval"], scores),
    }


def draw(document: dict[str, Any], path: Path) -> None:
    """Metrics against bit rates, a line for each codec that comes at several."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metrics = {m["name"]: m for m in document["metrics"] if m["name"] in PANELS}
    families: dict[str, list[dict[str, Any]]] = {}
    for codec in document["codecs"]:
        if not codec["absent"] and codec["kbit_s"] < 20:
            name = codec["name"]
            family = name if name.endswith("hifigan") else name.partition("-")[0]
            families.setdefault(family, []).append(codec)
    figure, axes = pyplot.subplots(1, len(metrics), figsize=(13, 3.6), layout="constrained")
    for axis, (name, metric) in zip(axes, metrics.items(), strict=True):
        for family, codecs in families.items():
            points = sorted(
                (c["kbit_s"], c["scores"][name]["mean"]) for c in codecs if name in c["scores"]
            )
            ours = family.startswith("pcodec")
            if points:
                width, order = (2.5, 3) if ours else (1.2, 2)
                axis.plot(*zip(*points, strict=True), "o-", label=family, lw=width, zorder=order)
        axis.set(xscale="log", xlabel="kbit/s", title=metric["title"])
        axis.set_xticks([3, 4, 5, 6, 8, 12, 16], labels=["3", "4", "5", "6", "8", "12", "16"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=100)


def filled(text: str, parts: dict[str, str]) -> str:
    """A page with what stands between its marks renewed."""
    return re.sub(
        r"(<!-- results: (\w+) -->\n).*?(\n<!-- end -->)",
        lambda match: match[1] + parts[match[2]] + match[3],
        text,
        flags=re.DOTALL,
    )


def main(check: bool) -> int:
    """Exit code 1 if a page was not current."""
    document = json.loads((ROOT / "docs" / "results.json").read_text())
    parts = blocks(document)
    stale = 0
    for name in ("README.md", "docs/results.md", "models/speech16k/MODEL_CARD.md"):
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        new = filled(text, parts)
        if new != text:
            stale = 1
            print(f"{name}: was not current")
            if not check:
                page.write_text(new, encoding="utf-8")
    if not check:
        draw(document, ROOT / "docs" / "rates.png")
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
