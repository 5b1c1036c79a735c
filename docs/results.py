"""Writes the tables of results into README.md, docs/results.md and the model card; draws rates.png.

    python docs/results.py [--check]

They come from docs/test-results.json and docs/results.json, the test and the development set,
which `pcodec eval` wrote (the commands stand in docs/results.md). With --check nothing is written,
and the exit code tells what is not current.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pcodec.eval.evaluate import mean_score
from pcodec.eval.metrics import METRICS

ROOT = Path(__file__).parent.parent
OURS = "pcodec"
PANELS = ("pesq", "stoi", "visqol", "distillmos", "dnsmos")
"""metrics of the picture"""
SHORT = (
    "pesq", "stoi", "visqol", "mcd", "phones", "warpq", "dnsmos", "distillmos", "speaker",
)  # fmt: skip
IN_FULL_ONLY = ("original", "pcodec-4.5")
"""Codecs that the short table leaves out."""
HEARD = ("ls1221", "ls4507", "ls5639")
"""Speakers of the test set of whom training has heard a sentence; the tables leave them out."""


def without(document: dict[str, Any], speakers: tuple[str, ...]) -> dict[str, Any]:
    """A document with the means of the other speakers."""
    files = [file for file in document["files"] if file["speaker"] not in speakers]
    seconds = sum(file["seconds"] for file in files)
    codecs = []
    for codec in document["codecs"]:
        if codec["absent"]:
            codecs.append(codec)
            continue
        own = [file["codecs"][codec["name"]] for file in files]
        scores = {}
        for metric in codec["scores"]:
            values = [x for c in own if (x := c["scores"][metric]) is not None]
            scores[metric] = mean_score(values)
        rates = {
            "kbit_s": sum(c["payload_bits"] for c in own) / seconds / 1000,
            "kbit_s_container": sum(c["container_bytes"] for c in own) * 8 / seconds / 1000,
        }
        codecs.append({**codec, **rates, "scores": scores})
    return {**document, "files": files, "codecs": codecs}


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


def short(document: dict[str, Any]) -> str:
    """The metrics and codecs that matter most, without intervals."""
    metrics = [m for m in document["metrics"] if m["name"] in SHORT]
    return table(
        ["codec", "kbit/s", *map(title, metrics)],
        [
            [named(c), f"{c['kbit_s']:.2f}", *(cell(c, m["name"], False) for m in metrics)]
            for c in document["codecs"]
            if not c["absent"] and c["name"] not in IN_FULL_ONLY
        ],
    )


def named(codec: dict[str, Any]) -> str:
    """A codec's name; ours is bold."""
    return f"**{codec['name']}**" if codec["name"] == OURS else str(codec["name"])


def full(document: dict[str, Any]) -> str:
    """All metrics and codecs, with intervals, and what was measured by what."""
    metrics, codecs = document["metrics"], [c for c in document["codecs"] if not c["absent"]]
    seconds = sum(file["seconds"] for file in document["files"])
    software = ", ".join(f"{k} {v}" for k, v in document["software"].items())
    rows = [
        [
            named(c),
            f"{c['kbit_s']:.2f}",
            f"{c['kbit_s_container']:.2f}",
            *(cell(c, m["name"], True) for m in metrics),
        ]
        for c in codecs
    ]
    head = (
        f"{len(document['files'])} files, {seconds / 60:.1f} minutes, measured "
        f"{document['created'][:10]} with {software}."
    )
    header = ["codec", "kbit/s", "with container", *map(title, metrics)]
    return f"{head}\n\n{table(header, rows)}"


def definitions(document: dict[str, Any]) -> str:
    """What the codecs and the metrics are."""
    codecs = [f"- {c['name']}: {c['absent'] or c['about']}" for c in document["codecs"]]
    return "\n".join(codecs + [f"- {m['title']}: {m['definition']}" for m in document["metrics"]])


def card(test: dict[str, Any], dev: dict[str, Any]) -> str:
    """The scores of our codec on both sets."""
    ours = [next(c for c in d["codecs"] if c["name"] == OURS) for d in (test, dev)]
    rows = [[title(m), *(cell(codec, m["name"], True) for codec in ours)] for m in test["metrics"]]
    rows += [
        ["bit rate, kbit/s", *(f"{c['kbit_s']:.2f}" for c in ours)],
        ["bit rate of the files, kbit/s", *(f"{c['kbit_s_container']:.2f}" for c in ours)],
        ["entropy of the indices, bits", "", f"{ours[1]['codebook']['entropy_bits']:.2f}"],
        ["entries never used", "", str(ours[1]["codebook"]["unused"])],
    ]
    return table(["metric", "test set", "development set"], rows)


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
        r"(<!-- results: (\w+) -->\n)(?:(?!<!-- ).)*(<!-- end -->)",
        lambda match: f"{match[1]}{parts[match[2]]}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def main(check: bool) -> int:
    """Exit code 1 if a page was not current."""
    test, dev = (
        json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))
        for name in ("test-results.json", "results.json")
    )
    test = without(test, HEARD)
    parts = {
        "short": short(test),
        "test": full(test),
        "dev": full(dev),
        "definitions": definitions(test),
        "card": card(test, dev),
    }
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
        draw(test, ROOT / "docs" / "rates.png")
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
