"""The codecs that `pcodec eval` can put beside each other, behind one interface.

A coder takes 16 kHz samples through a codec's real bits and back. Those of others come from
their libraries, through ctypes; whichever is not installed is reported absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pcodec import models
from pcodec.errors import PcodecError
from pcodec.eval.peers.amrwb import amrwb
from pcodec.eval.peers.base import AbsentError, Coded, Coder
from pcodec.eval.peers.codec2 import codec2
from pcodec.eval.peers.external import command, python
from pcodec.eval.peers.lc3 import lc3
from pcodec.eval.peers.opus import opus
from pcodec.eval.peers.original import original
from pcodec.eval.peers.pcodec import pcodec
from pcodec.eval.peers.speex import speex

__all__ = ["FAMILIES", "PEERS", "AbsentError", "Coded", "Coder", "expand", "make", "name_of"]

FAMILIES: dict[str, Callable[[float], Coder]] = {
    "opus": opus,
    "speex": speex,
    "amrwb": amrwb,
    "codec2": codec2,
    "lc3": lc3,
    "original": original,
}
PEERS = (
    *("opus-6", "opus-8", "opus-9", "opus-12", "speex-7.75", "amrwb-6.6", "amrwb-8.85"),
    *("codec2-3.2", "lc3-16", "original"),
)
"""What `--codec all` means, beside the model's vocoders."""


def name_of(spec: str) -> str:
    """The name of what a --codec describes."""
    return spec.partition("=")[0]


def make(spec: str, model: str | None = None) -> Coder:
    """The coder that a --codec describes; AbsentError if it is not on this machine."""
    name, is_custom, text = spec.partition("=")
    if is_custom and name:
        if text.startswith("python:"):
            return python(name, text.removeprefix("python:"))
        if text.startswith("model:"):
            return pcodec(None, text.removeprefix("model:"), name)
        return command(name, text)
    family, _, rate = name.partition("-")
    if family == "pcodec":
        return pcodec(rate or "spectral", model)
    try:
        if family in FAMILIES and (family == "original" or 0 < float(rate) < math.inf):
            return FAMILIES[family](float(rate or 0))
    except ValueError:
        pass
    raise PcodecError(f"no codec {name!r}; there are pcodec, {', '.join(PEERS)}, and NAME=COMMAND")


def expand(specs: tuple[str, ...], model: str | None = None) -> list[str]:
    """The --codec options with "all" written out; pcodec alone if there are none."""
    every = [
        "pcodec" if vocoder == "spectral" else f"pcodec-{vocoder}"
        for vocoder in models.find(model).vocoders
    ]
    out: list[str] = []
    for spec in specs or ("pcodec",):
        out += [*every, *PEERS] if spec == "all" else [spec]
    return list(dict.fromkeys(out))
