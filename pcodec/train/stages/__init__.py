"""The stages of training: what is trained, on which losses, how it is measured.

In order: `VqVae`; `Adversarial`, its late fine-tuning; `Vocoder`, on what they
reconstruct; `Joint`, decoder and vocoder together; `EndToEnd`, when those are ripe, all
together; then, with encoder and codebook frozen, so that the bitstream does not change any
more, `Refine`, as `Joint` but against an adversary, `HifiGanVocoder`, the paper's vocoder,
`ConcealmentModel` and `Entropy`.
"""

from __future__ import annotations

from pcodec.train.stages.adversarial import Adversarial
from pcodec.train.stages.base import Stage
from pcodec.train.stages.concealment import ConcealmentModel
from pcodec.train.stages.end_to_end import EndToEnd
from pcodec.train.stages.entropy import Entropy
from pcodec.train.stages.hifigan import HifiGanVocoder
from pcodec.train.stages.joint import Joint
from pcodec.train.stages.refine import Refine
from pcodec.train.stages.vocoder import Vocoder
from pcodec.train.stages.vqvae import VqVae

STAGES: dict[str, type[Stage]] = {
    stage.name: stage
    for stage in (
        VqVae,
        Adversarial,
        Vocoder,
        Joint,
        EndToEnd,
        Refine,
        HifiGanVocoder,
        ConcealmentModel,
        Entropy,
    )
}
