"""Stage: the spectral vocoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pcodec.train.stages.base import Losses, Waveform


class Vocoder(Waveform):
    """Spectral vocoder on what the frozen codec reconstructs.

    Option "true_share": the part of each batch that is given its true mel instead.
    """

    name = "vocoder"
    options: ClassVar[tuple[str, ...]] = (*Waveform.options, "true_share")
    parts: ClassVar[tuple[str, ...]] = ("spectral",)
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")

    def losses(self, samples: Tensor) -> Losses:
        with torch.no_grad():
            mel, decoded = self.mels(samples)
        true = round(self.settings.options.get("true_share", 0.0) * len(samples))
        return self.spectral_losses(torch.cat([mel[:true], decoded[true:]]), samples)
