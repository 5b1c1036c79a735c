"""Stage: HiFi-GAN, the paper's vocoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from pcodec.train.adversary import Losses
from pcodec.train.discriminators import WaveformDiscriminator
from pcodec.train.stages.base import Waveform


class HifiGanVocoder(Waveform):
    """HiFi-GAN, the paper's vocoder, on the output of the frozen decoder."""

    name = "hifigan"
    options: ClassVar[tuple[str, ...]] = (
        "adversarial",
        "adversarial_items",
        "disturbance",
    )
    parts: ClassVar[tuple[str, ...]] = ("hifigan",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")
    vocoder: ClassVar[str] = "hifigan"

    def make_discriminator(self) -> nn.Module:
        return WaveformDiscriminator()

    def losses(self, samples: Tensor) -> Losses:
        n = self.networks
        with torch.no_grad():
            _, decoded = self.reconstruct(samples)
        with self.autocast():
            output = n.hifigan(*decoded).float()
        target = self.crop(samples)
        waveform = self.waveform_loss(output, target)
        losses = {"total": 15 * waveform, "waveform": waveform}
        return self.add_loudness_losses({**losses, "_output": output, "_target": target})
