"""`pcodec report`: the document of `pcodec eval` as one HTML file to read and to listen by.

Everything is inside: numbers, plots (SVG), pictures (PNG), audio (FLAC), and the script that
plays it. Nothing in the document is trusted: text is escaped, and the page's own policy lets
no script run but the one whose hash it names.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import io
import itertools
import json
import math
import string
import struct
import zlib
from collections.abc import Iterator
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from pcodec import models
from pcodec.config import CodecConfig
from pcodec.dsp import hann, mel_filters
from pcodec.errors import ModelMismatchError, PcodecError
from pcodec.pcx.blocks import grid
from pcodec.pcx.layout import Header
from pcodec.pcx.parser import Parser
from pcodec.runtime.mel import Analysis

FORMAT = "pcodec-eval/1"
RATE = 16000
RANGE = 80
"""dB that a spectrogram shows, down from the reference's peak"""
WORST = 8
"""dB of patch error at the end of the scale"""
ANCHOR = 3500
"""Hz: the low-pass anchor of ITU-R BS.1534"""
FAMILIES = 8
"""colours there are, and marks"""
DOT, MINUS = " \u00b7 ", "\u2212"
WIDEST = 1600
"""pixels of a picture"""
ABOUT_PATCHES = (
    "Indices, coloured by the mean level of the patches that carry them",
    f"Error of each patch: mean |difference| of log-mels, 0 to {WORST} dB",
)

Samples = NDArray[np.float32]
Levels = NDArray[np.uint8]
"""(rows, columns) of a picture, high frequencies first: places in a palette"""

# Maps of matplotlib (CC0), at every 16th of their length.
MAGMA = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
)
VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c "
    "1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725"
)
INFERNO = (
    "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 "
    "d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4"
)
STEPS = 128
"""colours of a picture; the one after them is for what is not there"""


# ---- the document


class Each(NamedTuple):
    """The shape of every value of an object whose keys are free."""

    of: Any


OPTIONAL_TEXT = (str, None)
METRIC = {"name": str, "title": str, "unit": str, "better": str, "definition": str}
CODEC = {
    "kbit_s": float, "kbit_s_container": float, "delay_ms": float,
    "encode_rtf": float, "decode_rtf": float,
    "codebook": ({"entropy_bits": float, "unused": int, "entries": int}, None),
    "scores": Each({"mean": float, "low": float, "high": float, "files": int}),
}  # fmt: skip
FILE = {
    "name": str, "seconds": float, "speaker": OPTIONAL_TEXT, "language": OPTIONAL_TEXT,
    "codecs": Each({"payload_bits": float, "scores": Each((float, None))}),
    "refused": [{"codec": str, "metric": OPTIONAL_TEXT, "why": str}],
    "samples": ({"reference": str, "codecs": Each(str), "streams": Each(str)}, None),
}  # fmt: skip
DOCUMENT = {
    "created": str, "data": str, "software": Each(str), "metrics": [METRIC],
    "codecs": [{"name": str, "about": str, "absent": OPTIONAL_TEXT}], "files": [FILE],
}  # fmt: skip


def check(value: Any, shape: Any, where: str) -> None:
    """Whether a part of the document has a shape; PcodecError says where it has not."""
    if isinstance(shape, tuple) and not isinstance(shape, Each):
        if value is None:
            return
        shape = shape[0]
    if isinstance(shape, type):
        wanted = (int, float) if shape is float else shape
        good = isinstance(value, wanted) and not isinstance(value, bool)
        if not good or (shape is float and not math.isfinite(value)):
            raise PcodecError.of_file(
                where, f"is no {'number' if shape in (int, float) else 'text'}"
            )
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise PcodecError.of_file(where, "is no list")
        for i, part in enumerate(value):
            check(part, shape[0], f"{where}[{i}]")
    elif not isinstance(value, dict):
        raise PcodecError.of_file(where, "is no object")
    elif isinstance(shape, Each):
        for key, part in value.items():
            check(part, shape.of, f"{where}.{key}")
    else:
        for key, inner in shape.items():
            if key not in value:
                raise PcodecError.of_file(f"{where}.{key}", "is missing")
            check(value[key], inner, f"{where}.{key}")


