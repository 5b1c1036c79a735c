"""Stage: the patch VQ-VAE."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pcodec.dsp import mel_filters
from pcodec.eval import metrics
from pcodec.networks.checkpoint import Networks
from pcodec.networks.stft import InverseSTFT
from pcodec.train.adversary import Logs, Losses
from pcodec.train.stages.base import Analysis, Stage, as_measured


class VqVae(Stage):
    """Patch VQ-VAE on log-mels and low bands.

    Losses: weighted L1 of the log-mel, squared error of the low band, commitment. Options "mel" and
    "low": weights of the first two.
    """

    name = "vqvae"
    options: ClassVar[tuple[str, ...]] = ("mel", "low")
    parts: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")

    def losses(self, samples: Tensor) -> Losses:
        analysis, latents = self.encode(samples)
        codes = self.networks.quantizer(latents)
        decoded = self.decode(codes.latents)
        losses = analysis.codec_loss(decoded, self.settings.options)
        return {
            **losses,
            "total": losses["codec"] + 0.25 * codes.commitment,
            "commitment": codes.commitment,
            "_latents": latents.detach(),
            "_indices": codes.indices,
            "_decoded": decoded[0],
        }

    def update_codebook(self, losses: Losses) -> None:
        self.networks.quantizer.update(losses["_latents"], losses["_indices"])

    def evaluate(self, clips: list[Tensor]) -> Logs:
        n = self.networks
        counts = torch.zeros(2, n.config.codebook_entries)
        scores: dict[str, list[float]] = {"log_mel_error": [], "low_snr": []}
        scores["pesq_ideal_vocoder"] = []
        for clip in clips:
            analysis = Analysis.of(n, *n.mel(clip[None].to(self.device)))
            codes = n.quantizer(n.encoder(analysis.mel, analysis.low))
            mel, low = n.decoder(codes.latents)
            indices = codes.indices.cpu()
            parts = indices[..., : n.config.mel_rows], indices[..., n.config.mel_rows :]
            for count, part in zip(counts, parts, strict=True):
                count += torch.bincount(part.flatten(), minlength=len(count))
            scores["log_mel_error"].append(float((mel - analysis.mel).abs().mean()))
            scores["low_snr"].append(analysis.low_snr(low))
            ideal = ideal_vocoder(n, clip, (mel - analysis.mel).cpu())
            own, best = (as_measured(x, n.config.sample_rate) for x in (clip, ideal))
            scores["pesq_ideal_vocoder"].append(metrics.or_nan("pesq", own, best))
        of = {"": counts.sum(0), "_mel": counts[0], "_low": counts[1]}
        return {
            **{name: float(np.nanmean(values)) for name, values in scores.items()},
            **{f"entropy_bits{k}": metrics.entropy_bits(c.long().numpy()) for k, c in of.items()},
        }


def ideal_vocoder(n: Networks, clip: Tensor, error: Tensor) -> Tensor:
    """The clip (n,) with the decoder's log-mel errors (1, frames, bands) added to its spectrum.

    This is how the codec would sound with a vocoder that makes no error.
    """
    n_fft = n.config.vocoder_n_fft
    inverse = InverseSTFT(n_fft, n.config.hop)
    filters = torch.from_numpy(mel_filters(n.config.mel_bands, n_fft, n.config.sample_rate))
    spread = error @ (filters / (filters.sum(0) + 1e-6))
    padded = F.pad(clip, (inverse.overhang, inverse.overhang))
    spectrum = torch.fft.rfft(padded.unfold(-1, n_fft, n.config.hop) * inverse.window)
    return inverse(spectrum[None] * spread.exp())[0].clamp(-1, 1)
