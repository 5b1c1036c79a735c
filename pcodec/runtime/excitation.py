"""`pcodec.networks.excitation` in NumPy: a pulse train at the predicted pitch, or noise."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pcodec.config import FRAME_KERNEL, CodecConfig
from pcodec.dsp import (
    HANN_TRANSFORM,
    HARMONIC_LEVEL_FLOOR,
    HARMONIC_POWER_FLOOR,
    LOG_MEL_MEAN,
    LOG_MEL_STD,
    NOISE_FRAMES,
    PITCH_BINS,
    PITCH_BINS_PER_OCTAVE,
    PITCH_MIN_HZ,
    PITCH_REFERENCE_HZ,
    noise_phases,
)
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.state import Array, State, StateKey, with_history

SEEN = StateKey("excitation", "seen")
"""Frames of mel and low band that the first layers still see."""

NEXT_FRAME = StateKey("excitation", "next frame")
"""Number of the next frame; selects the row of the noise table."""


def hann_transform(bins: Array) -> Array:
    """The Fourier transform of a Hann window, ``bins`` from its middle, where it is 1."""
    square = np.minimum(bins * bins, np.float32(4))
    first, *rest = (np.float32(x) for x in HANN_TRANSFORM)
    result = square * first
    for coefficient in rest[:-1]:
        result += coefficient
        result *= square
    result += rest[-1]
    return result


class Pitch(NamedTuple):
    """A pitch track, (B, frames) each."""

    frequency: Array
    """Fundamental frequency, Hz."""
    phase: Array
    """Phase of the pulses in the middle of the frame, radians."""
    constant: Array
    """Offset of the phase of every harmonic, radians; it holds the polarity of a recording."""
    voiced: Array
    """Voicing, bool."""
    frame: Array
    """Frame index; selects the row of the noise table."""

    def features(self) -> Array:
        """(B, frames, 3): voicing, and the pitch in octaves."""
        features = np.empty((*self.voiced.shape, 3), np.float32)
        octaves = self.voiced * np.log2(self.frequency / PITCH_REFERENCE_HZ)
        features[..., 0], features[..., 1], features[..., 2] = self.voiced, octaves, octaves**2
        return features


def normal(mel: Array, low: Array) -> Array:
    """Log-mel and low band as networks see them, normalised: (B, frames, bands + 2 * bins)."""
    return np.concatenate([(mel - LOG_MEL_MEAN) / LOG_MEL_STD, low], -1, dtype=np.float32)


class Excitation:
    """Tracks the pitch, and gives the phases of the excitation."""

    def __init__(self, config: CodecConfig) -> None:
        self.bins_per_hertz = config.vocoder_n_fft / config.sample_rate
        self.bins = np.arange(config.vocoder_n_fft // 2 + 1, dtype=np.float32)
        self.near = np.arange(-2, 3)
        # Moves phases from the middle of the frame to its start, the origin of the FFT.
        self.sign = 1 - 2 * (self.bins % 2)
        self.noise = noise_phases(config.vocoder_n_fft, config.hop)

    def start(self, state: State, frame: int) -> None:
        """Begins a stream at a frame, by its number."""
        state[NEXT_FRAME] = np.array([[frame]])

    def pitch(self, logits: Array, state: State) -> Pitch:
        """Logits (B, frames, 1 + PITCH_BINS + 4) -> the track. Each frame has its own phase."""
        batch, frames, _ = logits.shape
        first = state.get(NEXT_FRAME)
        if first is None:
            first = np.zeros((batch, 1), np.int64)
        state[NEXT_FRAME] = first + frames
        scores = logits[..., 1 : 1 + PITCH_BINS]
        # The best class and two on either side.
        near = scores.argmax(-1)[..., None] + self.near
        np.minimum(np.maximum(near, 0, out=near), PITCH_BINS - 1, out=near)
        # In double precision, as the last bit of a float32 function depends on the chunk.
        shares = np.take_along_axis(scores, near, -1).astype(np.float64)
        shares = np.exp(shares - shares.max(-1, keepdims=True))
        octaves = ((near + 0.5) * shares).sum(-1) / shares.sum(-1) / PITCH_BINS_PER_OCTAVE
        phasors = logits[..., 1 + PITCH_BINS :].astype(np.float64).reshape(batch, frames, 2, 2)
        phase, constant = np.moveaxis(np.arctan2(phasors[..., 1], phasors[..., 0]), -1, 0)
        number = first + np.arange(frames)
        return Pitch(PITCH_MIN_HZ * np.exp2(octaves), phase, constant, logits[..., 0] > 0, number)

    def __call__(self, pitch: Pitch) -> tuple[Array, Array, Array]:
        """Cosine and sine of the excitation's phase, and its log-level: (B, frames, bins) each.

        The spectrum of a pulse train under a Hann window is, at each bin, the sum of the two
        nearest harmonics, weighted by the window's transform, which is real in the middle of
        a frame.
        """
        where = pitch.voiced.nonzero()
        cosine, sine = self.noise[:, pitch.frame % NOISE_FRAMES]
        level = np.zeros(cosine.shape, np.float32)
        if not len(where[0]):
            return cosine, sine, level
        spacing = (pitch.frequency[where] * self.bins_per_hertz).astype(np.float32)[:, None]
        phase = pitch.phase[where].astype(np.float32)[:, None]
        place = self.bins / spacing
        lower = np.floor(place)
        below = (place - lower) * spacing
        low = hann_transform(below) * (lower > 0)
        high = hann_transform(spacing - below)
        # The upper harmonic is the lower one, rotated by the phase of the pulses.
        along = low + high * np.cos(phase)
        across = high * np.sin(phase)
        power = along * along + across * across
        factor = self.sign / np.sqrt(power + np.float32(HARMONIC_POWER_FLOOR))
        along *= factor
        across *= factor
        constant = pitch.constant[where].astype(np.float32)[:, None]
        angle = lower * phase + constant
        turned_cosine, turned_sine = np.cos(angle), np.sin(angle)
        cosine[where] = turned_cosine * along - turned_sine * across
        sine[where] = turned_sine * along + turned_cosine * across
        level[where] = np.float32(0.5) * np.log(power + np.float32(HARMONIC_LEVEL_FLOOR))
        return cosine, sine, level


class Excited(NamedTuple):
    """What a vocoder makes a spectrum of; (B, frames, ...) each."""

    seen: Array
    """Log-mel and low band, normalised, with the frames around, (B, frames + taps - 1, channels)"""
    now: Array
    """The same without them."""
    pitch: Pitch
    cosine: Array
    sine: Array
    """Of the excitation's phase, (B, frames, bins)."""
    level: Array
    """Of the excitation, its logarithm."""
    rest: list[Array]
    """What the network gives beside the pitch."""


class Tracker:
    """Pitch and excitation of a stream."""

    def __init__(
        self, config: CodecConfig, folder: Path, network: str, processor: Processor
    ) -> None:
        """network: name of the graph of the pitch, and perhaps of more."""
        self.look_ahead = config.vocoder_look_ahead
        self.network = Network(config, folder, network, processor._replace(threads=1))
        self.excitation = Excitation(config)

    def __call__(self, normal: Array, state: State, last: bool) -> Excited | None:
        """`normal` of the next frames -> the frames that are complete; None if none is."""
        ahead = self.look_ahead
        seen = with_history(SEEN, normal, FRAME_KERNEL - 1, state, last, ahead)
        frames, start = seen.shape[1] - FRAME_KERNEL + 1, FRAME_KERNEL - 1 - ahead
        if frames <= 0:
            return None
        logits, *rest = self.network(state, seen=seen)
        pitch = self.excitation.pitch(logits, state)
        return Excited(seen, seen[:, start : start + frames], pitch, *self.excitation(pitch), rest)
