"""Layers for inference on a CPU: weights laid out once, as the processor's products read them.

One column at a time, a network does little more than read its weights; many at a time, it
does little more than multiply. Both take less of fewer bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pcodec.nn.streaming import ConvNeXtBlock, Past, with_past


def processor_has(instructions: str) -> bool:
    """Whether this processor has some instructions, by torch's name for them."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get(instructions))


class PackedLinear(nn.Module):
    """`nn.Linear` by oneDNN, in float32 or bfloat16; float32 in and out."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        # What torch.compile itself makes of a frozen linear layer.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype))
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.product = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> (..., out_channels)."""
        y: Tensor = self.product(x.to(self.dtype), self.weight, self.bias, "none", [], "")
        return y.float()


class Bytes:
    """What values a byte without a sign stands for: (byte - zero) * step."""

    def __init__(self, low: float, high: float) -> None:
        self.step = (high - low) / 255
        self.zero = round(-low / self.step)


class Int8Linear(nn.Module):
    """A product of unsigned bytes with weights of 8 bits, a scale for each output, by oneDNN."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        given: Bytes,
        gives: Bytes | None = None,
        activation: tuple[str, list[Any], str] = ("none", [], ""),
    ) -> None:
        """weight (out_channels, channels), bias (out_channels,); gives: float32 if None."""
        super().__init__()
        self.scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).contiguous()
        rounded = (weight / self.scales[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.bias = bias.contiguous()
        out = (1.0, 0, torch.float32) if gives is None else (gives.step, gives.zero, torch.uint8)
        self.given, self.rest = (given.step, given.zero), (*out, *activation)
        # What torch.compile makes of a quantised linear layer.
        self.product = torch.ops.onednn.qlinear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """Bytes (..., channels) -> (..., out_channels)."""
        y: Tensor = self.product(
            x, *self.given, self.weight, self.scales, self.zeros, self.bias, *self.rest
        )
        return y


class Int8Block(nn.Module):
    """A `ConvNeXtBlock` whose dense layers multiply bytes.

    The bytes' ranges follow from the weights alone, so that nothing has to be measured. Of n
    normalised channels none exceeds the square root of n. A hidden unit would have its
    weights' norm as standard deviation, were those independent; speech has up to eight of it.
    """

    DEVIATIONS = 8.0
    GELU_LOW = -0.18
    """just below its minimum"""

    def __init__(self, block: ConvNeXtBlock) -> None:
        super().__init__()
        self.kernel = block.kernel
        self.depthwise, self.bias = block.depthwise.detach().unbind(0), block.bias.detach()
        # The normalisation's own weights go into the product; in their place stands the step
        # of the bytes, and what makes cutting off a rounding.
        expand, norm, scale = block.expand, block.norm, block.scale[:, None]
        most = len(norm.weight) ** 0.5
        normal = Bytes(-most, most)
        self.shape = norm.normalized_shape
        self.steps = torch.full_like(norm.weight, 1 / normal.step)
        self.middle = torch.full_like(norm.bias, normal.zero + 0.5)
        weight = expand.weight * norm.weight
        bias = expand.bias + expand.weight @ norm.bias
        high = float((self.DEVIATIONS * weight.norm(dim=1) + bias).max())
        hidden = Bytes(self.GELU_LOW, high)
        self.expand = Int8Linear(weight, bias, normal, hidden, ("gelu", [], "tanh"))
        contract = block.contract
        self.contract = Int8Linear(contract.weight * scale, contract.bias * block.scale, hidden)

    def forward(self, x: Tensor, past: Past | None = None, last: bool = True) -> Tensor:
        """(B, T, channels) -> (B, T, channels)."""
        frames = x.shape[1]
        if not frames:
            return x
        padded = with_past(self, x, self.kernel - 1, past, last)
        shifted = padded.unfold(1, frames, 1).transpose(2, 3).unbind(1)  # kernel x (B, T, channels)
        y = torch.addcmul(self.bias, shifted[0], self.depthwise[0])
        for part, weight in zip(shifted[1:], self.depthwise[1:], strict=True):
            y.addcmul_(part, weight)
        y = torch.layer_norm(y, self.shape, self.steps, self.middle).clamp_(0, 255)
        y = self.contract(self.expand(y.to(torch.uint8)))
        return y.add_(x)


@torch.no_grad()
def pack(networks: nn.Module) -> None:
    """Packs all dense layers of networks that only infer, on a CPU, from now on.

    The blocks, which are most of it, multiply bytes where the processor does; the others
    bfloat16 where it does, as in training. All that is between stays float32.
    """
    dtype = torch.bfloat16 if processor_has("avx512_bf16") else torch.float32
    if processor_has("avx512_vnni"):
        _replace(networks, ConvNeXtBlock, Int8Block)
    _replace(networks, nn.Linear, lambda layer: PackedLinear(layer, dtype))


def _replace(networks: nn.Module, kind: type, make: Callable[[Any], nn.Module]) -> None:
    """Puts what `make` makes of them in the place of all modules of a kind."""
    for module in list(networks.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, kind):
                setattr(module, name, make(layer))
