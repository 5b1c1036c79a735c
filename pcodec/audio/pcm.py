"""Samples in memory (finite, mono, float32, full scale at 1) and as integers in files."""

from __future__ import annotations

import functools
import io
import warnings
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from pcodec.errors import AudioError, AudioWarning

Samples = NDArray[np.float32]

MAX_SAMPLE = 4.0
"""Largest sample; floats may exceed full scale, but not the range of the codec."""
CANCELLED = 0.1
"""Share of the expected power of the mean below which channels cancel out."""
_WINDOW = 16000
"""Frames over which that power is measured."""


def bytes_of(encoding: str) -> int:
    """Bytes per sample; ``encoding`` is a type of NumPy, "<i3", "alaw" or "ulaw"."""
    return 1 if encoding.endswith("law") else int(encoding[-1])


def from_bytes(
    data: bytes | memoryview, encoding: str, channels: int = 1, channel: int | None = None
) -> Samples:
    """Bytes of a file -> samples (frames, channels), or (frames, 1) of one channel."""
    width = bytes_of(encoding)
    data = memoryview(data)[: len(data) // (channels * width) * channels * width]
    of = slice(None) if channel is None else slice(channel, channel + 1)
    if encoding.endswith("law"):
        return _law_table(encoding)[np.frombuffer(data, np.uint8).reshape(-1, channels)[:, of]]
    if width == 3:
        three = np.frombuffer(data, np.uint8).reshape(-1, channels, 3)[:, of]
        four = np.zeros((*three.shape[:2], 4), np.uint8)
        four[..., slice(1, 4) if encoding[0] == "<" else slice(0, 3)] = three
        x = four.view(f"{encoding[0]}i4")[..., 0]
    else:
        x = np.frombuffer(data, encoding).reshape(-1, channels)[:, of]
    with np.errstate(over="ignore"):  # beyond float32 counts as infinite
        y = x.astype(np.float32)
    if encoding[1] == "u":
        y -= 128
    if encoding[1] != "f":
        y /= np.float32(1 << (8 * x.itemsize - 1))
    return y


def to_integers(x: NDArray[np.floating[Any]], bits: int) -> NDArray[np.int32]:
    """Samples with full scale at 1 -> integers of some bits, rounded and clipped.

    The only rule for all outputs: silence stays silent, and integers that were read are written
    unchanged.
    """
    full = 1 << (bits - 1)
    y = np.rint(np.asarray(x, np.float64) * full)
    return np.clip(y, -full, full - 1).astype(np.int32)


def to_bytes(x: Samples, encoding: str) -> bytes:
    """Samples (n,) with full scale at 1 -> bytes of integers or floats; clipped."""
    if encoding[1] == "i":
        return to_integers(x, 8 * bytes_of(encoding)).astype(encoding).tobytes()
    return np.clip(x, -1.0, 1.0).astype(encoding).tobytes()


@functools.cache
def _law_table(encoding: str) -> Samples:
    """Sample by byte."""
    what: dict[str, Any] = {"format": "RAW", "subtype": encoding.upper(), "channels": 1}
    table: Samples
    table, _ = soundfile.read(io.BytesIO(bytes(range(256))), dtype="float32", samplerate=1, **what)
    return table


class Downmix:
    """The mean of channels, with counts of what is lost by it."""

    def __init__(self) -> None:
        self.not_finite = 0
        """Samples that were NaN or infinite; they become 0."""
        self.clipped = 0
        """Samples beyond `MAX_SAMPLE`; they are clipped."""
        self.cancelled = 0
        """Frames whose channels cancel out."""
        self._frames, self._apart, self._together = 0, 0.0, 0.0

    def __call__(self, x: Samples) -> Samples:
        """(n, channels) -> (n,), finite and within `MAX_SAMPLE`."""
        if not np.abs(x).max(initial=0.0) <= MAX_SAMPLE:
            bad = ~np.isfinite(x)
            self.not_finite += int(bad.sum())
            x = np.where(bad, np.float32(0), x)
            self.clipped += int((np.abs(x) > MAX_SAMPLE).sum())
            x = np.clip(x, -MAX_SAMPLE, MAX_SAMPLE)
        if x.shape[1] == 1:
            return x[:, 0]
        mono = x.mean(1, dtype=np.float64)
        for start in range(0, len(x), _WINDOW):
            part = slice(start, start + _WINDOW)
            self._compare(x[part], mono[part])
        return mono.astype(np.float32)

    def _compare(self, x: Samples, mono: NDArray[np.float64]) -> None:
        self._frames += len(x)
        self._apart += float(np.square(x, dtype=np.float64).mean(1).sum()) / x.shape[1]
        self._together += float(np.square(mono).sum())
        if self._frames >= _WINDOW:
            self.finish()

    def finish(self) -> None:
        """Counts frames whose channels cancel out."""
        # Below -90 dB of full scale nothing is lost; a few frames cancel out by chance.
        audible = self._apart > 1e-9 * self._frames and self._frames >= _WINDOW // 10
        if audible and self._together < CANCELLED * self._apart:
            self.cancelled += self._frames
        self._frames, self._apart, self._together = 0, 0.0, 0.0

    def losses(self, rate: int | None = None) -> list[str]:
        """What was lost, one sentence each; rate: of a file in Hz, None for an array."""
        texts = []
        if self.not_finite:
            texts.append(f"{self.not_finite} samples are NaN or infinite and become 0")
        if self.clipped:
            texts.append(
                f"{self.clipped} samples are clipped at {MAX_SAMPLE:g} times full scale, which is"
                " 1.0 for floats; divide them by 32768 if they are 16-bit numbers"
            )
        if self.cancelled:
            much = f"{self.cancelled / rate:.2f} s" if rate else f"{self.cancelled} frames"
            instead = "--channel 1 takes the first" if rate else "wav[:, 0] is the first"
            texts.append(f"the channels cancel each other out in {much} of their mean; {instead}")
        return texts


def int16(samples: Samples) -> NDArray[np.int16]:
    """Samples as 16-bit integers."""
    return to_integers(samples, 16).astype("<i2")


def floats(pieces: list[Any]) -> Samples:
    """16-bit integers as samples."""
    joined: Samples = (np.concatenate(pieces).astype(np.float32) / 32768).astype(np.float32)
    return joined


def clean(x: NDArray[Any]) -> Samples:
    """(n,) or (n, channels) -> finite mono samples (n,).

    Floats have full scale at 1; integers must be int16 or int32. AudioError for another shape or
    type; AudioWarning if samples are lost.
    """
    x = np.asarray(x)
    if x.ndim not in (1, 2) or (x.ndim == 2 and not x.shape[1]):
        raise AudioError(f"an array of shape {x.shape} is not (frames,) or (frames, channels)")
    if x.ndim == 2 and x.shape[1] > x.shape[0] > 0:
        raise AudioError(
            f"an array of shape {x.shape} has more channels than frames; samples are"
            " (frames, channels), so transpose it"
        )
    if x.dtype.kind == "i" and x.dtype.itemsize in (2, 4):
        x = x / float(1 << (8 * x.dtype.itemsize - 1))
    elif x.dtype.kind != "f":
        raise AudioError(
            f"samples of type {x.dtype}: give floats with full scale at 1, or int16 or int32"
        )
    with np.errstate(over="ignore"):  # beyond float32 counts as infinite
        x = x.astype(np.float32, copy=False)
    if x.ndim == 1 and np.abs(x).max(initial=0.0) <= MAX_SAMPLE:
        return x
    mix = Downmix()
    mono = mix(x[:, None] if x.ndim == 1 else x)
    mix.finish()
    for text in mix.losses():
        warnings.warn(text, AudioWarning, stacklevel=3)
    return mono
