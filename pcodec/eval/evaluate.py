"""`pcodec eval`: codes all files with all codecs, and scores them with all metrics.

The result is one document (JSON, "pcodec-eval/1") for `pcodec report` and docs/results.py. Coded
files and scores are cached by content.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

import pcodec
from pcodec.audio.clips import read_list
from pcodec.audio.pcm import int16
from pcodec.audio.reader import read
from pcodec.errors import PcodecError
from pcodec.eval import peers
from pcodec.eval.document import FORMAT
from pcodec.eval.metrics import METRICS, RATE, Metric, MetricUndefined, Samples, entropy_bits
from pcodec.pcx.compact import entropy_model
from pcodec.pcx.parser import Parser

MAX_DELAY = 4000
"""Largest delay of a codec that is looked for, in samples at 16 kHz (250 ms)."""


def correlate(a: Samples, b: Samples) -> tuple[int, float]:
    """The delay of b against a in samples, and their correlation at that delay."""
    size = 1 << int(np.ceil(np.log2(max(len(a) + len(b), 2 * MAX_DELAY) + 1)))
    correlation = np.fft.irfft(np.fft.rfft(b, size) * np.fft.rfft(a, size).conj(), size)
    near = np.concatenate([correlation[-MAX_DELAY:], correlation[: MAX_DELAY + 1]])
    best = int(near.argmax())
    energy = np.sqrt(np.square(a, dtype=np.float64).sum() * np.square(b, dtype=np.float64).sum())
    return best - MAX_DELAY, float(near[best] / (energy + 1e-9))


def envelope(samples: Samples) -> Samples:
    """Amplitude envelope under a window of 10 ms, without its mean."""
    window = np.hanning(162)[1:-1]
    power = np.convolve(np.square(samples, dtype=np.float64), window / window.sum(), "same")
    amplitude = np.sqrt(power + 1e-6)
    result: Samples = (amplitude - amplitude.mean()).astype(np.float32)
    return result


def delay(reference: Samples, decoded: Samples) -> int:
    """The delay of the decoded samples, in samples: the peak of the cross-correlation.

    The waveforms are correlated, or the envelopes if the codec does not keep phases. Envelopes are
    precise to about 2 ms, so a smaller delay counts as 0.
    """
    late, likeness = correlate(reference, decoded)
    if likeness > 0.5:
        return late
    late, _ = correlate(envelope(reference), envelope(decoded))
    return late if abs(late) > 0.0025 * RATE else 0


def align(decoded: Samples, late: int, length: int) -> Samples:
    """Decoded samples without their delay ``late``, cut or zero-padded to a length."""
    decoded = np.pad(decoded, (max(0, -late), 0))[max(0, late) :][:length]
    return np.pad(decoded, (0, length - len(decoded)))


def interval(values: NDArray[np.float64], resamples: int = 10000) -> tuple[float, float]:
    """95 % bootstrap confidence interval of the mean (percentile method), with a fixed seed."""
    rng = np.random.default_rng(0)
    # In parts, to save memory with many files.
    means = [
        values[rng.integers(len(values), size=(100, len(values)))].mean(1)
        for _ in range(0, resamples, 100)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def mean_score(values: Sequence[float]) -> dict[str, Any]:
    """The entry of a metric in the document: mean, its interval, number of files; {} of none."""
    if not values:
        return {}
    low, high = interval(np.array(values))
    return {"mean": float(np.mean(values)), "low": low, "high": high, "files": len(values)}


class Cache:
    """A folder of earlier results: key -> JSON, with samples and streams in files beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, *key: object) -> Path:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return self.folder / digest[:2] / digest

    @staticmethod
    def write(path: Path, data: bytes) -> None:
        """Writes a file atomically, because other processes read it."""
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(path)

    def json(self, path: Path, make: Callable[[], Any]) -> Any:
        """The cached value at a path, else the value of ``make``, which is then stored."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_bytes())
        value = make()
        self.write(path, json.dumps(value).encode())
        return value


@cache
def _coder(spec: str, model: str | None) -> peers.PeerCodec:
    return peers.make(spec, model)


def _package_version(metric: Metric) -> tuple[str, str]:
    """(distribution, version) of the package that a metric needs; PackageNotFoundError."""
    name = metric.distribution or metric.package
    if importlib.util.find_spec(metric.package) is None:
        raise importlib.metadata.PackageNotFoundError(name)
    return name, importlib.metadata.version(name)


@cache
def _version(metric: str) -> str:
    here = Path(__file__).parent
    files = here / "metrics.py", here.parent / "dsp.py", here.parent / "runtime" / "mel.py"
    source = b"".join(path.read_bytes() for path in files)
    _, version = _package_version(METRICS[metric])
    return f"{version} {hashlib.sha256(source).hexdigest()}"


def _start() -> None:
    """Prepares a worker; silences warnings and prints of the metrics' packages."""
    import warnings

    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr


