"""The probability model of indices, for training. See `pcodec.runtime.entropy`.

It is trained with its values rounded to the integers that the coder computes with; gradients
ignore the rounding (straight-through estimator, Bengio et al. 2013).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import ENTROPY_FAR, ENTROPY_MAX, ENTROPY_NEAR, CodecConfig

ACTIVATION_STEPS = 16
"""Integer that stands for an activation, or an embedding, of 1."""
MAX_SHIFT = 14
"""Most fractional bits of a weight."""


def _rounded(x: Tensor, value: Tensor) -> Tensor:
    """A tensor with the value of ``value`` and the gradient of ``x``."""
    return x + (value - x).detach()


def shifts(weight: Tensor) -> Tensor:
    """Fractional bits of weights (out_channels, channels), per output.

    As many as fit 8-bit weights, and sums that a float32 holds exactly.
    """
    most = ENTROPY_MAX / weight.abs().amax(-1).clamp_min(1e-6)
    most = most.minimum((1 << 23) / ENTROPY_MAX / weight.abs().sum(-1).clamp_min(1e-6))
    return most.log2().floor().clamp(1, MAX_SHIFT)


def _quantized(weight: Tensor) -> Tensor:
    """Weights rounded to their fractional bits."""
    steps = shifts(weight.detach()).exp2()[..., None]
    return _rounded(weight, (weight * steps).round() / steps)


def _rectified(x: Tensor) -> Tensor:
    """Rectified activations, rounded to multiples of 1 / `ACTIVATION_STEPS`."""
    steps = (x * ACTIVATION_STEPS + 0.5).floor().clamp(0, ENTROPY_MAX)
    return _rounded(x.clamp(0, ENTROPY_MAX / ACTIVATION_STEPS), steps / ACTIVATION_STEPS)


class QuantizedLinear(nn.Module):
    """A linear layer with quantised weights."""

    def __init__(self, channels: int, out_channels: int, *biases: int) -> None:
        """biases: leading dimensions of the bias, for example one bias per row."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, channels) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(*biases, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> (..., out_channels)"""
        if self.bias.ndim == 1:
            return F.linear(x, _quantized(self.weight), self.bias)
        return F.linear(x, _quantized(self.weight)) + self.bias

    def numbers(self, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The integers of the coder: int8 weights and shifts, int32 biases."""
        weight = self.weight.detach() if mask is None else self.weight.detach() * mask
        shift = shifts(weight)
        # Half a step more, so that the coder's rounding down becomes rounding.
        bias = (self.bias.detach() * ACTIVATION_STEPS + 0.5) * shift.exp2()
        return {
            "weight": (weight * shift.exp2()[:, None]).round().to(torch.int8),
            "bias": bias.round().to(torch.int32),
            "shift": shift.to(torch.int8),
        }

    @torch.no_grad()
    def take(self, numbers: dict[str, Tensor]) -> None:
        """The inverse of `numbers`."""
        steps = numbers["shift"].float().exp2()
        self.weight.copy_(numbers["weight"] / steps[:, None])
        self.bias.copy_((numbers["bias"] / steps - 0.5) / ACTIVATION_STEPS)


class EntropyModel(nn.Module):
    """Bits of indices, given the columns before and the groups of rows before in their column."""

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
        self.near = QuantizedLinear(len(ENTROPY_NEAR) * size, width)
        self.far = QuantizedLinear(len(ENTROPY_FAR) * width, width)
        self.column = QuantizedLinear(width + size, self.rows * self.hidden)
        self.mix = QuantizedLinear(self.hidden, self.hidden)
        self.coarse = QuantizedLinear(self.hidden, entries // self.lower, self.rows)
        self.fine = QuantizedLinear(self.hidden, entries, self.rows)
        group = torch.zeros(self.rows, dtype=torch.long)
        for number, rows in enumerate(config.entropy_groups):
            group[list(rows)] = number
        seen = (group[None] < group[:, None]).repeat_interleave(dim, 1)
        seen = torch.cat([torch.ones(self.rows, width, dtype=torch.bool), seen], 1)
        mask = seen.repeat_interleave(self.hidden, 0).float()
        self.register_buffer("mask", mask, persistent=False)

    @torch.no_grad()
    def build_tree(self, codebook: Tensor) -> None:
        """Builds the tree over a codebook (entries, dim), and initialises the embedding with it.

        Each node divides its entries into halves along their first principal component.
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
    def _earlier(x: Tensor, distances: tuple[int, ...]) -> Tensor:
        """Features (B, T, channels) at some distances before each column, concatenated."""
        start, columns = max(distances), x.shape[1]
        padded = F.pad(x, (0, 0, start, 0))
        return torch.cat([padded[:, start - d : start - d + columns] for d in distances], -1)

    def _embedding_steps(self) -> Tensor:
        """The embedding (entries, dim) as integers."""
        steps = self.embedding.detach() * ACTIVATION_STEPS
        return steps.round().clamp(-ENTROPY_MAX, ENTROPY_MAX)

    def forward(self, indices: Tensor) -> Tensor:
        """Indices (B, columns, rows) -> bits of each (B, columns, rows)."""
        places = self.place[indices]
        table = _rounded(self.embedding, self._embedding_steps() / ACTIVATION_STEPS)
        x = F.embedding(places, table).flatten(2)
        near = _rectified(self.near(self._earlier(x, ENTROPY_NEAR)))
        far = _rectified(self.far(self._earlier(near, ENTROPY_FAR)))
        weight = _quantized(self.column.weight * self.mask)
        sums = F.linear(torch.cat([far, x], -1), weight, self.column.bias)
        features = _rectified(sums).unflatten(-1, (self.rows, self.hidden))
        features = _rectified(self.mix(features))
        upper, lower = places // self.lower, places % self.lower
        fine = self.fine(features).unflatten(-1, (-1, self.lower))
        chosen = upper[..., None, None].expand(*places.shape, 1, self.lower)
        fine = fine.gather(-2, chosen)[..., 0, :]
        return _bits(self.coarse(features), upper) + _bits(fine, lower)

    def numbers(self) -> dict[str, Tensor]:
        """The integers of the coder, under their names in its file."""
        embedding = self._embedding_steps().to(torch.int8)
        numbers = {"order": self.order.to(torch.int32), "embedding": embedding}
        for name in self.LAYERS:
            mask = self.mask if name == "column" else None
            for key, tensor in getattr(self, name).numbers(mask).items():
                numbers[f"{name}.{key}"] = tensor
        return numbers

    @torch.no_grad()
    def take(self, numbers: dict[str, Tensor]) -> None:
        """The inverse of `numbers`; KeyError or RuntimeError if they do not fit."""
        self.order.copy_(numbers["order"])
        self.place.copy_(self.order.argsort())
        self.embedding.copy_(numbers["embedding"] / ACTIVATION_STEPS)
        for name in self.LAYERS:
            keys = ("weight", "bias", "shift")
            getattr(self, name).take({key: numbers[f"{name}.{key}"] for key in keys})


def _bits(logits: Tensor, symbols: Tensor) -> Tensor:
    """Bits of symbols (...) under logits (..., symbols) in bits."""
    loss = F.cross_entropy(logits.flatten(0, -2) * math.log(2), symbols.flatten(), reduction="none")
    return loss.view(symbols.shape) / math.log(2)
