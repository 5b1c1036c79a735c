"""`pcodec report`: the document of `pcodec eval` as one HTML file to read and to listen to.

The file contains everything: numbers, plots (SVG), pictures (PNG), audio (FLAC) and the script that
plays it. The document is not trusted: text is escaped, and the page's security policy allows only
the script whose hash it names.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import math
import string
from collections.abc import Iterator
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pcodec.errors import PcodecError
from pcodec.eval.metrics import RATE, Samples
from pcodec.report.numbers import MINUS, digits, number, ticks, two_figures, wanted, with_unit
from pcodec.report.pictures import (
    ABOUT_PATCHES,
    INFERNO,
    MAGMA,
    MAX_ERROR_DB,
    RANGE,
    STEPS,
    VIRIDIS,
    Levels,
    data_uri,
    decibels,
    envelope,
    patch_pictures,
    places,
    png,
)
from pcodec.report.plots import plot
from pcodec.report.sound import flac, inside, low_pass, read_flac

DOT = " \u00b7 "


def facts(results: dict[str, Any]) -> str:
    """The facts of the evaluation: date, data, machine, versions."""
    files = results["files"]
    seconds = sum(file["seconds"] for file in files)
    speakers = len({file["speaker"] for file in files} - {None})
    languages = sorted({file["language"] for file in files} - {None})
    data = f"{len(files)} file{'s' * (len(files) != 1)}, {seconds / 60:.1f} minutes"
    if speakers:
        data += f", {speakers} speaker{'s' * (speakers != 1)}"
    if languages:
        data += f"; {', '.join(languages)}"
    try:
        when = datetime.datetime.fromisoformat(results["created"].replace("Z", "+00:00"))
        day = f"{when.day} {when:%B %Y, %H:%M} {when.tzname() or ''}"
    except ValueError:
        day = results["created"]
    there = [c["name"] for c in results["codecs"] if not c["absent"]]
    software = ", ".join(f"{name} {version}" for name, version in results["software"].items())
    rows = {"Speech": data, "Codecs": ", ".join(there), "Measured": day, "Software": software}
    return "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())


def about(codec: dict[str, Any]) -> str:
    """The facts of a codec besides its scores."""
    book = codec["codebook"]
    if not book:
        return str(codec["about"])
    most = math.log2(book["entries"]) if book["entries"] > 0 else 0
    return (
        f"{codec['about']}; indices of {book['entropy_bits']:.2f} bit entropy out of {most:.4g}, "
        f"{book['unused']} of {book['entries']} entries unused"
    )


def table(results: dict[str, Any]) -> str:
    """The table of codecs and scores."""
    codecs = [c for c in results["codecs"] if not c["absent"]]
    total = len(results["files"])
    columns = [
        ("payload", "kbit/s", "lower"),
        ("container", "kbit/s", "lower"),
        *((m["title"], m["unit"], m["better"]) for m in results["metrics"]),
        ("encoding", "\u00d7 real time", "lower"),
        ("decoding", "\u00d7 real time", "lower"),
        ("delay", "ms", "lower"),
    ]

    def head(title: str, unit: str, better: str, first: bool = False) -> str:
        arrow = "" if first else " \u2193" if better == "lower" else " \u2191"
        return (
            f'<th scope="col" data-better="{"lower" if better == "lower" else "higher"}">'
            f'<button type="button" class="sort">{escape(title)}'
            f'<span class="unit">{escape(unit)}{arrow}</span></button></th>'
        )

    def cell(value: float, text: str, small: str = "") -> str:
        below = f"<small>{escape(small)}</small>" if small else ""
        return f'<td data-value="{value!r}">{text}{below}</td>'

    decimals = {
        m["name"]: digits([c["scores"][m["name"]] for c in codecs if m["name"] in c["scores"]])
        for m in results["metrics"]
    }
    rows = []
    for codec in codecs:
        row = [cell(codec[k], f"{codec[k]:.2f}") for k in ("kbit_s", "kbit_s_container")]
        for metric in results["metrics"]:
            score = codec["scores"].get(metric["name"])
            if score is None:
                row.append("<td>\u2013</td>")
                continue
            n = decimals[metric["name"]]
            mean, low, high = (f"{score[k]:.{n}f}" for k in ("mean", "low", "high"))
            few = f"{DOT}{score['files']} files" if score["files"] != total else ""
            row.append(cell(score["mean"], mean, f"[{low}, {high}]{few}" if total > 1 else ""))
        row += [cell(codec[k], two_figures(codec[k])) for k in ("encode_rtf", "decode_rtf")]
        row.append(cell(codec["delay_ms"], f"{codec['delay_ms']:.1f}"))
        # Short names do not break at hyphens; long ones must.
        kind = "" if len(codec["name"]) > 16 else ' class="short"'
        name = f'<th scope="row"{kind}>{escape(codec["name"])}</th>'
        rows.append(f"<tr>{name}{''.join(row)}</tr>")
    return (
        '<table class="results" aria-labelledby="h-table" aria-describedby="about-table">'
        f"<thead><tr>{head('codec', '', 'lower', True)}{''.join(head(*c) for c in columns)}"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def known(results: dict[str, Any]) -> str:
    """Descriptions of the codecs."""
    return "".join(
        f"<dt>{escape(c['name'])}</dt><dd>{escape(about(c))}</dd>"
        for c in results["codecs"]
        if not c["absent"]
    )


def absent(results: dict[str, Any]) -> str:
    """The codecs that could not be run, and why."""
    gone = [c for c in results["codecs"] if c["absent"]]
    if not gone:
        return ""
    rows = "".join(f"<li><b>{escape(c['name'])}</b>: {escape(c['absent'])}</li>" for c in gone)
    return f'<h3>Not measured</h3><ul class="absent">{rows}</ul>'


def refused(results: dict[str, Any]) -> str:
    """The scores that are missing, and why."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    titles = {m["name"]: m["title"] for m in results["metrics"]}
    for file in results["files"]:
        for r in file["refused"]:
            metric = titles.get(r["metric"], r["metric"]) if r["metric"] else "everything"
            groups.setdefault((r["codec"], metric, r["why"]), []).append(file["name"])
    if not groups:
        return '<p class="note">No metric refused a file.</p>'
    count = sum(map(len, groups.values()))
    rows = "".join(
        f"<tr><th scope='row'>{escape(codec)}</th><td>{escape(metric)}</td><td>{escape(why)}</td>"
        f"<td>{len(names)}</td><td>{escape(', '.join(names))}</td></tr>"
        for (codec, metric, why), names in groups.items()
    )
    return (
        f'<details class="refused"><summary>{count} missing score{"s" * (count != 1)}, with the '
        'reasons</summary><div class="scroll" tabindex="0" role="region" aria-label="Missing '
        'scores"><table class="plain"><thead><tr><th scope="col">codec</th><th scope="col">metric'
        '</th><th scope="col">why</th><th scope="col">files</th><th scope="col">which</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div></details>"
    )