def _digest(samples: Samples) -> str:
    return hashlib.sha256(samples.tobytes()).hexdigest()


def code(path: Path, spec: str, model: str | None, folder: Path) -> dict[str, Any]:
    """Codes a file with a codec; puts the decoded samples, 16-bit, and the stream in the cache."""
    kept = Cache(folder)
    reference, coder = read(path, RATE), _coder(spec, model)
    if not len(reference):
        raise PcodecError(f"{path}: holds no samples")
    key = kept.path("coded", _digest(reference), coder.name, coder.identity)

    def make() -> dict[str, Any]:
        coded = coder.run(reference)
        kept.write(key.with_suffix(".s16"), int16(coded.decoded).tobytes())
        if coded.stream is not None:
            kept.write(key.with_suffix(".pcx"), coded.stream)
        return {
            "about": coder.about,
            "length": len(reference),
            "payload_bits": coded.payload_bits,
            "container_bytes": coded.container_bytes,
            "encode_seconds": coded.encode_seconds,
            "decode_seconds": coded.decode_seconds,
            "delay": delay(reference, coded.decoded),
            "has_stream": coded.stream is not None,
        }

    result: dict[str, Any] = kept.json(key, make)
    # The paths are not cached, as the cache may have moved. A deleted file is made again.
    samples, stream = key.with_suffix(".s16"), key.with_suffix(".pcx")
    if not samples.exists() or (result["has_stream"] and not stream.exists()):
        result = make()
    kept_stream = str(stream) if result["has_stream"] else None
    return {**result, "samples": str(samples), "stream": kept_stream}


def decoded(samples: str, late: int, length: int) -> Samples:
    """Reads the decoded samples that `code` stored, and aligns them with the original."""
    whole = np.fromfile(samples, "<i2").astype(np.float32) / np.float32(32768)
    return align(whole, late, length)


def score(
    path: Path, samples: str, late: int, metrics: list[str], folder: Path
) -> dict[str, tuple[float | None, str | None]]:
    """By metric: (score, None), or (None, why there is no score)."""
    kept, reference = Cache(folder), read(path, RATE)
    other = decoded(samples, late, len(reference))

    def measure(metric: str) -> tuple[float | None, str | None]:
        try:
            value = METRICS[metric].score(reference, other)
        except MetricUndefined as error:
            return None, str(error)
        return (value, None) if np.isfinite(value) else (None, f"is {value}")

    scores = {}
    both = _digest(reference), _digest(other)
    for metric in metrics:
        key = kept.path("score", *both, metric, _version(metric))
        try:
            value, why = kept.json(key, functools.partial(measure, metric))
        except Exception as error:  # an error of the metric; not cached, as it may be temporary
            value, why = None, f"{type(error).__name__}: {error}"
        scores[metric] = value, why
    return scores


def codebook_use(streams: list[str]) -> dict[str, Any] | None:
    """Entropy of the indices in .pcx files, and the number of unused entries."""
    counts, entries = Counter[int](), 0
    for stream in streams:
        parser = Parser(entropy=entropy_model)
        pieces = parser.feed(Path(stream).read_bytes()) + parser.close()
        entries = 1 << parser.known_header.bits
        for piece in pieces:
            if piece.indices is not None:
                counts.update(piece.indices.ravel().tolist())
    if not counts:
        return None
    histogram = np.array([counts[i] for i in range(entries)])
    return {
        "entropy_bits": entropy_bits(histogram),
        "unused": int((histogram == 0).sum()),
        "entries": entries,
    }


