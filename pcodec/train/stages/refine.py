"""Stage: decoder and spectral vocoder again, against an adversary."""

from __future__ import annotations

from pcodec.train.stages.joint import Joint


class Refine(Joint):
    """`Joint` with an adversary, as the last stage."""

    name = "refine"
