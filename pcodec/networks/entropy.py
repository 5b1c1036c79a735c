"""How likely each index is, given those before it. See `pcodec.runtime.entropy`.

Trained with its values rounded to the whole numbers that the coder computes with; gradients pass
straight through (Bengio et al. 2013).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import ENTROPY_FAR, ENTROPY_MAX, ENTROPY_NEAR, CodecConfig

ACTIVATION_STEPS = 16
"""Steps of an activation, and of an embedding, from 0 to 1."""
MAX_SHIFT = 14


def _rounded(x: Tensor, value: Tensor) -> Tensor:
    """The value of ``value``, the gradient of ``x``."""
    return x + (value - x).detach()


def shifts(weight: Tensor) -> Tensor:
    """Of weights (out_channels, channels): the powers of two that their steps are, for each output.

    As small as 8 bits allow, and so that no sum leaves what a float32 holds exactly.
    """
    most = ENTROPY_MAX / weight.abs().amax(-1).clamp_min(1e-6)
    most = most.minimum((1 << 23) / ENTROPY_MAX / weight.abs().sum(-1).clamp_min(1e-6))
    return most.log2().floor().clamp(1, MAX_SHIFT)


def _whole(weight: Tensor) -> Tensor:
    """Weights rounded to their steps."""
    steps = shifts(weight.detach()).exp2()[..., None]
    return _rounded(weight, (weight * steps).round() / steps)


def _rectified(x: Tensor) -> Tensor:
    """Activations in their steps, 0 to `ENTROPY_MAX` of these."""
    steps = (x * ACTIVATION_STEPS + 0.5).floor().clamp(0, ENTROPY_MAX)
    return _rounded(x.clamp(0, ENTROPY_MAX / ACTIVATION_STEPS), steps / ACTIVATION_STEPS)


class Whole(nn.Module):
    """A linear layer whose weights are whole numbers of steps."""

    def __init__(self, channels: int, out_channels: int, *biases: int) -> None:
        """biases: dimensions of the bias before the last, such as one for each row."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, channels) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(*biases, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> (..., out_channels)"""
        if self.bias.ndim == 1:
            return F.linear(x, _whole(self.weight), self.bias)
        return F.linear(x, _whole(self.weight)) + self.bias

    def numbers(self, mask: Tensor | None = None) -> dict[str, Tensor]:
        """What the coder computes with: int8 weights and shifts, int32 biases."""
        weight = self.weight.detach() if mask is None else self.weight.detach() * mask
        shift = shifts(weight)
        # With the half step that makes cutting off a rounding.
        bias = (self.bias.detach() * ACTIVATION_STEPS + 0.5) * shift.exp2()
        return {
            "weight": (weight * shift.exp2()[:, None]).round().to(torch.int8),
            "bias": bias.round().to(torch.int32),
            "shift": shift.to(torch.int8),
        }

    @torch.no_grad()
    def take(self, numbers: dict[str, Tensor]) -> None:
        """The other way round."""
        steps = numbers["shift"].float().exp2()
        self.weight.copy_(numbers["weight"] / steps[:, None])
        self.bias.copy_((numbers["bias"] / steps - 0.5) / ACTIVATION_STEPS)


