"""Pictures of the report: spectrograms, waveforms, patch grids."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcodec import models
from pcodec.config import CodecConfig
from pcodec.dsp import LOW_BAND_FLOOR, MEL_FLOOR, hann, mel_filters
from pcodec.errors import ModelMismatchError, PcodecError
from pcodec.eval.metrics import Samples
from pcodec.pcx.blocks import grid
from pcodec.pcx.compact import entropy_model
from pcodec.pcx.layout import Header
from pcodec.pcx.parser import Parser
from pcodec.runtime.mel import Analysis

RANGE = 80
"""Range of a spectrogram in dB, down from the reference's peak."""
MAX_ERROR_DB = 8
"""Patch error at the end of the scale, dB."""
MAX_WIDTH = 1600
"""Pixels of a picture."""
ABOUT_PATCHES = (
    "Indices. Mel patches: coloured by the mean level of those that carry the same index. "
    "Top rows, the low band's phases: coloured by number",
    f"Error, 0 to {MAX_ERROR_DB} dB. Mel patches: mean |difference| of log-mels. "
    "Top rows: by how much the error of the low band's waveform would raise its level",
)
Levels = NDArray[np.uint8]
"""A picture (rows, columns), high frequencies first; values are indices into a palette."""

# Maps of matplotlib (CC0), at every 16th of their length.
MAGMA = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
)
VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c "
    "1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725"
)
INFERNO = (
    "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 "
    "d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4"
)
STEPS = 128
"""Colours of a picture; one more stands for missing values."""


def data_uri(kind: str, data: bytes) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(levels: Levels, colours: str) -> bytes:
    """A picture as a PNG file with a palette."""
    stops = np.array([list(bytes.fromhex(c)) for c in colours.split()], float)
    at = np.linspace(0, len(stops) - 1, STEPS)
    ramp = [np.interp(at, np.arange(len(stops)), channel) for channel in stops.T]
    palette = np.stack(ramp, 1).round().astype(np.uint8).tobytes() + bytes.fromhex("8a8a8a")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows, columns = levels.shape
    lines = np.pad(
        levels, ((0, 0), (1, 0))
    ).tobytes()  # each line begins with its filter type: none
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", palette),
            chunk(b"IDAT", zlib.compress(lines, 9)),
            chunk(b"IEND", b""),
        ]
    )


def places(values: NDArray[Any], low: float, high: float) -> Levels:
    """Values as indices into a palette."""
    scaled = (values - low) / (high - low) * (STEPS - 1)
    return scaled.clip(0, STEPS - 1).round().astype(np.uint8)


def decibels(samples: Samples) -> NDArray[np.float64]:
    """Samples -> power spectra in dB, (257 bins, columns), the columns evenly over the whole."""
    columns = min(MAX_WIDTH, -(-len(samples) // 128))
    starts = ((np.arange(columns) + 0.5) * len(samples) / columns).astype(int)
    frames = np.pad(samples, 256)[starts[:, None] + np.arange(512)] * np.hanning(512)
    return 20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-9)


def envelope(samples: Samples, peak: float, columns: int = 600) -> str:
    """The outline of a waveform as an SVG path, in a box of ``columns`` x 100."""
    parts = np.array_split(samples, min(columns, len(samples)))
    step = columns / len(parts)
    scale = 48 / max(peak, 1e-9)
    upper = [f"{(i + 0.5) * step:.0f} {50 - scale * p.max():.1f}" for i, p in enumerate(parts)]
    lower = [f"{(i + 0.5) * step:.0f} {50 - scale * p.min():.1f}" for i, p in enumerate(parts)]
    return f"M{'L'.join(upper + lower[::-1])}Z"


def read_stream(path: Path) -> tuple[Header, NDArray[np.int64]]:
    """The header of a .pcx file and its indices (columns, rows), -1 where they are lost."""
    parser = Parser(entropy=entropy_model)
    try:
        pieces = parser.feed(path.read_bytes()) + parser.close()
    except PcodecError as error:
        raise PcodecError.of_file(path, str(error)) from error
    return parser.known_header, grid(pieces, parser.known_header.rows)


def patch_levels(
    header: Header, columns: int, reference: Samples, decoded: Samples
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The decoded level of each mel patch, and the error of each row, in dB, (columns, rows).

    The error of the phase rows is that of the low band's waveform: the level of reference plus
    error, relative to the reference.
    """
    h = header
    try:
        c = models.for_header(h).config
    except ModelMismatchError:  # its window is unknown; the usual one is close enough
        c = CodecConfig()
    front_end = Analysis(hann(c.window), c.n_fft, h.hop)
    filters = mel_filters(h.mel_bands, c.n_fft, h.sample_rate)
    length = columns * h.column_samples
    both = np.stack(
        [np.pad(x, (0, max(0, length - len(x))))[:length] for x in (reference, decoded)]
    )
    spectra = front_end(both, {}, last=True)
    nepers = np.log(np.maximum(np.abs(spectra) @ filters.T, MEL_FLOOR))
    patches = nepers.reshape(2, columns, h.patch_frames, h.mel_rows, h.patch_bands)
    patches *= 20 / math.log(10)
    step = c.n_fft // c.window
    low = spectra[..., step : step * c.low_bins + 1 : step].reshape(2, columns, -1)
    signal, noise = (np.linalg.norm(x, axis=-1) for x in (low[0], low[1] - low[0]))
    late = 20 * np.log10(1 + noise / (signal + LOW_BAND_FLOOR))
    error = np.abs(patches[1] - patches[0]).mean((1, 3))
    error = np.concatenate([error, np.repeat(late[:, None], h.phase_rows, 1)], 1)
    return patches[1].mean((1, 3)), error


def patch_pictures(path: Path, reference: Samples, decoded: Samples) -> tuple[Levels, Levels]:
    """The patch grid of a stream and its errors, in time as wide as the spectrogram."""
    header, indices = read_stream(path)
    level, error = patch_levels(header, len(indices), reference, decoded)
    there = indices >= 0
    # An index alone is only a number, so entries are coloured by the loudness of their patch.
    mel = indices[:, : header.mel_rows]
    count = np.bincount(mel[mel >= 0], minlength=1 << header.bits)
    total = np.bincount(mel[mel >= 0], level[mel >= 0], minlength=1 << header.bits)
    rank = np.where(count, total / np.maximum(count, 1), -np.inf).argsort().argsort()
    unused = int((count == 0).sum())
    grid = places(rank[indices], min(unused, len(rank) - 2), len(rank) - 1)
    # Entries of phase rows have no loudness; they are coloured by their index.
    phases = indices[:, header.mel_rows :]
    grid[:, header.mel_rows :] = places(phases, 0, len(rank) - 1)
    grid[~there] = STEPS
    wide = min(MAX_WIDTH, -(-len(reference) // 128))
    times = (np.arange(wide) + 0.5) * len(reference) / wide
    column = (times // header.column_samples).astype(int)
    picture = np.full((2, header.rows, wide), STEPS, np.uint8)
    known = column < len(indices)
    for i, values in enumerate((grid, places(error, 0, MAX_ERROR_DB))):
        picture[i][:, known] = values[column[known]].T[::-1]
    return picture[0], picture[1]
