"""Stage: decoder and spectral vocoder together."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from pcodec.train.losses import mel_loss
from pcodec.train.stages.base import Losses, Waveform


class Joint(Waveform):
    """Decoder and spectral vocoder together. Option "mel": weight of the decoder's own loss."""

    name = "joint"
    options: ClassVar[tuple[str, ...]] = (*Waveform.options, "mel")
    # It is ripe when the vocoder is not.
    rates: ClassVar[dict[str, float]] = {"decoder": 0.3}
    parts: ClassVar[tuple[str, ...]] = ("decoder", "spectral")
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder", "spectral")

    def losses(self, samples: Tensor) -> Losses:
        mel, decoded = self.mels(samples)
        losses = self.spectral_losses(decoded, samples)
        reconstruction = mel_loss(decoded, mel)
        total = losses["total"] + self.settings.options.get("mel", 2.0) * reconstruction
        return {**losses, "total": total, "mel": reconstruction}
