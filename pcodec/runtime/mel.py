"""Front end: high pass, short-time spectra, their log-mels and low bands, framed for streaming."""

from __future__ import annotations

import numpy as np

from pcodec.config import CodecConfig
from pcodec.dsp import HIGH_PASS_HZ, LOW_BAND_FLOOR, MEL_FLOOR, frame_signal
from pcodec.runtime.state import Array, State, StateKey

SAMPLES = StateKey("front end", "samples")
"""Filtered samples that later frames still see."""

WAITING, FILTER = StateKey("high pass", "samples"), StateKey("high pass", "filter")
"""Samples that do not fill a block yet, and the two state variables of the filter."""


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


class HighPass:
    """A second-order Butterworth high pass at `HIGH_PASS_HZ`; removes offsets and rumble.

    It filters blocks, counted from the start of the stream, so that the result does not depend on
    the chunks. Samples that do not fill a block wait. A block is a matrix product; two state
    variables pass from block to block.
    """

    BLOCK = 64
    """Samples per block; half a hop, so that no frame waits for one."""

    def __init__(self, sample_rate: int) -> None:
        # Bilinear transform (s -> z) of s^2 / (s^2 + sqrt(2) s + 1) at the edge.
        k = np.tan(np.pi * HIGH_PASS_HZ / sample_rate)
        scale = 1 / (1 + 2**0.5 * k + k * k)
        b = scale * np.array([1.0, -2.0, 1.0])
        a = scale * np.array([2 * (k * k - 1), 1 - 2**0.5 * k + k * k])
        # Transposed direct form II: state <- step @ state + entry * x, y = state[0] + b[0] * x.
        step = np.array([[-a[0], 1.0], [-a[1], 0.0]])
        entry = b[1:] - a * b[0]
        powers = [np.eye(2)]
        for _ in range(self.BLOCK):
            powers.append(step @ powers[-1])
        response = np.array([b[0], *(power[0] @ entry for power in powers[:-2])])
        lags = np.arange(self.BLOCK) - np.arange(self.BLOCK)[:, None]
        self.inside = np.where(lags >= 0, response[lags], 0.0)
        """Matrix (samples in, samples out) of a block."""
        self.onward = np.array([powers[self.BLOCK - 1 - i] @ entry for i in range(self.BLOCK)])
        """Matrix (samples in, states out)."""
        self.carried = powers[self.BLOCK]
        self.ringing = np.array([power[0] for power in powers[:-1]]).T
        """Matrix (states in, samples out)."""

    def __call__(self, x: Array, state: State, last: bool) -> Array:
        """Filters samples (B, n); returns those whose block is complete."""
        waiting: Array = state.get(WAITING, np.zeros((len(x), 0)))
        states: Array = state.get(FILTER, np.zeros((len(x), 2))).copy()
        x = np.concatenate([waiting, x], 1)
        rest = x.shape[1] % self.BLOCK
        missing = -rest % self.BLOCK if last else 0
        whole = x.shape[1] + missing if last else x.shape[1] - rest
        state[WAITING] = x[:, whole:].copy()
        x = np.pad(x[:, :whole], ((0, 0), (0, max(0, whole - x.shape[1]))))
        blocks = x.reshape(len(x), -1, self.BLOCK)
        inflow = (blocks @ self.onward).tolist()
        (aa, ab), (ba, bb) = self.carried.tolist()
        begun = np.zeros((len(x), blocks.shape[1], 2))
        for i, ((one, two), added) in enumerate(zip(states.tolist(), inflow, strict=True)):
            before = []
            for more, other in added:
                before.append((one, two))
                one, two = aa * one + ab * two + more, ba * one + bb * two + other
            if before:
                begun[i] = before
            states[i] = one, two
        state[FILTER] = states
        y: Array = (blocks @ self.inside + begun @ self.ringing).reshape(x.shape)
        return y[:, : whole - missing]
