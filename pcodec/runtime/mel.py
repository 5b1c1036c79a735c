"""Front end: short-time spectra, their log-mels and low bands, framed for streaming."""

from __future__ import annotations

import numpy as np

from pcodec.config import CodecConfig
from pcodec.dsp import LOW_BAND_FLOOR, MEL_FLOOR, frame_signal
from pcodec.runtime.state import Array, State, StateKey

SAMPLES = StateKey("front end", "samples")
"""Filtered samples that later frames still see."""


class Analysis:
    """Samples to their short-time spectrum, in double precision.

    Frame f is centred on hop f: it sees samples ``hop * f - overhang ... hop * (f + 1) +
    overhang`` with ``overhang = (window - hop) / 2``.
    """

    def __init__(self, window: Array, n_fft: int, hop: int) -> None:
        self.window, self.n_fft, self.hop = window, n_fft, hop
        self.overhang = (len(window) - hop) // 2

    def log_mel(self, x: Array, filters: Array) -> Array:
        """Samples (B, n), n a multiple of the hop -> natural log-mel (B, frames, bands)."""
        return np.log(np.maximum(np.abs(self(x, {}, True)) @ filters.T, MEL_FLOOR))

    def __call__(self, x: Array, state: State, last: bool) -> Array:
        """Samples (B, n) -> (B, frames, n_fft // 2 + 1); n a multiple of the hop if last."""
        before = state.get(SAMPLES)
        if before is None:
            before = np.zeros((len(x), self.overhang))
        x = np.concatenate([before, x], 1)
        if last:
            x = np.pad(x, ((0, 0), (0, self.overhang)))
        count = max(0, (x.shape[1] - len(self.window)) // self.hop + 1)
        state[SAMPLES] = x[:, count * self.hop :].copy()
        if not count:
            return np.zeros((len(x), 0, self.n_fft // 2 + 1), np.complex128)
        pieces = frame_signal(x, len(self.window), self.hop)
        spectrum: Array = np.fft.rfft(pieces * self.window, self.n_fft)
        return spectrum


class LowBand:
    """The low band of short-time spectra, each column relative to its level."""

    def __init__(self, config: CodecConfig) -> None:
        self.frames = config.patch_frames
        step = config.n_fft // config.window
        self.bins = slice(step, step * config.low_bins + 1, step)
        # Moves phases from the start of the frame, the origin of the FFT, to its middle.
        self.sign = 1.0 - 2.0 * (np.arange(1, config.low_bins + 1) % 2)

    def __call__(self, spectrum: Array) -> Array:
        """Whole columns (B, frames, n_fft // 2 + 1) -> (B, frames, 2 * bins), normalised.

        Real parts, then imaginary parts; phases are relative to the middle of the frame.
        """
        low = spectrum[..., self.bins] * self.sign
        low = np.concatenate([low.real, low.imag], -1)
        columns = low.reshape(len(low), -1, self.frames * low.shape[-1])
        power = 2 * np.square(columns).mean(-1, keepdims=True)
        columns /= np.sqrt(power + LOW_BAND_FLOOR**2)
        return low
