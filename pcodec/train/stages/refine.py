"""Stage: decoder and spectral vocoder again, against an adversary."""

from __future__ import annotations

from pcodec.train.stages.joint import Joint


class Refine(Joint):
    """`Joint` again, late, against an adversary."""

    name = "refine"
