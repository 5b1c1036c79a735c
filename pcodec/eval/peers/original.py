"""The original speech, for comparison."""

from __future__ import annotations

from pcodec.eval.metrics import Samples
from pcodec.eval.peers.base import PeerCodec, PeerResult


def original(_: float) -> PeerCodec:
    """No codec at all: for the scores of the originals."""

    def run(samples: Samples) -> PeerResult:
        return PeerResult(samples, 16 * len(samples), 44 + 2 * len(samples), 0.0, 0.0)

    return PeerCodec("original", "16-bit PCM, not coded", "original", run)
