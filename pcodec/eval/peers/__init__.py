"""The codecs that `pcodec eval` compares (peers), behind one interface.

A peer encodes 16 kHz samples to bits and decodes them. Most are C libraries called with ctypes. A
peer whose library is not installed is reported as absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from pcodec import models
from pcodec.errors import PcodecError
from pcodec.eval.peers.amrwb import amrwb
from pcodec.eval.peers.base import AbsentError, PeerCodec, PeerResult
from pcodec.eval.peers.codec2 import codec2
from pcodec.eval.peers.external import command, python
from pcodec.eval.peers.lc3 import lc3
from pcodec.eval.peers.opus import opus
from pcodec.eval.peers.original import original
from pcodec.eval.peers.pcodec import pcodec
from pcodec.eval.peers.speex import speex

__all__ = [
    "FAMILIES",
    "AbsentError",
    "Family",
    "PeerCodec",
    "PeerResult",
    "expand",
    "make",
    "name_of",
    "peer_names",
]


class Family(NamedTuple):
    """A codec with several rates."""

    make: Callable[[float], PeerCodec]
    """Rate in kbit/s -> the codec at that rate; AbsentError, or PcodecError if it does not have
    that rate."""
    rates: tuple[float, ...]
    """Rates in kbit/s that `--codec all` measures; empty if the codec has no rate in its name."""


FAMILIES: dict[str, Family] = {
    "opus": Family(opus, (6, 8, 9, 12)),
    "speex": Family(speex, (7.75,)),
    "amrwb": Family(amrwb, (6.6, 8.85)),
    "codec2": Family(codec2, (3.2,)),
    "lc3": Family(lc3, (16,)),
    "original": Family(original, ()),
}
"""The peers by the first part of their names; the only list of them."""


COMPACT = ("compact", "5.5", "5", "4.5")
"""What `--codec all` measures of a model that has an entropy model, besides its vocoders."""


def peer_names() -> list[str]:
    """The codecs of `--codec all`, except those of the model itself."""
    return [
        name
        for family, (_, rates) in FAMILIES.items()
        for name in ([f"{family}-{rate:g}" for rate in rates] or [family])
    ]


def name_of(spec: str) -> str:
    """The name of the codec in a --codec option."""
    return spec.partition("=")[0]


def make(spec: str, model: str | None = None) -> PeerCodec:
    """The codec of a --codec option; AbsentError if it is not installed."""
    name, is_custom, text = spec.partition("=")
    if is_custom and name:
        if text.startswith("python:"):
            return python(name, text.removeprefix("python:"))
        if text.startswith("model:"):
            return pcodec(None, text.removeprefix("model:"), name)
        return command(name, text)
    family, _, rate = name.partition("-")
    if family == "pcodec":
        vocoder = rate if rate in models.VOCODERS else "spectral"
        return pcodec(vocoder, model, name, None if rate in ("", vocoder) else rate)
    known = FAMILIES.get(family)
    try:
        kbit_s = float(rate or 0)
    except ValueError:
        kbit_s = math.nan
    if known is not None and (0 < kbit_s < math.inf if known.rates else not rate):
        return known.make(kbit_s)
    there = ", ".join(peer_names())
    raise PcodecError(f"no codec {name!r}; known: pcodec, {there}, and NAME=COMMAND")


def expand(specs: tuple[str, ...], model: str | None = None) -> list[str]:
    """The --codec options with "all" expanded; pcodec alone if there are none."""
    own = models.find(model)
    every = ["pcodec" if vocoder == "spectral" else f"pcodec-{vocoder}" for vocoder in own.vocoders]
    if own.entropy_id is not None:
        every += [f"pcodec-{rate}" for rate in COMPACT]
    out: list[str] = []
    for spec in specs or ("pcodec",):
        out += [*every, *peer_names()] if spec == "all" else [spec]
    return list(dict.fromkeys(out))
