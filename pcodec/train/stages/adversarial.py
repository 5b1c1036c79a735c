"""Stage: the patch VQ-VAE with an adversarial loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pcodec.networks.checkpoint import Networks
from pcodec.train.adversary import Adversary, Losses
from pcodec.train.discriminators import MelDiscriminator
from pcodec.train.stages.base import Settings
from pcodec.train.stages.vqvae import VqVae


class Adversarial(VqVae):
    """Adversarial fine-tuning of the VQ-VAE with a PatchGAN on the mel.

    arXiv 2509.02244, section 3; adaptive weight as in VQGAN (Esser et al. 2021, eq. 7).
    """

    name = "adversarial"
    options: ClassVar[tuple[str, ...]] = (*VqVae.options, "adversarial")
    needs: ClassVar[tuple[str, ...]] = VqVae.parts
    adversary: Adversary

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__(networks, settings)
        # The discriminator learns faster than the generator (Heusel et al. 2017).
        rate = settings.learning_rate
        self.adversary = Adversary(MelDiscriminator(), rate, self.device, rate=4.0)

    def losses(self, samples: Tensor) -> Losses:
        losses = super().losses(samples)
        with torch.no_grad():
            losses["_mel"] = self.networks.mel.frames(samples)[0]
        return losses

    def add_adversarial_loss(self, losses: Losses) -> Losses:
        real, fake = losses["_mel"], losses["_decoded"]
        logs = self.adversary.update(real, fake)
        adversarial, _ = self.adversary.generator_losses(real, fake)
        last = self.networks.decoder.refine.weight
        (a,) = torch.autograd.grad(losses["mel"], last, retain_graph=True)
        (b,) = torch.autograd.grad(adversarial, last, retain_graph=True)
        weight = (a.norm() / (b.norm() + 1e-6)).clamp(max=1e4)
        weight = weight * self.settings.options.get("adversarial", 0.5)
        losses["total"] = losses["total"] + weight * adversarial
        return {**logs, "adversarial_loss": adversarial.detach(), "adaptive_weight": weight}
