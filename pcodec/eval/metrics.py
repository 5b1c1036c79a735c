"""Speech quality metrics, defined as in the tables of docs/results.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
RATE = 16000


def pesq_wb(reference: Samples, decoded: Samples) -> float:
    """PESQ, wide band (ITU-T P.862.2), of 16 kHz speech: 1.0 to 4.64; nan if it fails."""
    import pesq

    try:
        return float(pesq.pesq(RATE, reference, decoded, "wb"))
    except pesq.PesqError:  # no utterance found
        return float("nan")


def stoi(reference: Samples, decoded: Samples, extended: bool = False) -> float:
    """Short-time objective intelligibility (Taal et al. 2011), or ESTOI (2016): 0 to 1."""
    import pystoi

    return float(pystoi.stoi(reference, decoded, RATE, extended=extended))


def entropy_bits(counts: Sequence[int] | NDArray[np.int64]) -> float:
    """Entropy of an index histogram, in bits."""
    p = np.asarray(counts, float)
    p = p[p > 0] / p.sum()
    return float(-(p * np.log2(p)).sum())
