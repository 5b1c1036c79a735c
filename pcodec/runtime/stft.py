"""Short-time Fourier transforms in NumPy, framed for streaming."""

from __future__ import annotations

import numpy as np

from pcodec.config import CodecConfig
from pcodec.dsp import BEYOND, FLOOR, hann, pieces_of
from pcodec.runtime.state import Array, Past


def unit(real: Array, imaginary: Array) -> tuple[Array, Array]:
    """Phasors brought to length 1, but where their squared length is near 1e-14."""
    factor = 1 / np.sqrt(real * real + imaginary * imaginary + np.float32(1e-14))
    return real * factor, imaginary * factor


def spectrum(amplitude: Array, cosine: Array, sine: Array) -> Array:
    """Complex numbers from their polar form."""
    result = np.empty(amplitude.shape, np.complex64)
    np.multiply(amplitude, cosine, out=result.real)
    np.multiply(amplitude, sine, out=result.imag)
    return result


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


class Synthesis:
    """Overlap-add of windowed frames, framed as in `Analysis`, normalised exactly."""

    def __init__(self, window: Array, hop: int) -> None:
        """window: (n_fft,), float32"""
        self.window, self.n_fft, self.hop = window, len(window), hop
        self.overhang = (self.n_fft - hop) // 2
        self.slices = self.n_fft // hop
        self.weight = (self.window * self.window).reshape(self.slices, self.hop)

    def __call__(self, spectrum: Array, past: Past, last: bool) -> Array:
        """Complex (B, frames, n_fft // 2 + 1) -> samples (B, n); n = frames * hop offline.

        In a stream the output trails by the overhang, which the last call puts out.
        """
        batch, frames, _ = spectrum.shape
        before = past.get(self)
        if before is None:
            before = np.zeros((batch, 2, self.slices - 1, self.hop), np.float32)
        # A stream's memory is the sum of the frames' tails, or, until more than the first
        # overhang is known, of whole frames; and that of their squared windows.
        held = before.shape[2] - (self.slices - 1)
        total = np.concatenate([before, np.zeros((batch, 2, frames, self.hop), np.float32)], 2)
        if frames:
            pieces = np.fft.irfft(spectrum, self.n_fft).astype(np.float32, copy=False)
            pieces = (pieces * self.window).reshape(batch, frames, self.slices, self.hop)
            for i in reversed(range(self.slices)):  # earlier frames first, as chunk by chunk
                total[:, 0, held + i : held + i + frames] += pieces[:, :, i]
                total[:, 1, held + i : held + i + frames] += self.weight[i]
        starting = self not in past or held > 0
        ready = held + frames
        if not last:
            if starting and ready * self.hop <= self.overhang:
                if ready:
                    past[self] = total
                return np.zeros((batch, 0), np.float32)
            past[self] = total[:, :, ready:].copy()
            total = total[:, :, :ready]
        sums, weights = total.reshape(batch, 2, -1).swapaxes(0, 1)
        samples = sums / np.maximum(weights, np.float32(1e-6))
        start = self.overhang if starting else 0
        stop = samples.shape[1] - (self.n_fft - self.hop - self.overhang if last else 0)
        return samples[:, start:stop]


class Consistency:
    """The same as in `pcodec.networks.spectral`: phases that agree, with no look-ahead."""

    def __init__(self, config: CodecConfig) -> None:
        self.n_fft, self.hop, self.column = config.vocoder_n_fft, config.hop, config.patch_frames
        self.overlap = self.n_fft // self.hop - 1
        self.lead = config.vocoder_look_ahead % self.column
        self.beyond = np.float32(1 + BEYOND)
        # Which of the sums a frame of a column sees.
        self.places = np.arange(self.column)[:, None] + np.arange(
            self.overlap, 2 * self.overlap + 1
        )
        self.window: Array = hann(self.n_fft).astype(np.float32)
        weights: Array = np.broadcast_to(
            self.window * self.window, (1, self.overlap + self.column, self.n_fft)
        )
        self.scale = self.window / np.maximum(self.seen(weights)[0], np.float32(1e-3))

    def seen(self, pieces: Array) -> Array:
        """Whole columns of pieces (B, overlap + frames, n_fft) -> what each frame sees then."""
        batch, count, _ = pieces.shape
        slices = self.overlap + 1
        pieces = pieces.reshape(batch, count, slices, self.hop)
        columns = (count - self.overlap) // self.column
        frames = self.overlap + self.column
        total = np.zeros((batch, columns, frames + self.overlap, self.hop), np.float32)
        pieces = pieces[:, np.arange(columns)[:, None] * self.column + np.arange(frames)]
        for i in range(slices):
            total[:, :, i : i + frames] += pieces[:, :, :, i]
        return total[:, :, self.places].reshape(batch, columns, self.column, self.n_fft)

    def __call__(
        self, amplitude: Array, cosine: Array, sine: Array, past: Past, last: bool
    ) -> Array:
        """A spectrum in polar form -> the complex one with other phases."""
        frames = amplitude.shape[1]
        if not frames:
            return spectrum(amplitude, cosine, sine)
        pieces: Array = np.fft.irfft(spectrum(amplitude, cosine, sine), self.n_fft)
        pieces = pieces.astype(np.float32, copy=False) * self.window
        before = past.get(self)
        if before is None:
            shape = (len(pieces), self.overlap + self.lead, self.n_fft)
            before = np.zeros(shape, np.float32)
        lead = before.shape[1] - self.overlap
        pieces = np.concatenate([before, pieces], 1)
        if not last:
            past[self] = pieces[:, -self.overlap :].copy()
        if rest := -(lead + frames) % self.column:
            pieces = np.pad(pieces, ((0, 0), (0, rest), (0, 0)))
        again: Array = np.fft.rfft(self.seen(pieces) * self.scale)
        again = again.reshape(len(again), -1, again.shape[-1])[:, lead : lead + frames]
        new_cosine, new_sine = unit(again.real, again.imag)
        cosine = cosine + self.beyond * (new_cosine - cosine)
        sine = sine + self.beyond * (new_sine - sine)
        return spectrum(amplitude, *unit(cosine, sine))
