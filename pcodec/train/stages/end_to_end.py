"""Stage: encoder, codebook, decoder and vocoder together."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from pcodec.train.adversary import Losses
from pcodec.train.stages.base import Waveform


class EndToEnd(Waveform):
    """Encoder, codebook, decoder and vocoder together, on the losses of the waveform.

    The encoder learns from the waveform, not from the log-mel alone. The bitstream changes.
    Options "mel", "low" and "commitment": weights of the VQ-VAE's own losses.
    """

    name = "end_to_end"
    options: ClassVar[tuple[str, ...]] = (*Waveform.options, "mel", "low", "commitment")
    # They are trained already when the vocoder is not.
    rates: ClassVar[dict[str, float]] = {"encoder": 0.5, "decoder": 0.5}
    parts: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder", "spectral")
    needs: ClassVar[tuple[str, ...]] = parts

    def losses(self, samples: Tensor) -> Losses:
        options = {"mel": 2.0, "low": 2.0, "commitment": 1.0, **self.settings.options}
        analysis, latents = self.encode(samples)
        codes = self.networks.quantizer(latents)
        decoded = self.decode(codes.latents)
        losses = self.spectral_losses(decoded, samples)
        own = analysis.codec_loss(decoded, options)
        commitment = options["commitment"] * codes.commitment
        return {
            **losses,
            **own,
            "total": losses["total"] + own["codec"] + commitment,
            "commitment": codes.commitment,
            "_latents": latents.detach(),
            "_indices": codes.indices,
        }

    def update_codebook(self, losses: Losses) -> None:
        self.networks.quantizer.update(losses["_latents"], losses["_indices"])