def definitions(results: dict[str, Any]) -> str:
    """Definitions of the metrics."""
    return "".join(
        f"<dt>{escape(with_unit(m))}</dt><dd>{escape(m['definition'])} "
        f'<span class="better">{wanted(m)}</span></dd>'
        for m in results["metrics"]
    )


def plots(results: dict[str, Any]) -> str:
    """One plot per metric that has a score."""
    codecs = [c for c in results["codecs"] if not c["absent"]]
    out = []
    for i, metric in enumerate(results["metrics"]):
        drawn = plot(metric, codecs, i)
        if drawn:
            out.append(
                f"<figure><figcaption><b>{escape(with_unit(metric))}</b> "
                f'<span class="better">{wanted(metric)}</span></figcaption>{drawn}</figure>'
            )
    return "".join(out)


def image(levels: Levels, colours: str, kind: str, alt: str) -> str:
    """A picture in its frame."""
    uri = data_uri("image/png", png(levels, colours))
    rows, columns = levels.shape
    return f'<img class="{kind}" alt="{escape(alt)}" width="{columns}" height="{rows}" src="{uri}">'


def time_axis(seconds: float) -> str:
    """The time axis below a picture."""
    out = []
    for t in ticks(0, seconds, 8):
        at = 100 * t / seconds
        anchor = "start" if at < 3 else "end" if at > 97 else "middle"
        out.append(
            f'<line x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="4"/>'
            f'<text x="{at:.2f}%" y="16" text-anchor="{anchor}">{number(t)}</text>'
        )
    return f'<svg class="time" height="20" aria-hidden="true">{"".join(out)}</svg>'


