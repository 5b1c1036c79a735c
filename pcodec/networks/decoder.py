"""The patch VQ-VAE's decoder: grid of latents -> log-mel picture and low band."""

from __future__ import annotations

from torch import Tensor, nn

from pcodec.config import COLUMN_KERNEL, FRAME_KERNEL, CodecConfig
from pcodec.dsp import LOG_MEL_MEAN, LOG_MEL_STD
from pcodec.networks.layers import CausalConv, ConvNeXtBlock


class PatchDecoder(nn.Module):
    """Quantised latents to log-mel and low band; looks `decoder_look_ahead` columns ahead."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.rows, self.bands, self.frames = config.rows, config.patch_bands, config.patch_frames
        width, fine = config.decoder_width, config.decoder_fine_width
        latents, ahead = self.rows * config.latent_dim, config.decoder_look_ahead
        self.mel_rows = config.mel_rows
        low = 2 * config.low_bins * self.frames
        self.skip = nn.Linear(config.latent_dim, self.bands * self.frames)
        self.skip_low = nn.Linear(config.phase_rows * config.latent_dim, low)
        self.embed = CausalConv(latents, width, 2 + ahead, ahead)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, 3 * width, COLUMN_KERNEL, 1 / config.decoder_blocks)
            for _ in range(config.decoder_blocks)
        )
        self.spread = nn.Linear(width, self.frames * fine)
        self.fine_blocks = nn.ModuleList(
            ConvNeXtBlock(fine, 3 * fine, FRAME_KERNEL, 1 / config.decoder_fine_blocks)
            for _ in range(config.decoder_fine_blocks)
        )
        self.refine = nn.Linear(fine, config.mel_bands)
        self.refine_low = nn.Linear(width, low)

    def coarse(self, latents: Tensor) -> Tensor:
        """The linear path: (B, columns, rows, dim) -> (B, frames, bands), normalised."""
        patches = self.skip(latents[:, :, : self.mel_rows]).unflatten(-1, (self.frames, self.bands))
        return patches.transpose(2, 3).flatten(3).flatten(1, 2)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(B, columns, rows, dim) -> log-mel (B, frames, bands), low band (B, frames, 2 * bins).

        The low band is normalised: each column is relative to its level.
        """
        x = self.embed(latents.flatten(2))
        coarse = self.coarse(latents)
        for block in self.blocks:
            x = block(x)
        low = self.refine_low(x) + self.skip_low(latents[:, :, self.mel_rows :].flatten(2))
        x = self.spread(x).unflatten(-1, (self.frames, -1)).flatten(1, 2)
        for block in self.fine_blocks:
            x = block(x)
        mel: Tensor = (coarse + self.refine(x)) * LOG_MEL_STD + LOG_MEL_MEAN
        return mel, low.unflatten(-1, (self.frames, -1)).flatten(1, 2)