class Evaluation:
    """Runs an evaluation in processes of one thread each."""

    def __init__(
        self, data: Path, specs: list[str], metrics: list[str], model: str | None,
        workers: int, folder: Path, quiet: bool = False,
    ) -> None:  # fmt: skip
        for metric in metrics:
            try:
                package, _ = _package_version(METRICS[metric])
            except importlib.metadata.PackageNotFoundError as error:
                package = str(error.name)
                outside = package in ("distillmos", "resemblyzer")
                how = package if outside else "'.[eval]' in a clone of pcodec"
                raise PcodecError(
                    f"metric {metric} needs the package {package}: pip install {how}, or choose"
                    " others with --metrics"
                ) from error
        self.data, self.metrics, self.model, self.folder = data, metrics, model, folder
        self.quiet = quiet
        self.rows = read_list(data)
        if not self.rows:
            raise PcodecError(f"{data}: no audio files found")
        self.names = [peers.name_of(spec) for spec in specs]
        if twice := [name for name, n in Counter(self.names).items() if n > 1]:
            raise PcodecError(f"codec {twice[0]} is given twice")
        self.specs = dict(zip(self.names, specs, strict=True))
        self.absent: dict[str, str] = {}
        for name, spec in self.specs.items():
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    peers.make(spec, model)
            except peers.AbsentError as error:
                self.absent[name] = str(error)
        context = multiprocessing.get_context("spawn")
        # NumPy and torch in the processes use one thread too.
        os.environ["OMP_NUM_THREADS"] = "1"
        self.pool = ProcessPoolExecutor(workers, context, _start)

    def _all(self, title: str, tasks: dict[Any, tuple[Any, ...]]) -> Iterator[tuple[Any, Any]]:
        """Runs tasks (function, arguments ...); yields (key, future) as they finish."""
        futures = {self.pool.submit(*task): key for key, task in tasks.items()}
        hidden = True if self.quiet else None
        try:
            for done in tqdm(as_completed(futures), title, len(futures), disable=hidden):
                yield futures[done], done
        except BaseException:
            self.pool.shutdown(cancel_futures=True)
            raise

    def run(self) -> dict[str, Any]:
        """Runs the evaluation; returns the document."""
        with self.pool:
            return self._run()

    def _run(self) -> dict[str, Any]:
        paths = [path for path, _ in self.rows]
        present = [name for name in self.names if name not in self.absent]
        coded: dict[tuple[str, int], dict[str, Any]] = {}
        tasks = {
            (name, i): (code, path, self.specs[name], self.model, self.folder)
            for i, path in enumerate(paths)
            for name in present
        }
        refused: list[list[dict[str, Any]]] = [[] for _ in paths]
        for (name, i), done in self._all("coding", tasks):
            try:
                coded[name, i] = done.result()
            except (PcodecError, OSError) as error:
                refused[i].append({"codec": name, "metric": None, "why": str(error)})
        if present and not coded:
            raise PcodecError(next(r["why"] for r in itertools.chain(*refused)))
        # The delay of a codec is constant, but its estimate for one file may be a pitch period off.
        delays = {
            name: int(np.median([c["delay"] for (n, _), c in coded.items() if n == name]))
            for name in present
            if any(n == name for n, _ in coded)
        }
        measuring = {
            (name, i): (score, paths[i], c["samples"], delays[name], self.metrics, self.folder)
            for (name, i), c in sorted(coded.items())
        }
        scores: dict[tuple[str, int], dict[str, float | None]] = {key: {} for key in coded}
        for (name, i), done in self._all("measuring", measuring):
            for metric, (value, why) in done.result().items():
                scores[name, i][metric] = value
                if why is not None:
                    refused[i].append({"codec": name, "metric": metric, "why": why})
        # The length stays 0 for a file that no codec could read.
        lengths = [0] * len(paths)
        for (_, i), c in coded.items():
            lengths[i] = c["length"]
        files = [
            {
                "name": row.get("path") or str(path),
                "seconds": lengths[i] / RATE,
                "speaker": row.get("speaker"),
                "language": row.get("language"),
                "codecs": {
                    name: {
                        **{k: coded[name, i][k] for k in (
                            "payload_bits", "container_bytes", "encode_seconds", "decode_seconds"
                        )},
                        "scores": {m: scores[name, i][m] for m in self.metrics},
                    }
                    for name in present
                    if (name, i) in coded
                },
                "refused": sorted(refused[i], key=lambda r: (r["codec"], r["metric"] or "")),
                "samples": None,
            }
            for i, (path, row) in enumerate(self.rows)
        ]  # fmt: skip
        self.coded, self.delays = coded, delays
        return {
            "format": FORMAT,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "data": self.data.name,
            "software": self._software(),
            "metrics": [
                {
                    k: getattr(METRICS[m], k)
                    for k in ("name", "title", "unit", "better", "definition")
                }
                for m in self.metrics
            ],
            "codecs": [self._codec(name, coded, scores, lengths) for name in self.names],
            "files": files,
        }

    def _software(self) -> dict[str, str]:
        import onnxruntime

        versions = {name: importlib.metadata.version(name) for name in ("numpy", "soxr")}
        versions |= dict(_package_version(METRICS[metric]) for metric in self.metrics)
        # Not by importlib.metadata: the distribution may be onnxruntime-gpu.
        versions["onnxruntime"] = onnxruntime.__version__
        versions["pcodec-speech"] = pcodec.__version__
        return dict(sorted(versions.items()))

    def _codec(
        self, name: str, coded: dict[tuple[str, int], dict[str, Any]],
        scores: dict[tuple[str, int], dict[str, float | None]], lengths: list[int],
    ) -> dict[str, Any]:  # fmt: skip
        """The entry of a codec in the document."""
        own = {i: c for (n, i), c in sorted(coded.items()) if n == name}
        if name in self.absent or not own:
            why = self.absent.get(name, "no file could be coded")
            return {"name": name, "about": self.specs[name], "absent": why}
        seconds = sum(lengths[i] for i in own) / RATE
        totals = {
            key: sum(c[key] for c in own.values())
            for key in ("payload_bits", "container_bytes", "encode_seconds", "decode_seconds")
        }
        means = {}
        for metric in self.metrics:
            values = [v for i in own if (v := scores[name, i][metric]) is not None]
            if mean := mean_score(values):
                means[metric] = mean
        streams = [c["stream"] for c in own.values() if c["stream"]]
        return {
            "name": name,
            "about": next(iter(own.values()))["about"],
            "absent": None,
            "kbit_s": totals["payload_bits"] / seconds / 1000,
            "kbit_s_container": totals["container_bytes"] * 8 / seconds / 1000,
            "delay_ms": self.delays[name] / RATE * 1000,
            "encode_rtf": totals["encode_seconds"] / seconds,
            "decode_rtf": totals["decode_seconds"] / seconds,
            "codebook": codebook_use(streams),
            "scores": means,
        }

    def keep_samples(self, document: dict[str, Any], count: int, folder: Path) -> None:
        """Writes the audio of ``count`` evenly spaced files into a folder, for the report."""
        total = len(self.rows)
        for i in sorted({round(k * (total - 1) / max(1, count - 1)) for k in range(count)}):
            if i >= total or not any(k == i for _, k in self.coded):
                continue
            here = folder / f"{i:03d}"
            here.mkdir(parents=True, exist_ok=True)
            reference = read(self.rows[i][0], RATE)
            soundfile.write(os.fsencode(here / "reference.flac"), int16(reference), RATE)
            entry: dict[str, Any] = {"codecs": {}, "streams": {}}
            entry["reference"] = f"{folder.name}/{here.name}/reference.flac"
            for (name, k), c in self.coded.items():
                if k != i:
                    continue
                # By number, since the name of a codec may contain any characters.
                stem = f"{self.names.index(name):02d}"
                samples = decoded(c["samples"], self.delays[name], len(reference))
                soundfile.write(os.fsencode(here / f"{stem}.flac"), int16(samples), RATE)
                entry["codecs"][name] = f"{folder.name}/{here.name}/{stem}.flac"
                if c["stream"]:
                    (here / f"{stem}.pcx").write_bytes(Path(c["stream"]).read_bytes())
                    entry["streams"][name] = f"{folder.name}/{here.name}/{stem}.pcx"
            document["files"][i]["samples"] = entry
