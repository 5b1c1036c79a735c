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
from pcodec.train.adversary import Logs
from pcodec.train.losses import mel_loss
from pcodec.train.stages.base import Losses, Stage, as_measured


class VqVae(Stage):
    """Patch VQ-VAE on log-mels: weighted L1 and commitment."""

    name = "vqvae"
    parts: ClassVar[tuple[str, ...]] = ("encoder", "codebook", "decoder")

    def losses(self, samples: Tensor) -> Losses:
        mel, latents = self.encode(samples)
        codes = self.networks.quantizer(latents)
        decoded = self.decode(codes.latents)
        reconstruction = mel_loss(decoded, mel)
        return {
            "total": reconstruction + 0.25 * codes.commitment,
            "mel": reconstruction,
            "commitment": codes.commitment,
            "_latents": latents.detach(),
            "_indices": codes.indices,
            "_decoded": decoded,
        }

    def after(self, losses: Losses) -> None:
        self.networks.quantizer.update(losses["_latents"], losses["_indices"])

    def evaluate(self, clips: list[Tensor]) -> Logs:
        n = self.networks
        plain, counts = 0.0, torch.zeros(n.config.codebook_entries)
        pesq: list[float] = []
        for clip in clips:
            mel = n.mel(clip[None].to(self.device))
            codes = n.quantizer(n.encoder(mel))
            decoded = n.decoder(codes.latents)
            counts += torch.bincount(codes.indices.flatten().cpu(), minlength=len(counts))
            plain += float((decoded - mel).abs().mean())
            ideal = ideal_vocoder(n, clip, (decoded - mel).cpu())
            rate = n.config.sample_rate
            pesq.append(metrics.or_nan("pesq", as_measured(clip, rate), as_measured(ideal, rate)))
        return {
            "log_mel_error": plain / len(clips),
            "pesq_ideal_vocoder": float(np.nanmean(pesq)),
            "entropy_bits": metrics.entropy_bits(counts.long().numpy()),
        }


def ideal_vocoder(n: Networks, clip: Tensor, error: Tensor) -> Tensor:
    """The clip (n,) with the log-mel's errors (1, frames, bands), and nothing else, imposed on it.

    What the quantiser would sound like through a vocoder that makes no error.
    """
    inverse = InverseSTFT(512, n.config.hop)
    filters = torch.from_numpy(mel_filters(n.config.mel_bands, 512, n.config.sample_rate))
    spread = error @ (filters / (filters.sum(0) + 1e-6))
    padded = F.pad(clip, (inverse.overhang, inverse.overhang))
    spectrum = torch.fft.rfft(padded.unfold(-1, 512, n.config.hop) * inverse.window)
    return inverse(spectrum[None] * spread.exp())[0].clamp(-1, 1)
