"""Samples to short-time spectra and their log-mels, framed for streaming."""

from __future__ import annotations

import numpy as np

from pcodec.dsp import FLOOR, pieces_of
from pcodec.runtime.state import Array, Past


class Analysis:
    """Samples to magnitudes of their short-time spectrum, in float64.

    Frame f is centred on hop f: it sees samples ``hop * f - overhang ... hop * (f + 1) +
    overhang`` with ``overhang = (window - hop) / 2``.
    """

    def __init__(self, window: Array, n_fft: int, hop: int) -> None:
        self.window, self.n_fft, self.hop = window, n_fft, hop
        self.overhang = (len(window) - hop) // 2

    def log_mel(self, x: Array, filters: Array) -> Array:
        """Samples (B, n), whole hops of them, -> natural log of their mels (B, frames, bands)."""
        return np.log(np.maximum(self(x, {}, True) @ filters.T, FLOOR))

    def __call__(self, x: Array, past: Past, last: bool) -> Array:
        """Samples (B, n) -> (B, frames, n_fft // 2 + 1); n a multiple of the hop if last."""
        before = past.get(self)
        if before is None:
            before = np.zeros((len(x), self.overhang))
        x = np.concatenate([before, x], 1)
        if last:
            x = np.pad(x, ((0, 0), (0, self.overhang)))
        count = max(0, (x.shape[1] - len(self.window)) // self.hop + 1)
        past[self] = x[:, count * self.hop :].copy()
        if not count:
            return np.zeros((len(x), 0, self.n_fft // 2 + 1))
        pieces = pieces_of(x, len(self.window), self.hop)
        magnitudes: Array = np.abs(np.fft.rfft(pieces * self.window, self.n_fft))
        return magnitudes