class Track(NamedTuple):
    """A track of a file: the reference, or a decoded version."""

    name: str
    about: str
    data: bytes
    samples: Samples
    stream: Path | None


def tracks(results: dict[str, Any], file: dict[str, Any], folder: Path) -> Iterator[Track]:
    """The reference of a file, then its codecs in the order of the table."""
    kept, order = file["samples"], [c["name"] for c in results["codecs"]]
    data, reference = read_flac(folder, kept["reference"])
    yield Track("reference", "the original, 16 kHz", data, reference, None)
    # In the order of the table; others come last.
    for name in sorted(kept["codecs"], key=[*order, *kept["codecs"]].index):
        data, samples = read_flac(folder, kept["codecs"][name])
        if len(samples) != len(reference):
            raise PcodecError.of_file(
                folder / kept["codecs"][name],
                f"has {len(samples)} samples, its reference {len(reference)}",
            )
        measured = file["codecs"].get(name, {"scores": {}})
        words = []
        if measured["scores"]:
            words.append(f"{measured['payload_bits'] / file['seconds'] / 1000:.2f} kbit/s")
        for metric in results["metrics"]:
            value = measured["scores"].get(metric["name"])
            if value is not None:
                words.append(
                    f"{metric['title']} {value:.3g}{metric['unit'] and ' '}{metric['unit']}"
                )
        stream = kept["streams"].get(name)
        path = None if stream is None else inside(folder, stream)
        yield Track(name, DOT.join(words), data, samples, path)


def figure(i: int, track: Track, reference: Samples, peak: float, loudest: float) -> str:
    """A track to look at and, without scripts, to hear."""
    seconds = len(reference) / RATE
    name = escape(track.name)
    spectrum = places(decibels(track.samples)[::-1], peak - RANGE, peak)
    pictures = [
        f'<svg class="wave" viewBox="0 0 600 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{envelope(track.samples, loudest)}"/></svg>',
        f'<div class="spectrum"><ol class="hertz" aria-hidden="true"><li>8 kHz<li>6<li>4<li>2<li>0'
        f"</ol>{image(spectrum, MAGMA, 'spectrogram', f'Spectrogram of {track.name}')}</div>",
    ]
    if track.stream is not None:
        grid, error = patch_pictures(track.stream, reference, track.samples)
        for levels, colours, said in zip(
            (grid, error), (VIRIDIS, INFERNO), ABOUT_PATCHES, strict=True
        ):
            drawn = image(levels, colours, "patches", f"{track.name}: {said}")
            pictures.append(f'<p class="said">{escape(said)}</p>{drawn}')
    return (
        f'<figure class="track" data-track="{i}"><figcaption><b>{name}</b> '
        f"<span>{escape(track.about)}</span></figcaption>"
        f'<div class="panel">{"".join(pictures)}{time_axis(seconds)}'
        f'<i class="cursor" hidden></i></div><audio controls preload="none" '
        f'aria-label="{name}" src="{data_uri("audio/flac", track.data)}"></audio></figure>'
    )


