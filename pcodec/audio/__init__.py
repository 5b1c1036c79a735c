"""Audio in and out in blocks: any file that libsndfile reads, pipes, raw PCM, resampling."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcodec.audio.formats import RAW_FORMATS
    from pcodec.audio.pcm import Samples, clean
    from pcodec.audio.reader import BLOCK_SECONDS, Reader, read
    from pcodec.audio.resample import Resampler, resampled_length
    from pcodec.audio.writer import Writer

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

_MODULES = {
    "formats": ("RAW_FORMATS",),
    "pcm": ("Samples", "clean"),
    "reader": ("BLOCK_SECONDS", "Reader", "read"),
    "resample": ("Resampler", "resampled_length"),
    "writer": ("Writer",),
}


def __getattr__(name: str) -> Any:
    # Names of suffixes load no library.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"pcodec.audio.{module}"), name)
    raise AttributeError(f"module 'pcodec.audio' has no attribute {name!r}")
