"""The patch VQ-VAE's encoder: log-mel picture and low band -> grid of latents.

As in arXiv 2509.02244, section 3. A patch is 4 bands x 4 frames; a column is all patches of 4
frames. The paper convolves in two dimensions, which is slow on a CPU. Here dense products at the
column rate mix a column, and a linear path ties each latent to its own patch. The last rows of a
column are not patches: they code the waveform of the low band, and with it the phases.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcodec.config import COLUMN_KERNEL, CodecConfig
from pcodec.dsp import LOG_MEL_MEAN, LOG_MEL_STD
from pcodec.networks.layers import ConvNeXtBlock


class PatchEncoder(nn.Module):
    """Log-mel frames and low band to latents; causal."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.rows, self.bands, self.frames = config.rows, config.patch_bands, config.patch_frames
        width = config.encoder_width
        self.mel_rows, self.phase_rows = config.mel_rows, config.phase_rows
        low = 2 * config.low_bins * self.frames
        self.embed = nn.Linear(config.mel_bands * self.frames + low, width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, 3 * width, COLUMN_KERNEL, 1 / config.encoder_blocks)
            for _ in range(config.encoder_blocks)
        )
        self.project = nn.Linear(width, self.rows * config.latent_dim)
        self.skip = nn.Linear(self.bands * self.frames, config.latent_dim)
        self.skip_low = nn.Linear(low, self.phase_rows * config.latent_dim)

    def patches(self, mel: Tensor) -> Tensor:
        """(B, frames, bands) -> (B, columns, mel rows, patch values), low bands first."""
        batch, frames, _ = mel.shape
        x = (mel - LOG_MEL_MEAN) / LOG_MEL_STD
        x = x.reshape(batch, frames // self.frames, self.frames, self.mel_rows, self.bands)
        return x.transpose(2, 3).flatten(3)

    def forward(self, mel: Tensor, low: Tensor) -> Tensor:
        """Whole columns of log-mel and normalised low band -> latents (B, columns, rows, dim).

        mel: (B, frames, bands). low: (B, frames, 2 * bins).
        """
        patches = self.patches(mel)
        low = low.unflatten(1, (-1, self.frames)).flatten(2)
        x = self.embed(torch.cat([patches.flatten(2), low], -1))
        for block in self.blocks:
            x = block(x)
        phases = self.skip_low(low).unflatten(-1, (self.phase_rows, -1))
        skip = torch.cat([self.skip(patches), phases], 2)
        latents: Tensor = skip + self.project(x).unflatten(-1, (self.rows, -1))
        return latents
