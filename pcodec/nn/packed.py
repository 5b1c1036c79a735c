"""Layers for inference on a CPU: weights laid out once, as the processor's products read them.

One column at a time, a network does little more than read its weights; many at a time, it
does little more than multiply. Both take less of fewer bits.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
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


def whole_numbers(weight: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Weights (out_channels, channels) in steps, and the steps, one for each output."""
    scales = (weight.abs().amax(1) / largest).clamp(min=1e-12)
    return (weight / scales[:, None]).round(), scales


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
        numbers, self.scales = whole_numbers(weight, 127)
        self.weight = torch.ops.onednn.qlinear_prepack(numbers.to(torch.int8), None)
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


class Int16Linear(nn.Module):
    """A product of whole numbers of 16 bits: exact, so the same in any order of its sums.

    Where the processor multiplies bytes, a number is two of them, its digits to base 256;
    elsewhere float64 holds all the sums.
    """

    LARGEST = 127 * 256 + 127

    def __init__(self, weight: Tensor, bias: Tensor, most: float, by_bytes: bool) -> None:
        """weight (out_channels, channels), bias (out_channels,); most: the largest input."""
        super().__init__()
        numbers, scales = whole_numbers(weight, self.LARGEST)
        self.by_bytes = by_bytes
        self.weight = (self.digits(numbers) if by_bytes else numbers).t().contiguous()
        self.step = most / self.LARGEST
        self.scales, self.bias = scales * self.step, bias

    @staticmethod
    def digits(numbers: Tensor) -> Tensor:
        """(n, channels) -> (2 n, channels) of bytes: all the high ones, then the low ones."""
        high = (numbers + 128).div_(256).floor_()
        return torch.cat([high, torch.sub(numbers, high, alpha=256)]).to(torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs in steps, float64 (..., channels) -> (..., out_channels)."""
        numbers = x.round().clamp_(-self.LARGEST, self.LARGEST).flatten(0, -2)
        if self.by_bytes:
            sums = torch._int_mm(self.digits(numbers), self.weight).double()
            for dim in (0, 1):
                high, low = sums.chunk(2, dim)
                sums = torch.add(low, high, alpha=256)
        else:
            sums = numbers @ self.weight
        return torch.addcmul(self.bias, sums, self.scales).view(*x.shape[:-1], -1)


DEVIATIONS = 8.0
"""A hidden unit would have its weights' norm as standard deviation, were its inputs
independent; speech has up to this many of it."""


GELU_LOW = -0.18
"""just below its minimum"""


class Folded(NamedTuple):
    """The two products of a `ConvNeXtBlock`, with what only scales in them.

    What their inputs may be follows from the weights alone, so that nothing has to be
    measured. Of n normalised channels none exceeds the square root of n.
    """

    expand: tuple[Tensor, Tensor]
    """weight, bias: those of the normalisation are in them"""
    contract: tuple[Tensor, Tensor]
    """the block's scale is in them"""
    normal: float
    """the largest normalised channel"""
    hidden: float
    """the largest hidden unit"""

    @classmethod
    def of(cls, block: ConvNeXtBlock) -> Folded:
        norm, expand, contract, scale = block.norm, block.expand, block.contract, block.scale
        weight, bias = expand.weight * norm.weight, expand.bias + expand.weight @ norm.bias
        hidden = float((DEVIATIONS * weight.norm(dim=1) + bias).max())
        scaled = contract.weight * scale[:, None], contract.bias * scale
        return cls((weight, bias), scaled, len(norm.weight) ** 0.5, hidden)


class PackedBlock(nn.Module):
    """A `ConvNeXtBlock` whose dense layers multiply whole numbers."""

    def __init__(self, block: ConvNeXtBlock) -> None:
        super().__init__()
        self.kernel = block.kernel
        self.depthwise, self.bias = block.depthwise.detach().unbind(0), block.bias.detach()
        self.shape = block.norm.normalized_shape

    def dense(self, y: Tensor) -> Tensor:
        """What stands between the depthwise convolution and the sum."""
        raise NotImplementedError

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
        return self.dense(y).add_(x)


class Int8Block(PackedBlock):
    """Of 8 bits; float32 between the products."""

    def __init__(self, block: ConvNeXtBlock) -> None:
        super().__init__(block)
        folded = Folded.of(block)
        # In the place of the normalisation's own weights stands the step of the bytes, and
        # what makes cutting off a rounding.
        normal = Bytes(-folded.normal, folded.normal)
        self.steps = torch.full(self.shape, 1 / normal.step)
        self.middle = torch.full(self.shape, normal.zero + 0.5)
        hidden = Bytes(GELU_LOW, folded.hidden)
        self.expand = Int8Linear(*folded.expand, normal, hidden, ("gelu", [], "tanh"))
        self.contract = Int8Linear(*folded.contract, hidden)

    def dense(self, y: Tensor) -> Tensor:
        # Within the bytes' range: no normalised channel of n exceeds the square root of n - 1.
        y = torch.layer_norm(y, self.shape, self.steps, self.middle)
        return self.contract(self.expand(y.to(torch.uint8)))


class FbgemmLinear(nn.Module):
    """A product of bytes for processors that add each two products up in 16 bits, by FBGEMM.

    So that the sums never leave these, the weights have 7 bits. float32 in and out.
    """

    LARGEST = 64

    def __init__(self, weight: Tensor, bias: Tensor, given: Bytes) -> None:
        """weight (out_channels, channels), bias (out_channels,)."""
        super().__init__()
        numbers, scales = whole_numbers(weight, self.LARGEST)
        of_output = numbers.to(torch.int8), scales.double(), torch.zeros(len(weight)).long(), 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*are deprecated", UserWarning)
            tensor = torch._make_per_channel_quantized_tensor(*of_output)
        self.weight = torch.ops.quantized.linear_prepack(tensor, bias)
        self.given = given.step, given.zero
        self.product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> (..., out_channels)."""
        y: Tensor = self.product(x, *self.given, self.weight)
        return y


class FbgemmBlock(PackedBlock):
    """Of bytes, by FBGEMM."""

    SLOPE = (8 / math.pi) ** 0.5
    """of twice the tanh's argument in GELU, at 0"""

    def __init__(self, block: ConvNeXtBlock) -> None:
        super().__init__(block)
        folded = Folded.of(block)
        self.expand = FbgemmLinear(*folded.expand, Bytes(-folded.normal, folded.normal))
        self.contract = FbgemmLinear(*folded.contract, Bytes(GELU_LOW, folded.hidden))
        self.slope = torch.tensor(self.SLOPE)

    def dense(self, y: Tensor) -> Tensor:
        hidden = self.expand(torch.layer_norm(y, self.shape))
        # GELU with tanh(z) = 2 sigmoid(2z) - 1, of which torch takes a quarter of the time.
        gates = torch.addcmul(self.slope, hidden, hidden, value=0.044715 * self.SLOPE)
        changed: Tensor = self.contract(gates.mul_(hidden).sigmoid_().mul_(hidden))
        return changed


class Int16Block(PackedBlock):
    """Of 16 bits; float64 between the products."""

    def __init__(self, block: ConvNeXtBlock, by_bytes: bool) -> None:
        super().__init__(block)
        folded = Folded.of(block)
        self.expand = Int16Linear(*folded.expand, folded.normal, by_bytes)
        self.contract = Int16Linear(*folded.contract, folded.hidden, by_bytes)
        self.steps = torch.full(
            self.shape, 1 / self.expand.step, dtype=torch.float64, device=self.bias.device
        )

    def dense(self, y: Tensor) -> Tensor:
        hidden = self.expand(torch.layer_norm(y, self.shape, self.steps))
        return self.contract(F.gelu(hidden, approximate="tanh") / self.contract.step)


def multiplies_bytes() -> bool:
    """Whether this processor has instructions for it, and torch a library that uses them."""
    return processor_has("avx512_vnni") and torch.backends.mkldnn.is_available()


def multiplies_bytes_in_pairs() -> bool:
    """Whether this processor has AVX2, and torch what a `FbgemmBlock` needs."""
    # Deprecated in torch, without a successor for these processors.
    there = hasattr(torch, "_make_per_channel_quantized_tensor")
    fbgemm = torch.backends.quantized.engine in ("x86", "fbgemm")
    return processor_has("avx2") and fbgemm and there


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it, and torch a library that uses them."""
    return processor_has("avx512_bf16") and torch.backends.mkldnn.is_available()


@torch.no_grad()
def pack_encoder(networks: nn.Module, device: torch.device) -> None:
    """Packs the blocks of networks in float64 that only infer, from now on.

    So their products, most of what an encoder does, are exact: what it chooses depends
    neither on how a stream is cut nor on the machine.
    """
    by_bytes = device.type == "cpu" and multiplies_bytes()
    _replace(networks, ConvNeXtBlock, lambda block: Int16Block(block, by_bytes))


@torch.no_grad()
def pack_decoder(networks: nn.Module) -> None:
    """Packs all dense layers of networks that only infer, on a CPU, from now on.

    The blocks, which are most of it, multiply bytes where the processor does; the others
    bfloat16 where it does, as in training. All that is between stays float32.
    """
    dtype = torch.bfloat16 if multiplies_bfloat16() else torch.float32
    if multiplies_bytes():
        _replace(networks, ConvNeXtBlock, Int8Block)
    elif multiplies_bytes_in_pairs():
        _replace(networks, ConvNeXtBlock, FbgemmBlock)
    _replace(networks, nn.Linear, lambda layer: PackedLinear(layer, dtype))


def _replace(networks: nn.Module, kind: type, make: Callable[[Any], nn.Module]) -> None:
    """Puts what `make` makes of them in the place of all modules of a kind."""
    for module in list(networks.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, kind):
                setattr(module, name, make(layer))
