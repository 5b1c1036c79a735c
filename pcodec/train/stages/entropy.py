"""Stage: the probability model of indices, for entropy coding."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pcodec.networks.checkpoint import Networks
from pcodec.train.adversary import Logs, Losses
from pcodec.train.stages.base import Settings, Stage


class Entropy(Stage):
    """The probability model of indices, on a frozen encoder and codebook.

    A crop is a block, so its first columns are coded without context, as in a file.
    """

    name = "entropy"
    parts: ClassVar[tuple[str, ...]] = ("entropy",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook")

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__(networks, settings)
        model = networks.entropy
        if bool((model.order.diff() == 1).all()):  # neither built yet nor read from a file
            model.build_tree(networks.quantizer.codebook)

    def losses(self, samples: Tensor) -> Losses:
        with torch.no_grad():
            _, latents = self.encode(samples)
            indices = self.networks.quantizer.nearest(latents)
        with self.autocast():
            bits = self.networks.entropy(indices)
        mel, low = bits.split([self.networks.config.mel_rows, self.networks.config.phase_rows], -1)
        return {"total": bits.mean(), "mel_bits": mel.mean(), "low_bits": low.mean()}

    def evaluate(self, clips: list[Tensor]) -> Logs:
        config, n = self.networks.config, self.networks
        bits = torch.zeros(config.rows)
        columns = 0
        for clip in clips:
            _, latents = self.encode(self.padded(clip))
            for block in n.quantizer.nearest(latents).split(self.settings.columns, 1):
                bits += n.entropy(block).sum((0, 1)).cpu()
                columns += block.shape[1]
        bits /= columns
        mel, low = bits[: config.mel_rows], bits[config.mel_rows :]
        rate = float(bits.sum()) * config.sample_rate / config.column_samples
        return {"mel_bits": float(mel.mean()), "low_bits": float(low.mean()), "bit_rate": rate}