def sample(number_: int, file: dict[str, Any], found: list[Track]) -> str:
    """The tracks of one file."""
    reference = found[0].samples
    peak = float(decibels(reference).max()) if reference.any() else 0.0
    loudest = max(float(np.abs(t.samples).max()) for t in found)
    said = [f"{file['seconds']:.1f} s"]
    said += [f"speaker {file['speaker']}"] if file["speaker"] else []
    said += [file["language"]] if file["language"] else []
    choices = "".join(
        f'<label><input type="radio" name="heard-{number_}" value="{i}"{" checked" * (i == 0)}>'
        f"<span><kbd>{i if i < 10 else chr(0xB7)}</kbd> {escape(t.name)}</span></label>"
        for i, t in enumerate(found)
    )
    figures = "".join(figure(i, t, reference, peak, loudest) for i, t in enumerate(found))
    anchor = data_uri("audio/flac", flac(low_pass(reference)))
    return (
        f'<section class="sample player" id="sample-{number_}" aria-labelledby="name-{number_}">'
        f'<h3 id="name-{number_}">{escape(file["name"])}</h3>'
        f'<p class="meta">{escape(DOT.join(said))}</p>'
        f'<div class="transport" data-seconds="{len(reference) / RATE!r}" hidden></div>'
        f'<fieldset class="choice" hidden><legend>Heard and shown</legend>{choices}</fieldset>'
        f'<div class="tracks">{figures}</div>'
        f'<audio class="anchor" preload="none" hidden src="{anchor}"></audio></section>'
    )


def scales() -> str:
    """The legend of the pictures' colours."""
    ramp = np.arange(STEPS, dtype=np.uint8)[None]
    rows = [
        (MAGMA, f"{MINUS}{RANGE} dB", "0 dB: the peak of the reference"),
        (VIRIDIS, "quiet", "loud"),
    ]
    rows.append((INFERNO, "0 dB", f"{MAX_ERROR_DB} dB error"))
    names = ("Spectrograms", "Patch indices", "Patch errors")
    return "".join(
        f"<li><b>{name}</b> <span>{low}</span>"
        f'<img class="ramp" alt="to" width="{STEPS}" height="1" '
        f'src="{data_uri("image/png", png(ramp, colours))}"><span>{high}</span></li>'
        for name, (colours, low, high) in zip(names, rows, strict=True)
    )


def in_script(value: Any) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(value)  # everything beyond ASCII is escaped
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def part(suffix: str) -> str:
    """A part of the page, from a file beside this one."""
    return (resources.files("pcodec.report") / f"report.{suffix}").read_text(encoding="utf-8")


def write_report(results: dict[str, Any], folder: Path, out: BinaryIO) -> None:
    """Writes the page of a document (as `load` gives it) whose audio lies under a folder."""
    with_sound = [file for file in results["files"] if file["samples"]]
    sections, listening = [], []
    for i, file in enumerate(with_sound):
        found = list(tracks(results, file, folder))
        sections.append(sample(i, file, found))
        listening.append({"file": file["name"], "codecs": [t.name for t in found[1:]]})
    # Paths on the machine that measured stay private.
    public = [{k: v for k, v in file.items() if k != "path"} for file in results["files"]]
    css, script = part("css"), part("js")

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    page = string.Template(part("html")).substitute(
        policy=(
            f"default-src 'none'; script-src {digest(script)}; style-src {digest(css)}; "
            "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
        ),
        title=escape(f"Speech codecs on {results['data']}"),
        facts=facts(results),
        table=table(results),
        means="Means over files, with 95&nbsp;% bootstrap intervals in brackets."
        if len(results["files"]) > 1
        else "Scores of one file.",
        known=known(results),
        absent=absent(results),
        refused=refused(results),
        definitions=definitions(results),
        plots=plots(results),
        scales=scales(),
        samples="".join(sections)
        or '<p class="note">No audio was kept (<code>pcodec eval --samples</code>).</p>',
        sounding="" if sections else "hidden",
        version=escape(results["software"].get("pcodec-speech", "")),
        data=in_script({"results": {**results, "files": public}, "samples": listening}),
        css=css,
        script=script,
    )
    # Names of files can be any bytes, which JSON holds as lone surrogates.
    out.write(page.encode("utf-8", "backslashreplace"))
