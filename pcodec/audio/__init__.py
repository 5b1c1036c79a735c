"""Audio in and out in blocks: any file that libsndfile reads, pipes, raw PCM, resampling."""

from __future__ import annotations

from pcodec.audio.reader import (
    BLOCK_SECONDS,
    RAW_FORMATS,
    Reader,
    Resampler,
    Samples,
    Writer,
    clean,
    read,
    resampled_length,
)

__all__ = [
    "BLOCK_SECONDS",
    "RAW_FORMATS",
    "Reader",
    "Resampler",
    "Samples",
    "Writer",
    "clean",
    "read",
    "resampled_length",
]
