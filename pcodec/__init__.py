"""pcodec: a neural speech codec at 7.5 kbit/s that a laptop CPU can run, and train."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from pcodec.errors import (
    AudioError,
    AudioWarning,
    ChecksumError,
    FormatError,
    ModelMismatchError,
    PcodecError,
    TruncatedError,
    VersionError,
)

# ONNX Runtime tells Microsoft what it runs, and marks each machine with a number on its disk,
# unless this stands in the environment when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from pcodec import tokens as tokens
    from pcodec import torch as torch
    from pcodec.api import decode, encode, load
    from pcodec.codec import Codec
    from pcodec.pcx.tokens import read_tokens, write_tokens
    from pcodec.streams import decode_together, encode_together

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "AudioWarning",
    "ChecksumError",
    "Codec",
    "FormatError",
    "ModelMismatchError",
    "PcodecError",
    "TruncatedError",
    "VersionError",
    "decode",
    "decode_together",
    "encode",
    "encode_together",
    "load",
    "read_tokens",
    "write_tokens",
]


if not TYPE_CHECKING:  # a checker would take any name for one of ours
    _MODULES = {
        "api": ("decode", "encode", "load"),
        "codec": ("Codec",),
        "pcx.tokens": ("read_tokens", "write_tokens"),
        "streams": ("decode_together", "encode_together"),
    }
    _SUBMODULES = ("tokens", "torch")

    def __getattr__(name):
        # Only what needs the networks loads them: `pcodec info` does not.
        for module, names in _MODULES.items():
            if name in names:
                return getattr(importlib.import_module(f"pcodec.{module}"), name)
        if name in _SUBMODULES:
            return importlib.import_module(f"pcodec.{name}")
        raise AttributeError(f"module 'pcodec' has no attribute {name!r}")
