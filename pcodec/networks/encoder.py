"""The patch VQ-VAE's encoder: log-mel picture -> grid of patch latents.

That of arXiv 2509.02244, section 3. A patch is 4 bands x 4 frames; a column is all the
patches of 4 frames. The paper convolves in two dimensions. On a CPU that is the slowest way, so
here a column is mixed by dense products at the column rate, beside a linear path that keeps each
latent tied to its own patch.
"""

from __future__ import annotations

from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.dsp import MEAN, SPREAD
from pcodec.networks.layers import ConvNeXtBlock


class PatchEncoder(nn.Module):
    """Log-mel frames to patch latents; causal."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.rows, self.bands, self.frames = config.rows, config.patch_bands, config.patch_frames
        width = config.encoder_width
        self.embed = nn.Linear(config.mel_bands * self.frames, width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, 3 * width, 5, 1 / config.encoder_blocks)
            for _ in range(config.encoder_blocks)
        )
        self.project = nn.Linear(width, self.rows * config.latent_dim)
        self.skip = nn.Linear(self.bands * self.frames, config.latent_dim)

    def patches(self, mel: Tensor) -> Tensor:
        """(B, frames, bands) -> (B, columns, rows, patch values), low bands first."""
        batch, frames, _ = mel.shape
        x = (mel - MEAN) / SPREAD
        x = x.reshape(batch, frames // self.frames, self.frames, self.rows, self.bands)
        return x.transpose(2, 3).flatten(3)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel (B, frames, bands), whole columns -> latents (B, columns, rows, dim)."""
        patches = self.patches(mel)
        x = self.embed(patches.flatten(2))
        for block in self.blocks:
            x = block(x)
        latents: Tensor = self.skip(patches) + self.project(x).unflatten(-1, (self.rows, -1))
        return latents
