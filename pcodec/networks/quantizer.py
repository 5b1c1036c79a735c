"""One shared codebook: nearest neighbour, moving averages, k-means start, restarts.

Van den Oord et al. 2017 (VQ-VAE, appendix A.1: exponential moving averages).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Quantized(NamedTuple):
    """Result of `Quantizer.forward`."""

    latents: Tensor
    """Chosen entries (..., dim); the gradient passes straight through."""
    indices: Tensor
    """Indices of the entries (...), int64."""
    commitment: Tensor
    """Mean squared distance of the latents to their entries, a scalar."""


class Quantizer(nn.Module):
    """Vector quantiser with one codebook (entries, dim)."""

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, entries: int, dim: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("codebook", torch.zeros(entries, dim))
        # Moving averages; all counts are zero until the codebook is initialised.
        self.register_buffer("counts", torch.zeros(entries))
        self.register_buffer("sums", torch.zeros(entries, dim))

    def nearest(self, latents: Tensor) -> Tensor:
        """Latents (..., dim) -> indices (...) of the nearest entries."""
        # Same order as by distance: |x - e|^2 = |x|^2 - 2 (x e - |e|^2 / 2).
        nearness = F.linear(latents, self.codebook, -0.5 * self.codebook.square().sum(1))
        return nearness.argmax(-1)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) -> entries (..., dim)."""
        return F.embedding(indices, self.codebook)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantises (..., dim) in float32, gradient straight through."""
        latents = latents.float()
        indices = self.nearest(latents.detach())
        entries = self.lookup(indices)
        commitment = F.mse_loss(latents, entries)
        return Quantized(latents + (entries - latents).detach(), indices, commitment)

    @torch.no_grad()
    def update(self, latents: Tensor, indices: Tensor) -> int:
        """Moves the entries to the mean of their latents; returns how many were restarted.

        Entries used less than 1/20 of the average are restarted at random latents.
        """
        latents = latents.detach().float().flatten(0, -2)
        indices = indices.flatten()
        if not self.counts.any():
            self.start_from(latents)
            return 0
        self.counts.lerp_(
            torch.bincount(indices, minlength=len(self.counts)).float(), 1 - self.decay
        )
        sums = torch.zeros_like(self.sums).index_add_(0, indices, latents)
        self.sums.lerp_(sums, 1 - self.decay)
        average = len(latents) / len(self.counts)
        dead = (self.counts < 0.05 * average).nonzero()[:, 0]
        if len(dead):
            chosen = latents[torch.randint(len(latents), (len(dead),))]
            self.counts[dead] = 0.3 * average
            self.sums[dead] = chosen * 0.3 * average
        self.codebook.copy_(self.sums / self.counts[:, None])
        return len(dead)

    @torch.no_grad()
    def resume(self) -> None:
        """Starts the moving averages at the current codebook."""
        self.counts.fill_(1)
        self.sums.copy_(self.codebook)

    @torch.no_grad()
    def start_from(self, latents: Tensor, rounds: int = 10) -> None:
        """Starts the codebook by k-means on latents (n, dim)."""
        entries, _ = self.codebook.shape
        self.codebook.copy_(latents[torch.randint(len(latents), (entries,))])
        for _ in range(rounds):
            indices = self.nearest(latents)
            counts = torch.bincount(indices, minlength=entries).float()
            sums = torch.zeros_like(self.sums).index_add_(0, indices, latents)
            used = counts > 0
            self.codebook[used] = sums[used] / counts[used, None]
        self.counts.fill_(len(latents) / entries)
        self.sums.copy_(self.codebook * self.counts[:, None])
