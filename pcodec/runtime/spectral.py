"""The spectral vocoder: log-mel frames to samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcodec.config import FRAME_KERNEL, PITCH_BLOCKS, CodecConfig
from pcodec.dsp import COLUMN_WINDOW_FLOOR, OVERRELAXATION, hann
from pcodec.runtime.excitation import Tracker, normal
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.state import Array, State, StateKey
from pcodec.runtime.stft import Synthesis, spectrum, unit

PIECES = StateKey("consistency", "pieces")
"""Windowed samples of the last frames, before the consistency step."""


class Consistency:
    """`Consistency` of `pcodec.networks.spectral`, streaming: consistent phases, no look-ahead."""

    def __init__(self, config: CodecConfig) -> None:
        self.n_fft, self.hop, self.column = config.vocoder_n_fft, config.hop, config.patch_frames
        self.overlap = self.n_fft // self.hop - 1
        self.lead = config.vocoder_look_ahead % self.column
        self.beyond = np.float32(1 + OVERRELAXATION)
        # Indices of the sums that a frame of a column sees.
        self.places = np.arange(self.column)[:, None] + np.arange(
            self.overlap, 2 * self.overlap + 1
        )
        self.window: Array = hann(self.n_fft).astype(np.float32)
        weights: Array = np.broadcast_to(
            self.window * self.window, (1, self.overlap + self.column, self.n_fft)
        )
        self.scale = self.window / np.maximum(
            self.seen(weights)[0], np.float32(COLUMN_WINDOW_FLOOR)
        )

    def seen(self, pieces: Array) -> Array:
        """Whole columns of pieces (B, overlap + frames, n_fft) -> overlap-added frames."""
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
        self, amplitude: Array, cosine: Array, sine: Array, state: State, last: bool
    ) -> Array:
        """A spectrum in polar form -> a complex one with consistent phases."""
        frames = amplitude.shape[1]
        if not frames:
            return spectrum(amplitude, cosine, sine)
        pieces: Array = np.fft.irfft(spectrum(amplitude, cosine, sine), self.n_fft)
        pieces = pieces.astype(np.float32, copy=False) * self.window
        before = state.get(PIECES)
        if before is None:
            shape = (len(pieces), self.overlap + self.lead, self.n_fft)
            before = np.zeros(shape, np.float32)
        lead = before.shape[1] - self.overlap
        pieces = np.concatenate([before, pieces], 1)
        if not last:
            state[PIECES] = pieces[:, -self.overlap :].copy()
        if rest := -(lead + frames) % self.column:
            pieces = np.pad(pieces, ((0, 0), (0, rest), (0, 0)))
        again: Array = np.fft.rfft(self.seen(pieces) * self.scale)
        again = again.reshape(len(again), -1, again.shape[-1])[:, lead : lead + frames]
        new_cosine, new_sine = unit(again.real, again.imag)
        cosine = cosine + self.beyond * (new_cosine - cosine)
        sine = sine + self.beyond * (new_sine - sine)
        return spectrum(amplitude, *unit(cosine, sine))


def synthesis_history(config: CodecConfig, blocks: int) -> int:
    """Frames on which samples depend, with so many blocks at the frame rate before the phases."""
    layers = (FRAME_KERNEL - 1) * (1 + blocks) - config.vocoder_look_ahead
    overlap = config.vocoder_n_fft // config.hop - 1
    # The phases of a column's frames are made consistent together.
    return layers + 2 * overlap + config.patch_frames - 1


def no_frames(config: CodecConfig, batch: int) -> tuple[Array, Array, Array]:
    """A spectrum in polar form without frames."""
    nothing = np.zeros((batch, 0, config.vocoder_n_fft // 2 + 1), np.float32)
    return nothing, nothing, nothing


class SpectralVocoder:
    """Log-mel frames to samples: a spectrum per frame, then one inverse STFT."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config = config
        self.tracker = Tracker(config, folder, "pitch", processor)
        self.spectrum = Network(config, folder, "spectral", processor)
        self.consistency = Consistency(config)
        self.synthesis = Synthesis(self.consistency.window, config.hop)

    @staticmethod
    def latency(config: CodecConfig) -> int:
        """Samples that the output waits for after the last one of its own frame."""
        return config.synthesis_delay

    @staticmethod
    def history(config: CodecConfig) -> int:
        """Frames before one on which its samples depend."""
        return synthesis_history(config, max(config.vocoder_blocks, PITCH_BLOCKS))

    def start(self, state: State, frame: int) -> None:
        """Begins a stream at a frame, by its number."""
        self.tracker.excitation.start(state, frame)

    def polar(self, mel: Array, low: Array, state: State, last: bool) -> tuple[Array, Array, Array]:
        """Log-mel (B, frames, bands) and low band -> amplitudes, cosines and sines of the phases.

        (B, frames, bins) each, of the frames that are complete.
        """
        found = self.tracker(normal(mel, low), state, last)
        if found is None:
            return no_frames(self.config, len(mel))
        amplitude, cosine, sine = self.spectrum(
            state,
            seen=found.seen,
            now=found.now,
            features=found.pitch.features(),
            cosine=found.cosine,
            sine=found.sine,
            level=found.level,
        )
        return amplitude, cosine, sine

    def __call__(self, mel: Array, low: Array, state: State, last: bool) -> Array:
        """Log-mel (B, frames, bands) and low band -> samples (B, n), not clipped."""
        spectrum = self.consistency(*self.polar(mel, low, state, last), state, last)
        return self.synthesis(spectrum, state, last)
