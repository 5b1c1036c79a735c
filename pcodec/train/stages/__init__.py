"""The stages of training: which networks are trained, on which losses, and how they are measured.

A stage is a module of that name in this package, and a line in `STAGES`. Importing this package
loads no torch; `stage_class` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pcodec.train.stages.base import Stage


class Entry(NamedTuple):
    """A stage in the registry."""

    class_name: str
    makes: str
    """What the stage produces, for the help."""


STAGES = {
    "vqvae": Entry("VqVae", "encoder, codebook and decoder; all other stages need them"),
    "adversarial": Entry("Adversarial", "the same against an adversary; an experiment, no gain"),
    "vocoder": Entry("Vocoder", "the spectral vocoder; the first stage after which there is sound"),
    "joint": Entry("Joint", "decoder and vocoder together; the bitstream stays"),
    "end_to_end": Entry("EndToEnd", "all of these together; a new bitstream"),
    "refine": Entry(
        "Refine", "encoder, decoder and vocoder against an adversary; the bitstream stays"
    ),
    "hifigan": Entry(
        "HifiGanVocoder", "the paper's vocoder behind a source, for comparison; optional"
    ),
    "concealment": Entry("ConcealmentModel", "the prediction of lost columns; optional"),
    "entropy": Entry(
        "Entropy", "the probability model of indices, for `encode --compact`; optional"
    ),
}
"""Stages by name, in the order of training."""


def stage_class(name: str) -> type[Stage]:
    """The class of a stage; loads torch."""
    module = import_module(f"pcodec.train.stages.{name}")
    kind: type[Stage] = getattr(module, STAGES[name].class_name)
    return kind
