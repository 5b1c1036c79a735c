"""Stage: the spectral vocoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pcodec.train.adversary import Losses
from pcodec.train.stages.base import Waveform


class Vocoder(Waveform):
    """The spectral vocoder, on the output of the frozen decoder."""

    name = "vocoder"
    parts: ClassVar[tuple[str, ...]] = ("spectral",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")

    def losses(self, samples: Tensor) -> Losses:
        with torch.no_grad():
            _, decoded = self.reconstruct(samples)
        return self.spectral_losses(decoded, samples)
