"""The stages of training: what is trained, on which losses, how it is measured.

A stage is a file of its name in this folder and a line of `STAGES`. Importing this loads no
torch; `stage_class` does.
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
    """For the help: what comes out of it."""


STAGES = {
    "vqvae": Entry("VqVae", "encoder, codebook and decoder; all other stages need them"),
    "adversarial": Entry("Adversarial", "the same against an adversary; an experiment, no gain"),
    "vocoder": Entry("Vocoder", "the spectral vocoder; the first stage after which there is sound"),
    "joint": Entry("Joint", "decoder and vocoder together; the bitstream stays"),
    "end_to_end": Entry("EndToEnd", "all of these together; a new bitstream"),
    "refine": Entry("Refine", "decoder and vocoder against an adversary; the bitstream stays"),
    "hifigan": Entry("HifiGanVocoder", "the paper's vocoder, for comparison; slow; optional"),
    "concealment": Entry("ConcealmentModel", "the prediction of lost columns; optional"),
    "entropy": Entry("Entropy", "the probabilities of indices, for `encode --compact`; optional"),
}
"""By name, in the order of training."""


def stage_class(name: str) -> type[Stage]:
    """The class of a stage; loads torch."""
    module = import_module(f"pcodec.train.stages.{name}")
    kind: type[Stage] = getattr(module, STAGES[name].class_name)
    return kind
