"""Dense layers for inference: their weights laid out once, as the processor's products read them.

One column at a time, a network does little more than read its weights. `nn.Linear` lays
them out anew at each call where it multiplies bfloat16; here that happens at loading, and
an activation is applied while the product is still in the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pcodec.nn.streaming import ConvNeXtBlock


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16 matrices."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16"))


class PackedLinear(nn.Module):
    """`nn.Linear` by oneDNN, in float32 or bfloat16, with GELU (its tanh form) or without.

    hidden: gives what it computes in; else float32.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, hidden: bool = False) -> None:
        super().__init__()
        self.dtype, self.hidden = dtype, hidden
        # What torch.compile itself makes of a frozen linear layer.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype))
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.activation: tuple[str, list[Any], str] = (
            ("gelu", [], "tanh") if hidden else ("none", [], "")
        )
        self.product = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> (..., out_channels)."""
        y: Tensor = self.product(x.to(self.dtype), self.weight, self.bias, *self.activation)
        return y if self.hidden else y.float()


def pack(networks: nn.Module) -> None:
    """Packs all dense layers of networks that only infer, on a CPU, from now on.

    They multiply in bfloat16 where the processor does, as in training; all that is between
    stays float32.
    """
    dtype = torch.bfloat16 if multiplies_bfloat16() else torch.float32
    for module in list(networks.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear):
                hidden = isinstance(module, ConvNeXtBlock) and name == "expand"
                setattr(module, name, PackedLinear(layer, dtype, hidden))
        if isinstance(module, ConvNeXtBlock):
            module.activation = nn.Identity()
