"""Blocks as they run and as they are stored: integers, with pure scalings folded into them.

A `ConvNeXtBlock` has two products. The first one's weight takes in the weight of the norm before
it, its bias the norm's; the second one takes in the layer scale. Both are stored as integers,
(channels, out_channels), with a step per output: what `graphs/blocks.py` multiplies. The blocks of
the pitch are not folded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcodec.runtime.weights import (
    BYTE_MAX,
    EXACT_MAX,
    GELU_LOW,
    HIDDEN,
    HIDDEN_DEVIATIONS,
    STEP,
    ZERO,
)

Tensors = dict[str, Tensor]

FLOAT = ".excitation."
"""In the names of blocks that stay float: those of the pitch."""


def fold(tensors: Tensors, exact: bool) -> Tensors:
    """The tensors of a part as they are stored: float16, and blocks as they run.

    The front end's stay float32, as the id of the bitstream covers their bits.

    exact: whether the weights of blocks have two digits, or one.
    """
    result = {k: v if k.startswith("mel.") else v.half() for k, v in tensors.items()}
    for block in _blocks(tensors):
        norm, offset, scale = _scalings(tensors, block)
        first, second = (f"{block}{name}." for name in ("expand", "contract"))
        weight = tensors[first + "weight"].double()
        bias = tensors[first + "bias"].double() + weight @ offset
        _store(result, first, weight * norm, bias, exact)
        # A unit's deviation is the norm of its weights, as for independent inputs.
        deviations = (weight * norm).norm(dim=1)
        hidden = float((HIDDEN_DEVIATIONS * deviations + bias).max())
        if exact:
            result[block + HIDDEN] = torch.tensor([hidden], dtype=torch.float64)
        else:
            step = (hidden - GELU_LOW) / 255
            result[block + HIDDEN + STEP] = torch.tensor(step, dtype=torch.float32)
            zero = torch.tensor(round(-GELU_LOW / step), dtype=torch.uint8)
            result[block + HIDDEN + ZERO] = zero
        weight = tensors[second + "weight"].double() * scale[:, None]
        _store(result, second, weight, tensors[second + "bias"].double() * scale, exact)
    return result


def unfold(tensors: Tensors) -> Tensors:
    """The other way round, in float32."""
    result = dict(tensors)
    for block in _blocks(tensors):
        norm, offset, scale = _scalings(tensors, block)
        weight, bias = _read(result, f"{block}expand.")
        weight = (weight / norm).nan_to_num(0, 0, 0)
        result[f"{block}expand.weight"] = weight.float()
        result[f"{block}expand.bias"] = (bias - weight @ offset).float()
        weight, bias = _read(result, f"{block}contract.")
        result[f"{block}contract.weight"] = (weight / scale[:, None]).nan_to_num(0, 0, 0).float()
        result[f"{block}contract.bias"] = (bias / scale).nan_to_num(0, 0, 0).float()
        for name in (HIDDEN, HIDDEN + STEP, HIDDEN + ZERO):
            result.pop(block + name, None)
    return result


def _blocks(tensors: Tensors) -> list[str]:
    end = "expand.weight"
    blocks = (name.removesuffix(end) for name in tensors if name.endswith("." + end))
    return [block for block in blocks if FLOAT not in block]


def _scalings(tensors: Tensors, block: str) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and bias of the norm, and layer scale, as they are stored."""
    names = "norm.weight", "norm.bias", "scale"
    norm, offset, scale = (tensors[block + name].half().double() for name in names)
    return norm, offset, scale


def _store(tensors: Tensors, layer: str, weight: Tensor, bias: Tensor, exact: bool) -> None:
    largest = EXACT_MAX if exact else BYTE_MAX
    step = weight.abs().amax(1).clamp_min(1e-12 * largest) / largest
    numbers = (weight / step[:, None]).round().T
    if exact:
        # The digits to base 128, side by side.
        high = ((numbers + 64) / 128).floor()
        numbers = torch.cat([high, numbers - 128 * high], 1)
    kind = torch.float64 if exact else torch.float32
    tensors[layer + "weight"] = numbers.to(torch.int8)
    tensors[layer + "weight" + STEP] = step.to(kind)
    tensors[layer + "bias"] = bias.to(kind)


def _read(tensors: Tensors, layer: str) -> tuple[Tensor, Tensor]:
    numbers, step = tensors[layer + "weight"], tensors.pop(layer + "weight" + STEP)
    if numbers.shape[1] == 2 * len(step):
        high, low = numbers.double().chunk(2, 1)
        numbers = 128 * high + low
    return numbers.double().T * step.double()[:, None], tensors[layer + "bias"].double()
