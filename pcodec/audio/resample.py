"""Conversion of sample rates, in chunks."""

from __future__ import annotations

import numpy as np
import soxr

from pcodec.audio.pcm import Samples


class Resampler:
    """Rate conversion in chunks (soxr, high quality), with an exact total length.

    n samples at ``rate`` become `resampled_length` (n) samples, whatever the chunks.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        self.rate, self.new_rate = rate, new_rate
        self._soxr = None if rate == new_rate else soxr.ResampleStream(rate, new_rate, 1)
        self.taken = self.given = 0

    def __call__(self, x: Samples, last: bool = False) -> Samples:
        """Converts the next samples (n,); ``last``: none follow."""
        self.taken += len(x)
        y = x if self._soxr is None else self._soxr.resample_chunk(x, last)
        if last:
            wanted = resampled_length(self.taken, self.rate, self.new_rate) - self.given
            y = np.pad(y, (0, max(0, wanted - len(y))))[: max(0, wanted)]
        self.given += len(y)
        return y


def resampled_length(samples: int, rate: int, new_rate: int) -> int:
    """Number of samples at the new rate that cover ``length`` at the old one."""
    return -(-samples * new_rate // rate)
