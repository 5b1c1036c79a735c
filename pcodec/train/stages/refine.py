"""Stage: encoder, decoder and spectral vocoder again at a fixed codebook, against an adversary."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from pcodec.train.adversary import Losses
from pcodec.train.discriminators import SpectrogramDiscriminator
from pcodec.train.stages.end_to_end import EndToEnd


class Refine(EndToEnd):
    """`EndToEnd` at a fixed codebook, so that the bitstream stays, with an adversarial loss.

    The discriminators hear what is above `ABOVE_HZ`, where speech is mostly noise and most of the
    naturalness is missing (DistillMOS). Below, an adversary costs intelligibility (STOI).
    """

    name = "refine"
    parts: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "spectral")
    needs: ClassVar[tuple[str, ...]] = EndToEnd.parts
    ABOVE_HZ: ClassVar[float] = 4000.0

    def make_discriminator(self) -> nn.Module:
        return SpectrogramDiscriminator(above=2 * self.ABOVE_HZ / self.networks.config.sample_rate)

    def update_codebook(self, losses: Losses) -> None:
        """The codebook stays."""
