"""What the bytes of blocks must hold, measured on speech."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.networks.folding import Reach, has_bytes
from pcodec.networks.layers import ConvNeXtBlock

MARGIN = 1.5
"""Beyond the largest values that were seen; what lies further out is clipped."""


@contextlib.contextmanager
def measured(networks: nn.Module, reach: Reach) -> Iterator[None]:
    """Measures the blocks of networks that run while the context is open, into ``reach``."""
    largest: dict[str, list[Tensor]] = {}
    hooks = []
    for name, block in networks.named_modules():
        if isinstance(block, ConvNeXtBlock) and has_bytes(f"{name}."):
            sizes = largest[f"{name}."] = [
                torch.zeros_like(block.scale.detach()),
                torch.zeros_like(block.expand.bias.detach()),
            ]
            hooks += [
                block.norm.register_forward_pre_hook(_normal(sizes)),
                block.activation.register_forward_hook(_hidden(sizes)),
            ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for name, (normal, hidden) in largest.items():
        if hidden.any():  # it ran
            reach[name] = MARGIN * normal, MARGIN * hidden


def _normal(sizes: list[Tensor]) -> Any:
    def see(_: nn.Module, inputs: tuple[Tensor]) -> None:
        normal = F.layer_norm(inputs[0].detach().float(), sizes[0].shape)
        sizes[0] = torch.maximum(sizes[0], normal.abs().flatten(0, -2).amax(0))

    return see


def _hidden(sizes: list[Tensor]) -> Any:
    def see(_: nn.Module, __: tuple[Tensor], hidden: Tensor) -> None:
        sizes[1] = torch.maximum(sizes[1], hidden.detach().float().flatten(0, -2).amax(0))

    return see