class EntropyModel(nn.Module):
    """Bits that indices take, given those of the columns before and of groups of rows before."""

    order: Tensor
    place: Tensor
    mask: Tensor
    LAYERS = ("near", "far", "column", "mix", "coarse", "fine")

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.rows, self.hidden = config.rows, config.entropy_hidden
        width, dim, entries = config.entropy_width, config.entropy_dim, config.codebook_entries
        self.lower = 1 << config.bits // 2
        size = self.rows * dim
        self.register_buffer("order", torch.arange(entries))
        self.register_buffer("place", torch.arange(entries), persistent=False)
        self.embedding = nn.Parameter(torch.randn(entries, dim))
        self.near = Whole(len(ENTROPY_NEAR) * size, width)
        self.far = Whole(len(ENTROPY_FAR) * width, width)
        self.column = Whole(width + size, self.rows * self.hidden)
        self.mix = Whole(self.hidden, self.hidden)
        self.coarse = Whole(self.hidden, entries // self.lower, self.rows)
        self.fine = Whole(self.hidden, entries, self.rows)
        group = torch.zeros(self.rows, dtype=torch.long)
        for number, rows in enumerate(config.entropy_groups):
            group[list(rows)] = number
        seen = (group[None] < group[:, None]).repeat_interleave(dim, 1)
        seen = torch.cat([torch.ones(self.rows, width, dtype=torch.bool), seen], 1)
        mask = seen.repeat_interleave(self.hidden, 0).float()
        self.register_buffer("mask", mask, persistent=False)

    @torch.no_grad()
    def plant(self, codebook: Tensor) -> None:
        """The tree over a codebook (entries, dim): halves along their main direction, and so on.

        What is known of an index begins as its entry.
        """
        groups = [torch.arange(len(codebook))]
        while len(groups) < len(codebook):
            halves = []
            for group in groups:
                entries = codebook[group] - codebook[group].mean(0)
                direction = torch.linalg.svd(entries, full_matrices=False)[2][0]
                near = group[(entries @ direction).argsort()]
                halves += [near[: len(near) // 2], near[len(near) // 2 :]]
            groups = halves
        self.order.copy_(torch.cat(groups))
        self.place.copy_(self.order.argsort())
        deviations = (codebook - codebook.mean(0)) / codebook.std()
        dims = min(codebook.shape[1], self.embedding.shape[1])
        self.embedding[:, :dims] = deviations[self.order, :dims]

    @staticmethod
    def _seen(x: Tensor, columns: tuple[int, ...]) -> Tensor:
        """Features (B, T, channels) of so many columns before each, side by side."""
        padded = F.pad(x, (0, 0, max(columns), 0))
        last = max(columns)
        return torch.cat([padded[:, last - k : last - k + x.shape[1]] for k in columns], -1)

    def _embedding_steps(self) -> Tensor:
        """The embedding (entries, dim) in whole steps."""
        steps = self.embedding.detach() * ACTIVATION_STEPS
        return steps.round().clamp(-ENTROPY_MAX, ENTROPY_MAX)

    def forward(self, indices: Tensor) -> Tensor:
        """Indices (B, columns, rows) -> bits of each, (B, columns, rows)."""
        places = self.place[indices]
        table = _rounded(self.embedding, self._embedding_steps() / ACTIVATION_STEPS)
        x = F.embedding(places, table).flatten(2)
        near = _rectified(self.near(self._seen(x, ENTROPY_NEAR)))
        far = _rectified(self.far(self._seen(near, ENTROPY_FAR)))
        weight = _whole(self.column.weight * self.mask)
        sums = F.linear(torch.cat([far, x], -1), weight, self.column.bias)
        features = _rectified(sums).unflatten(-1, (self.rows, self.hidden))
        features = _rectified(self.mix(features))
        upper, lower = places // self.lower, places % self.lower
        fine = self.fine(features).unflatten(-1, (-1, self.lower))
        chosen = upper[..., None, None].expand(*places.shape, 1, self.lower)
        fine = fine.gather(-2, chosen)[..., 0, :]
        return _bits(self.coarse(features), upper) + _bits(fine, lower)

    def numbers(self) -> dict[str, Tensor]:
        """What the coder computes with, by the names of its file."""
        embedding = self._embedding_steps().to(torch.int8)
        numbers = {"order": self.order.to(torch.int32), "embedding": embedding}
        for name in self.LAYERS:
            mask = self.mask if name == "column" else None
            for key, tensor in getattr(self, name).numbers(mask).items():
                numbers[f"{name}.{key}"] = tensor
        return numbers

    @torch.no_grad()
    def take(self, numbers: dict[str, Tensor]) -> None:
        """The other way round; KeyError or RuntimeError if they do not fit."""
        self.order.copy_(numbers["order"])
        self.place.copy_(self.order.argsort())
        self.embedding.copy_(numbers["embedding"] / ACTIVATION_STEPS)
        for name in self.LAYERS:
            keys = ("weight", "bias", "shift")
            getattr(self, name).take({key: numbers[f"{name}.{key}"] for key in keys})


def _bits(logits: Tensor, symbols: Tensor) -> Tensor:
    """Bits of symbols (...), by logits (..., symbols) in bits."""
    loss = F.cross_entropy(logits.flatten(0, -2) * math.log(2), symbols.flatten(), reduction="none")
    return loss.view(symbols.shape) / math.log(2)
