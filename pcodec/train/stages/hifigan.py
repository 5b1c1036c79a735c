"""Stage: HiFi-GAN, the paper's vocoder, behind a source."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pcodec.networks.checkpoint import Networks
from pcodec.networks.excitation import seen
from pcodec.train.adversary import Losses
from pcodec.train.discriminators import WaveformDiscriminator
from pcodec.train.losses import limit_gradient
from pcodec.train.stages.base import Settings, Waveform


class HifiGanVocoder(Waveform):
    """HiFi-GAN, the paper's vocoder, on the output of the frozen decoder."""

    name = "hifigan"
    options: ClassVar[tuple[str, ...]] = tuple(x for x in Waveform.options if x != "free")
    parts: ClassVar[tuple[str, ...]] = ("hifigan",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder", "spectral")
    vocoder: ClassVar[str] = "hifigan"

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__(networks, settings)
        # The pitch is that of the spectral vocoder, and stays.
        excitation = networks.hifigan.source.excitation
        excitation.load_state_dict(networks.spectral.excitation.state_dict())
        excitation.requires_grad_(False)

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        n = self.networks
        own, wanted = n.hifigan.source.excitation, n.spectral.excitation.state_dict()
        if not all(torch.equal(x, wanted[name]) for name, x in own.state_dict().items()):
            raise ValueError("the pitch is that of another spectral vocoder")

    def make_discriminator(self) -> nn.Module:
        return WaveformDiscriminator()

    def losses(self, samples: Tensor) -> Losses:
        n = self.networks
        with torch.no_grad():
            _, decoded = self.reconstruct(samples)
        with self.autocast():
            amplitudes = n.hifigan.source.amplitudes(seen(*decoded))
        amplitudes = limit_gradient(amplitudes.float())
        # In float32, as harmonics multiply the error of a phase.
        source = n.hifigan.source.synthesize(*decoded, amplitudes)
        with self.autocast():
            output = n.hifigan(*decoded, source=source).float()
        target = self.crop(samples)
        waveform = self.waveform_loss(output, target)
        losses = {"total": 15 * waveform, "waveform": waveform}
        return self.add_loudness_losses({**losses, "_output": output, "_target": target})
