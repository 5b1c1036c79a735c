"""The codec on a set of files: through .pcx files on disk, each metric's mean."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcodec.audio import read
from pcodec.codec import Codec, Decoding, encode_stream
from pcodec.eval.metrics import METRICS, RATE, Samples, entropy_bits


@dataclasses.dataclass
class Result:
    """One file's scores."""

    path: Path
    seconds: float
    file_bytes: int
    scores: dict[str, float]
    indices: NDArray[np.int64]
    """histogram of the indices"""


def round_trip(codec: Codec, samples: Samples, folder: Path) -> tuple[Samples, Path]:
    """16 kHz samples through a .pcx file in a folder; the decoded samples and the file."""
    path = folder / "coded.pcx"
    with path.open("wb") as file:
        encode_stream(codec, [samples], RATE, file)
    with path.open("rb") as file:
        decoded = np.concatenate(list(Decoding(file, codec=codec).blocks()))
    return decoded, path


def evaluate(codec: Codec, paths: list[Path], metrics: list[str]) -> Iterator[Result]:
    """Measures each file; those that are not at 16 kHz are resampled first."""
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            samples = read(path, RATE)
            decoded, coded = round_trip(codec, samples, Path(folder))
            scores = {name: METRICS[name](samples, decoded) for name in metrics}
            indices = codec.to_tokens(samples).ravel()
            counts = np.bincount(indices, minlength=codec.config.codebook_entries)
            yield Result(path, len(samples) / RATE, coded.stat().st_size, scores, counts)


def summarize(results: list[Result]) -> dict[str, float]:
    """Means with 95 % half-widths, bit rate on disk, entropy and use of the codebook."""
    summary: dict[str, float] = {"files": len(results)}
    seconds = sum(r.seconds for r in results)
    summary["minutes"] = seconds / 60
    summary["bit_rate_on_disk"] = sum(r.file_bytes for r in results) * 8 / seconds
    for name in results[0].scores:
        values = np.array([r.scores[name] for r in results])
        values = values[~np.isnan(values)]
        summary[name] = float(values.mean())
        summary[f"{name}_ci95"] = (
            float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
        )
    counts = np.sum([r.indices for r in results], 0)
    summary["index_entropy_bits"] = entropy_bits(counts)
    summary["unused_entries"] = int((counts == 0).sum())
    return summary
