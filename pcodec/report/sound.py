"""Audio of the report: the files beside the document, and the anchor."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from pcodec.errors import PcodecError
from pcodec.eval.metrics import RATE, Samples

ANCHOR = 3500
"""Cut-off of the low-pass anchor of ITU-R BS.1534, Hz."""


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a document names; only within the document's folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise PcodecError.of_file(folder / path, "lies outside the folder of the document")
    if not (folder / path).is_file():
        raise PcodecError.of_file(folder / path, "no such file")
    return folder / path


def read_flac(folder: Path, name: str) -> tuple[bytes, Samples]:
    """A FLAC file's bytes and samples."""
    path = inside(folder, name)
    data = path.read_bytes()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            kind = (file.format, file.samplerate, file.channels)
            samples = file.read(dtype="float32")
    except soundfile.LibsndfileError as error:
        raise PcodecError.of_file(path, f"cannot be read as audio ({error})") from error
    if kind != ("FLAC", RATE, 1) or not len(samples):
        raise PcodecError.of_file(path, "is not FLAC of 16 kHz, mono, with sound in it")
    return data, samples


def low_pass(samples: Samples, hertz: float = ANCHOR) -> Samples:
    """Low-pass filtered samples; 60 dB attenuation 100 Hz above the cut-off."""
    # A Kaiser-windowed sinc, with length and shape by Kaiser's formulas.
    taps = 2 * 290 + 1
    times = np.arange(taps) - taps // 2
    middle = 2 * (hertz + 50) / RATE
    kernel = middle * np.sinc(middle * times) * np.kaiser(taps, 5.65)
    size = 1 << (len(samples) + taps).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(kernel / kernel.sum(), size)
    whole = np.fft.irfft(spectrum, size)[taps // 2 :][: len(samples)]
    return whole.clip(-1, 1).astype(np.float32)


def flac(samples: Samples) -> bytes:
    """Samples as a FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
