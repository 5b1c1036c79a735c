"""Stage: decoder and spectral vocoder together."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from pcodec.train.adversary import Losses
from pcodec.train.stages.base import Waveform


class Joint(Waveform):
    """Decoder and spectral vocoder together.

    Options "mel" and "low": weights of the decoder's own losses.
    """

    name = "joint"
    options: ClassVar[tuple[str, ...]] = (*Waveform.options, "mel", "low")
    # It is trained already when the vocoder is not.
    rates: ClassVar[dict[str, float]] = {"decoder": 0.3}
    parts: ClassVar[tuple[str, ...]] = ("decoder", "spectral")
    needs: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder", "spectral")

    def losses(self, samples: Tensor) -> Losses:
        analysis, decoded = self.reconstruct(samples)
        losses = self.spectral_losses(decoded, samples)
        own = analysis.codec_loss(decoded, {"mel": 2.0, "low": 2.0, **self.settings.options})
        return {**losses, **own, "total": losses["total"] + own["codec"]}
