"""Stage: decoder and spectral vocoder again, with an adversarial loss."""

from __future__ import annotations

from pcodec.train.stages.joint import Joint


class Refine(Joint):
    """`Joint` with an adversarial loss, as the last stage."""

    name = "refine"
