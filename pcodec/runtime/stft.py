"""Short-time spectra to samples, framed for streaming."""

from __future__ import annotations

import numpy as np

from pcodec.dsp import PHASOR_FLOOR, WINDOW_FLOOR
from pcodec.runtime.state import Array, State, StateKey


def unit(real: Array, imaginary: Array) -> tuple[Array, Array]:
    """Phasors scaled to length 1, except where their squared length is near `PHASOR_FLOOR`."""
    factor = 1 / np.sqrt(real * real + imaginary * imaginary + np.float32(PHASOR_FLOOR))
    return real * factor, imaginary * factor


def spectrum(amplitude: Array, cosine: Array, sine: Array) -> Array:
    """Complex numbers from amplitude, cosine and sine."""
    result = np.empty(amplitude.shape, np.complex64)
    np.multiply(amplitude, cosine, out=result.real)
    np.multiply(amplitude, sine, out=result.imag)
    return result


OVERLAP = StateKey("synthesis", "overlap")
"""Incomplete sums of the windowed frames and of their squared windows."""


class Synthesis:
    """Overlap-add of windowed frames, framed as in `Analysis`, normalised exactly."""

    def __init__(self, window: Array, hop: int) -> None:
        """window: (n_fft,), float32"""
        self.window, self.n_fft, self.hop = window, len(window), hop
        self.overhang = (self.n_fft - hop) // 2
        self.slices = self.n_fft // hop
        self.weight = (self.window * self.window).reshape(self.slices, self.hop)

    def __call__(self, spectrum: Array, state: State, last: bool) -> Array:
        """Complex (B, frames, n_fft // 2 + 1) -> samples (B, n); n = frames * hop offline.

        In a stream the output lags by the overhang, which the last call puts out.
        """
        batch, frames, _ = spectrum.shape
        before = state.get(OVERLAP)
        if before is None:
            before = np.zeros((batch, 2, self.slices - 1, self.hop), np.float32)
        # The memory is the sum of the tails of the frames (of whole frames, until the first
        # overhang is complete), and the same sum of their squared windows.
        held = before.shape[2] - (self.slices - 1)
        total = np.concatenate([before, np.zeros((batch, 2, frames, self.hop), np.float32)], 2)
        if frames:
            pieces = np.fft.irfft(spectrum, self.n_fft).astype(np.float32, copy=False)
            pieces = (pieces * self.window).reshape(batch, frames, self.slices, self.hop)
            for i in reversed(
                range(self.slices)
            ):  # earlier frames first, the order of small chunks
                total[:, 0, held + i : held + i + frames] += pieces[:, :, i]
                total[:, 1, held + i : held + i + frames] += self.weight[i]
        starting = OVERLAP not in state or held > 0
        ready = held + frames
        if not last:
            if starting and ready * self.hop <= self.overhang:
                if ready:
                    state[OVERLAP] = total
                return np.zeros((batch, 0), np.float32)
            state[OVERLAP] = total[:, :, ready:].copy()
            total = total[:, :, :ready]
        sums, weights = total.reshape(batch, 2, -1).swapaxes(0, 1)
        samples = sums / np.maximum(weights, np.float32(WINDOW_FLOOR))
        start = self.overhang if starting else 0
        stop = samples.shape[1] - (self.n_fft - self.hop - self.overhang if last else 0)
        return samples[:, start:stop]