def load(path: Path) -> dict[str, Any]:
    """The document in a file; PcodecError if there is none."""
    try:
        results = json.loads(path.read_bytes())
    except ValueError as error:  # bytes that are no text, too
        raise PcodecError.of_file(path, f"is not JSON ({error})") from error
    except RecursionError:
        raise PcodecError.of_file(path, "is not JSON of this kind (nested too deeply)") from None
    found = results.get("format") if isinstance(results, dict) else None
    if found != FORMAT:
        raise PcodecError.of_file(path, f"is not a document of `pcodec eval` ({FORMAT})")
    check(results, DOCUMENT, f"{path}: results")
    for i, codec in enumerate(results["codecs"]):
        if not codec["absent"]:
            check(codec, CODEC, f"{path}: results.codecs[{i}]")
    return dict(results)


# ---- sound


def inside(folder: Path, name: str) -> Path:
    """A file that a document names; never one that lies outside the document's folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise PcodecError.of_file(folder / path, "lies outside the folder of the document")
    if not (folder / path).is_file():
        raise PcodecError.of_file(folder / path, "no such file")
    return folder / path


def read_flac(folder: Path, name: str) -> tuple[bytes, Samples]:
    """A FLAC file as it is, and its samples."""
    path = inside(folder, name)
    data = path.read_bytes()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            kind = (file.format, file.samplerate, file.channels)
            samples = file.read(dtype="float32")
    except soundfile.LibsndfileError as error:
        raise PcodecError.of_file(path, f"cannot be read as audio ({error})") from error
    if kind != ("FLAC", RATE, 1) or not len(samples):
        raise PcodecError.of_file(path, "is not FLAC of 16 kHz, mono, with sound in it")
    return data, samples


def low_pass(samples: Samples, hertz: float = ANCHOR) -> Samples:
    """Samples without what is above a frequency: 60 dB down from 100 Hz beyond it."""
    # A Kaiser-windowed sinc, its length and shape after Kaiser's formulas.
    taps = 2 * 290 + 1
    times = np.arange(taps) - taps // 2
    middle = 2 * (hertz + 50) / RATE
    kernel = middle * np.sinc(middle * times) * np.kaiser(taps, 5.65)
    size = 1 << (len(samples) + taps).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(kernel / kernel.sum(), size)
    whole = np.fft.irfft(spectrum, size)[taps // 2 :][: len(samples)]
    return whole.clip(-1, 1).astype(np.float32)


def flac(samples: Samples) -> bytes:
    """Samples as a FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


# ---- pictures


def data_uri(kind: str, data: bytes) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(levels: Levels, colours: str) -> bytes:
    """A picture of places in a palette, as a PNG file."""
    stops = np.array([list(bytes.fromhex(c)) for c in colours.split()], float)
    at = np.linspace(0, len(stops) - 1, STEPS)
    ramp = [np.interp(at, np.arange(len(stops)), channel) for channel in stops.T]
    palette = np.stack(ramp, 1).round().astype(np.uint8).tobytes() + bytes.fromhex("8a8a8a")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows, columns = levels.shape
    lines = np.pad(levels, ((0, 0), (1, 0))).tobytes()  # before each line its filter: none
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", palette),
            chunk(b"IDAT", zlib.compress(lines, 9)),
            chunk(b"IEND", b""),
        ]
    )


def places(values: NDArray[Any], low: float, high: float) -> Levels:
    """Values as places in a palette."""
    scaled = (values - low) / (high - low) * (STEPS - 1)
    return scaled.clip(0, STEPS - 1).round().astype(np.uint8)


