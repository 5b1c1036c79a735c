"""Speech quality metrics, defined as in the tables of docs/results.md; all at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
RATE = 16000


def pesq_wb(reference: Samples, decoded: Samples) -> float:
    """PESQ, wide band (ITU-T P.862.2): 1.0 to 4.64; nan if it finds no speech."""
    import pesq

    if not reference.any():
        return float("nan")
    try:
        return float(pesq.pesq(RATE, reference, decoded, "wb"))
    except pesq.PesqError:
        return float("nan")


def stoi(reference: Samples, decoded: Samples) -> float:
    """Short-time objective intelligibility (Taal et al. 2011): 0 to 1."""
    import pystoi

    return float(pystoi.stoi(reference, decoded, RATE))


def estoi(reference: Samples, decoded: Samples) -> float:
    """Extended STOI (Jensen & Taal 2016): 0 to 1."""
    import pystoi

    return float(pystoi.stoi(reference, decoded, RATE, extended=True))


@cache
def _visqol() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech")
    return api


def visqol(reference: Samples, decoded: Samples) -> float:
    """ViSQOL (Chinen et al. 2020), speech mode, lattice mapping: 1 to 5."""
    api = _visqol()
    pair = reference.astype(np.float64), decoded.astype(np.float64)
    return float(api.measure_from_arrays(*pair, sample_rate=RATE).moslqo)


def log_mel_distance(reference: Samples, decoded: Samples) -> float:
    """Mean |difference of natural logs| of 80 mel bands, window 1024, hop 256, floor 1e-5."""
    import torch

    from pcodec.nn.mel import MelSpectrogram

    front_end = MelSpectrogram(RATE, 1024, 1024, 256, 80)
    a, b = (
        front_end(torch.from_numpy(np.pad(x, (0, -len(x) % 256)))[None])
        for x in (reference, decoded)
    )
    return float((a - b).abs().mean())


@cache
def _distillmos() -> Any:
    import sys
    import types

    # It imports torchaudio only to read files, and torchaudio does not fit every torch.
    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
    from distillmos import ConvTransformerSQAModel

    return ConvTransformerSQAModel().eval()


def distillmos(reference: Samples, decoded: Samples) -> float:  # noqa: ARG001
    """DistillMOS (Stahl & Gamper 2025) of the decoded speech, without reference: 1 to 5.

    Not among the extras: ``pip install --no-deps distillmos xls-r-sqa``.
    """
    import torch

    with torch.inference_mode():
        return float(_distillmos()(torch.from_numpy(decoded)[None]))


METRICS: dict[str, Callable[[Samples, Samples], float]] = {
    "pesq": pesq_wb,
    "stoi": stoi,
    "estoi": estoi,
    "visqol": visqol,
    "log_mel": log_mel_distance,
    "distillmos": distillmos,
}


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Entropy of an index histogram, in bits."""
    p = np.asarray(counts, float)
    p = p[p > 0] / p.sum()
    return float(-(p * np.log2(p)).sum())
