"""Concealment of lost columns: a masked model of the grid of latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcodec.config import COLUMN_KERNEL, CONCEALMENT_LOOK_AHEAD, CONCEALMENT_TAPS, CodecConfig
from pcodec.networks.layers import CausalConv, ConvNeXtBlock


class Concealment(nn.Module):
    """Predicts lost columns as a correction of those received around them.

    It sees which columns are lost, and zeros in their place. So it predicts each column of a burst
    directly, and its errors do not accumulate. It also sees one column after a lost one, where
    that is known: the decoder looks ahead as far anyway.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width, blocks = config.concealment_width, config.concealment_blocks
        size = config.rows * config.latent_dim
        self.embed = CausalConv(2 * size + 1, width, CONCEALMENT_TAPS, CONCEALMENT_LOOK_AHEAD)
        # How far from the column before to the one after; the network corrects that.
        self.between = nn.Parameter(torch.full((size,), 0.5))
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, 3 * width, COLUMN_KERNEL, 1 / blocks) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @staticmethod
    def hold(latents: Tensor, lost: Tensor) -> Tensor:
        """Latents (B, columns, rows, dim), each lost one replaced by the last one received.

        lost: (B, columns), bool. Before the first one received there are zeros.
        """
        number = torch.arange(1, lost.shape[1] + 1, device=lost.device)
        heard = torch.where(lost, 0, number).cummax(1).values
        padded = torch.cat([torch.zeros_like(latents[:, :1]), latents], 1)
        index = heard[..., None, None].expand_as(latents)
        return padded.gather(1, index)

    def forward(self, latents: Tensor, lost: Tensor) -> Tensor:
        """`hold`, plus a correction of the lost columns."""
        held = self.hold(latents, lost).flatten(2)
        missing = lost[..., None]
        # The column after the last one is unknown, so it counts as lost.
        held = torch.cat([held, held[:, -1:]], 1)
        missing = torch.cat([missing, torch.ones_like(missing[:, :1])], 1)
        received = held * ~missing
        x = self.embed(torch.cat([held, received, missing.to(held)], -1))
        for block in self.blocks:
            x = block(x)
        step = self.between * (received[:, 1:] - held[:, :-1]) * ~missing[:, 1:]
        correction = self.head(self.norm(x))[:, :-1] + step
        result: Tensor = held[:, :-1] + correction * missing[:, :-1]
        return result.unflatten(-1, latents.shape[2:])