def decibels(samples: Samples) -> NDArray[np.float64]:
    """Samples -> power spectra in dB, (257 bins, columns), the columns evenly over the whole."""
    columns = min(WIDEST, -(-len(samples) // 128))
    starts = ((np.arange(columns) + 0.5) * len(samples) / columns).astype(int)
    frames = np.pad(samples, 256)[starts[:, None] + np.arange(512)] * np.hanning(512)
    return 20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-9)


def envelope(samples: Samples, peak: float, columns: int = 600) -> str:
    """The outline of a waveform as an SVG path, in a box of ``columns`` x 100."""
    parts = np.array_split(samples, min(columns, len(samples)))
    step = columns / len(parts)
    scale = 48 / max(peak, 1e-9)
    upper = [f"{(i + 0.5) * step:.0f} {50 - scale * p.max():.1f}" for i, p in enumerate(parts)]
    lower = [f"{(i + 0.5) * step:.0f} {50 - scale * p.min():.1f}" for i, p in enumerate(parts)]
    return f"M{'L'.join(upper + lower[::-1])}Z"


def read_stream(path: Path) -> tuple[Header, NDArray[np.int64]]:
    """The header of a .pcx file and its indices (columns, rows), -1 where they are lost."""
    parser = Parser()
    try:
        pieces = parser.feed(path.read_bytes()) + parser.close()
    except PcodecError as error:
        raise PcodecError.of_file(path, str(error)) from error
    return parser.header_, grid(pieces, parser.header_.rows)


def patch_levels(
    header: Header, columns: int, reference: Samples, decoded: Samples
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each patch the decoded level and the error, both in dB, (columns, rows)."""
    try:
        c = models.for_header(header).config
    except ModelMismatchError:  # its window is not in the stream; the usual one is near enough
        c = CodecConfig(**{name: getattr(header, name) for name in models.GEOMETRY})
    front_end = Analysis(hann(c.window), c.n_fft, c.hop)
    filters = mel_filters(c.mel_bands, c.n_fft, c.sample_rate)
    length = columns * c.column_samples
    both = np.stack(
        [np.pad(x, (0, max(0, length - len(x))))[:length] for x in (reference, decoded)]
    )
    nepers = front_end.log_mel(both, filters)
    patches = 20 / math.log(10) * nepers.reshape(2, columns, c.patch_frames, c.rows, c.patch_bands)
    return patches[1].mean((1, 3)), np.abs(patches[1] - patches[0]).mean((1, 3))


def patch_pictures(path: Path, reference: Samples, decoded: Samples) -> tuple[Levels, Levels]:
    """The patch grid of a stream and its errors, in time as wide as the spectrogram."""
    header, indices = read_stream(path)
    level, error = patch_levels(header, len(indices), reference, decoded)
    there = indices >= 0
    # An index by itself is only a number: entries are told apart by how loud what they say is.
    count = np.bincount(indices[there], minlength=1 << header.bits)
    total = np.bincount(indices[there], level[there], minlength=1 << header.bits)
    rank = np.where(count, total / np.maximum(count, 1), -np.inf).argsort().argsort()
    unused = int((count == 0).sum())
    grid = places(rank[indices], min(unused, len(rank) - 2), len(rank) - 1)
    grid[~there] = STEPS
    wide = min(WIDEST, -(-len(reference) // 128))
    times = (np.arange(wide) + 0.5) * len(reference) / wide
    column = (times // header.column_samples).astype(int)
    picture = np.full((2, header.rows, wide), STEPS, np.uint8)
    known = column < len(indices)
    for i, values in enumerate((grid, places(error, 0, WORST))):
        picture[i][:, known] = values[column[known]].T[::-1]
    return picture[0], picture[1]


# ---- numbers


def digits(scores: list[dict[str, float]]) -> int:
    """Decimals that a metric's intervals deserve: the usual half width is 2 or more of the last."""
    halves = sorted((s["high"] - s["low"]) / 2 for s in scores)
    half = halves[len(halves) // 2] if halves else 0.0
    return 3 if half <= 0 else min(4, max(0, math.ceil(-math.log10(half / 2))))


def two_figures(value: float) -> str:
    """A number as short as two figures allow."""
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
    """A tick's number, with a true minus sign."""
    return f"{value:g}".replace("-", MINUS)


def wanted(metric: dict[str, Any]) -> str:
    """Which way is better, in words."""
    return "lower is better \u2193" if metric["better"] == "lower" else "higher is better \u2191"


def with_unit(metric: dict[str, Any]) -> str:
    """A metric's title and its unit, if it has one."""
    return f"{metric['title']}, {metric['unit']}" if metric["unit"] else str(metric["title"])


def family(name: str) -> str:
    """What a codec's rates have in common: its name up to the last hyphen."""
    return name.rpartition("-")[0] or name


# ---- plots


class Axis:
    """Values to pixels, evenly or by their logarithm."""

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
    """A metric against the payload's rate, as SVG; nothing if no codec has it."""
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
"""left, top, right, bottom"""


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


# ---- the page's parts


def facts(results: dict[str, Any]) -> str:
    """What was measured, when, on what, with what."""
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
    """What is known of a codec beside its numbers."""
    book = codec["codebook"]
    if not book:
        return str(codec["about"])
    most = math.log2(book["entries"]) if book["entries"] > 0 else 0
    return (
        f"{codec['about']}; indices of {book['entropy_bits']:.2f} bit entropy out of {most:.4g}, "
        f"{book['unused']} of {book['entries']} entries unused"
    )


def table(results: dict[str, Any]) -> str:
    """Codecs by what was measured."""
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
            row.append(cell(score["mean"], mean, f"[{low}, {high}]{few}"))
        row += [cell(codec[k], two_figures(codec[k])) for k in ("encode_rtf", "decode_rtf")]
        row.append(cell(codec["delay_ms"], f"{codec['delay_ms']:.1f}"))
        # A short name breaks at no hyphen; a long one must break somewhere.
        kind = "" if len(codec["name"]) > 16 else ' class="short"'
        name = f'<th scope="row"{kind}>{escape(codec["name"])}</th>'
        rows.append(f"<tr>{name}{''.join(row)}</tr>")
    return (
        '<table class="results" aria-labelledby="h-table" aria-describedby="about-table">'
        f"<thead><tr>{head('codec', '', 'lower', True)}{''.join(head(*c) for c in columns)}"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def known(results: dict[str, Any]) -> str:
    """What each codec is."""
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
    """What each metric is."""
    return "".join(
        f"<dt>{escape(with_unit(m))}</dt><dd>{escape(m['definition'])} "
        f'<span class="better">{wanted(m)}</span></dd>'
        for m in results["metrics"]
    )


def plots(results: dict[str, Any]) -> str:
    """A plot for each metric that anything has."""
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
    """Seconds along the foot of a picture; needs no room that text would be stretched into."""
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
    """Something to hear of a file: the reference, or what a codec made of it."""

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
    # In the order of the table; one that is not in it comes last.
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
    """A file to listen to."""
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
    """The colours of the pictures, and what they mean."""
    ramp = np.arange(STEPS, dtype=np.uint8)[None]
    rows = [
        (MAGMA, f"{MINUS}{RANGE} dB", "0 dB: the peak of the reference"),
        (VIRIDIS, "quiet", "loud"),
    ]
    rows.append((INFERNO, "0 dB", f"{WORST} dB error"))
    names = ("Spectrograms", "Patch indices", "Patch errors")
    return "".join(
        f"<li><b>{name}</b> <span>{low}</span>"
        f'<img class="ramp" alt="to" width="{STEPS}" height="1" '
        f'src="{data_uri("image/png", png(ramp, colours))}"><span>{high}</span></li>'
        for name, (colours, low, high) in zip(names, rows, strict=True)
    )


def in_script(value: Any) -> str:
    """JSON that can stand in a script element, whatever is in it."""
    text = json.dumps(value)  # beyond ASCII everything is escaped already
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def part(suffix: str) -> str:
    """A part of the page that lies beside this file."""
    return (resources.files("pcodec.report") / f"report.{suffix}").read_text(encoding="utf-8")


def write_report(results: dict[str, Any], folder: Path, out: BinaryIO) -> None:
    """Writes the page of a document (as `load` gives it) whose audio lies under a folder."""
    with_sound = [file for file in results["files"] if file["samples"]]
    sections, listening = [], []
    for i, file in enumerate(with_sound):
        found = list(tracks(results, file, folder))
        sections.append(sample(i, file, found))
        listening.append({"file": file["name"], "codecs": [t.name for t in found[1:]]})
    # Where a file lay on the machine that measured it is nobody's business.
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
    # Names of files can be any bytes, which JSON brings as lone surrogates.
    out.write(page.encode("utf-8", "backslashreplace"))
