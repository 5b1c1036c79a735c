"""Constants, windows and filters that training and inference share, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcodec.config import CodecConfig

LOG_MEL_MEAN, LOG_MEL_STD = -4.0, 3.0
"""Mean and standard deviation for normalising log-mels, nepers; about those of speech."""

MEL_FLOOR, BIN_FLOOR = 1e-5, 1e-5
"""Smallest magnitudes before a logarithm: of a mel band; of a bin from the pseudo-inverse."""

MAX_LOG_AMPLITUDE = 6.0
"""Largest amplitude of a vocoder's spectrum, as a natural logarithm."""

PHASOR_FLOOR, PREDICTED_PHASOR_FLOOR = 1e-14, 1e-2
"""Added to squared magnitudes when phasors are normalised: of signals; of predictions."""

WINDOW_FLOOR, COLUMN_WINDOW_FLOOR = 1e-6, 1e-3
"""Smallest sum of squared windows that overlap-add divides by: in a signal; in one column."""

HARMONIC_POWER_FLOOR, HARMONIC_LEVEL_FLOOR = 1e-6, 1e-3
"""Added to the power of the excitation in a bin: before its phase; before its log-level."""

PITCH_REFERENCE_HZ = 150.0
"""Reference of the vocoder's pitch input, which is in octaves."""

PITCH_MIN_HZ, PITCH_BINS, PITCH_BINS_PER_OCTAVE = 55.0, 144, 36
"""Pitch classes from 55 to 880 Hz, 33 cents each."""

LOW_BAND_FLOOR = 0.02
"""Added to the RMS level of a column's low band, in units of its spectrum."""

HIGH_PASS_HZ = 50.0
"""Cut-off frequency of the high-pass filter before the encoder, Hz."""

RESTORED_HZ = 35.0
"""Down to this frequency a filter after the vocoder undoes the high pass, Hz."""

LOW_LEVEL_FLOOR = 1e-3
"""Added to the power of a frame of the normalised low band before its level is divided by it."""

LEVEL_PER_MEL = 0.8
"""RMS of speech, relative to that of the bands of its mel; in the median."""

LOW_PHASE_FLOOR = 1e-2
"""Added to squared magnitudes of the normalised low band: weak bins get phasors shorter than 1."""

NOISE_FRAMES = 512
"""Period of the noise excitation, frames."""

OVERRELAXATION = 0.6
"""The Griffin-Lim step is over-relaxed: old + (1 + OVERRELAXATION) * (consistent - old)."""

HANN_TRANSFORM = (
    -7.96422997e-05,
    1.95010996e-03,
    -2.34392063e-02,
    1.66346642e-01,
    -6.44777566e-01,
    9.99991325e-01,
)
"""Fourier transform of a Hann window, sinc(x) / (1 - x^2), as a polynomial in x^2. Interpolated at
Chebyshev nodes, error 1e-5, within two bins of its centre; farther away it counts as 0."""


def hann(length: int) -> NDArray[np.float64]:
    """A periodic Hann window."""
    return np.hanning(length + 1)[:-1]


def frame_signal(x: NDArray[Any], length: int, hop: int) -> NDArray[Any]:
    """(..., n) -> (..., frames, length): a view of all complete frames, one per hop."""
    return np.lib.stride_tricks.sliding_window_view(x, length, -1)[..., ::hop, :]


def mel_filters(bands: int, n_fft: int, sample_rate: int) -> NDArray[np.float32]:
    """Slaney mel filters of unit area, (bands, n_fft // 2 + 1), 0 Hz to Nyquist.

    The Auditory Toolbox scale (Slaney 1998): linear below 1 kHz, logarithmic above.
    """
    step = 27 / np.log(6.4)
    nyquist = sample_rate / 2
    top = 15 + np.log(nyquist / 1000) * step if nyquist > 1000 else nyquist * (3 / 200)
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < 15, mels * (200 / 3), 1000 * np.exp((mels - 15) / step))
    bins = np.linspace(0, nyquist, n_fft // 2 + 1)
    low, centre, high = (edges[i : i + bands, None] for i in range(3))
    rise, fall = (bins - low) / (centre - low), (high - bins) / (high - centre)
    filters = np.maximum(np.minimum(rise, fall), 0) * 2 / (high - low)
    return filters.astype(np.float32)


def mel_inverse(config: CodecConfig) -> NDArray[np.float32]:
    """Non-negative pseudo-inverse of the mel filters, (bands, vocoder_n_fft // 2 + 1).

    As FreeV's, with bands scaled so that mel(inverse(mel)) has about the same level.
    """
    filters = mel_filters(config.mel_bands, config.vocoder_n_fft, config.sample_rate)
    inverse = np.linalg.pinv(filters, max(filters.shape) * np.finfo(np.float32).eps).clip(0)
    inverse /= np.diagonal(filters @ inverse).clip(0.3)
    return np.ascontiguousarray(inverse.T, np.float32)


def mel_interpolation(config: CodecConfig) -> NDArray[np.float32]:
    """Magnitudes of mel bands to those of the vocoder's bins, (bands, vocoder_n_fft // 2 + 1)."""
    step = config.n_fft // config.vocoder_n_fft
    filters = mel_filters(config.mel_bands, config.n_fft, config.sample_rate)[:, ::step]
    # A mel of unit area is a magnitude per Hz.
    scale = np.float32(config.sample_rate / config.n_fft)
    interpolation: NDArray[np.float32] = scale * filters / filters.sum(0).clip(1e-9)
    return interpolation


def noise_phases(n_fft: int, hop: int) -> NDArray[Any]:
    """Phases of white noise in frames under a Hann window, as cosines and sines.

    (2, NOISE_FRAMES, n_fft // 2 + 1), float32; always the same.
    """
    length = (NOISE_FRAMES - 1) * hop + n_fft
    # NumPy guarantees that the numbers of this generator never change.
    white = np.random.RandomState(1).standard_normal(length)
    noise = np.fft.rfft(frame_signal(white, n_fft, hop) * hann(n_fft))
    noise /= np.abs(noise) + 1e-9
    return np.stack([noise.real, noise.imag]).astype(np.float32)
