"""Blocks as they run and as they are stored: integers, with pure scalings folded into them.

A `ConvNeXtBlock` has two products. The first one's weight takes in the weight of the norm before
it, its bias the norm's; the second one takes in the layer scale. Both are stored as integers,
(channels, out_channels), with a step per output: what `graphs/blocks.py` multiplies. The blocks of
the pitch are not folded.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from pcodec.runtime.weights import HIDDEN, HIDDEN_ZERO, NORMAL, STEP

BYTE_MAX = 64
"""Largest weight of those that multiply bytes. Of 7 bits, as the sum of two products must fit
16 bits, in which processors without VNNI add them up. So all processors compute the same."""

EXACT_MAX = BYTE_MAX * 128 + 63
"""Largest weight of exact products: two digits to base 128, which are weights as above."""

HIDDEN_DEVIATIONS = 8.0
"""Range of a hidden unit in standard deviations. A deviation is the norm of its weights, as for
independent inputs. Speech reaches this many."""

GELU_LOW = -0.18
"""Just below the minimum of GELU, -0.17."""

FLOAT = re.compile(r"\.(excitation|source)\.")
"""In the names of blocks that stay float: those of the pitch, and of HiFi-GAN's source."""

Tensors = dict[str, Tensor]

Reach = dict[str, tuple[Tensor, Tensor]]
"""Of blocks, by the beginning of their names: the largest size of each normalised channel, and of
each hidden unit, that speech is expected to reach."""


def fold(tensors: Tensors, exact: bool, reach: Reach) -> Tensors:
    """The tensors of a part as they are stored: float16, and blocks as they run.

    The front end's stay float32, as the id of the bitstream covers their bits.

    exact: whether the weights of blocks have two digits, or one. reach: what bytes must hold;
    of a block that it lacks, what its weights allow.
    """
    result = {k: v if k.startswith("mel.") else v.half() for k, v in tensors.items()}
    for block in _blocks(tensors):
        norm, offset, scale = _scalings(tensors, block)
        first, second = (f"{block}{name}." for name in ("expand", "contract"))
        weight = tensors[first + "weight"].double()
        bias = tensors[first + "bias"].double() + weight @ offset
        weight = weight * norm
        # A unit's deviation is the norm of its weights, as for independent inputs.
        hidden = (HIDDEN_DEVIATIONS * weight.norm(dim=1) + bias).clamp_min(0.1)
        last = tensors[second + "weight"].double() * scale[:, None]
        if exact:
            result[block + HIDDEN] = hidden.max()[None]
        else:
            # None of n normalised channels exceeds the square root of n.
            most = torch.full_like(norm, len(norm) ** 0.5)
            if block in reach:
                normal, largest = (x.double().cpu() for x in reach[block])
                most, hidden = torch.minimum(normal, most), torch.minimum(largest, hidden)
            steps = (most / 127).float().double()
            hidden_steps = (hidden / (255 - HIDDEN_ZERO)).clamp_min(-GELU_LOW / HIDDEN_ZERO)
            hidden_steps = hidden_steps.float().double()
            result[block + NORMAL + STEP], result[block + HIDDEN + STEP] = (
                x.float() for x in (steps, hidden_steps)
            )
            weight, last = weight * steps, last * hidden_steps
        _store(result, first, weight, bias, exact)
        _store(result, second, last, tensors[second + "bias"].double() * scale, exact)
    return result


def unfold(tensors: Tensors) -> Tensors:
    """The other way round, in float32."""
    result = dict(tensors)
    for block in _blocks(tensors):
        norm, offset, scale = _scalings(tensors, block)
        steps = (tensors.get(f"{block}{name}{STEP}", torch.ones(1)) for name in (NORMAL, HIDDEN))
        normal_steps, hidden_steps = (x.double() for x in steps)
        weight, bias = _read(result, f"{block}expand.")
        weight = (weight / normal_steps / norm).nan_to_num(0, 0, 0)
        result[f"{block}expand.weight"] = weight.float()
        result[f"{block}expand.bias"] = (bias - weight @ offset).float()
        weight, bias = _read(result, f"{block}contract.")
        weight = weight / hidden_steps
        result[f"{block}contract.weight"] = (weight / scale[:, None]).nan_to_num(0, 0, 0).float()
        result[f"{block}contract.bias"] = (bias / scale).nan_to_num(0, 0, 0).float()
        for name in (HIDDEN, HIDDEN + STEP, NORMAL + STEP):
            result.pop(block + name, None)
    return result


def reach_of(tensors: Tensors) -> Reach:
    """What the bytes of the stored blocks hold."""
    return {
        block: (
            tensors[block + NORMAL + STEP] * 127,
            tensors[block + HIDDEN + STEP] * (255 - HIDDEN_ZERO),
        )
        for block in _blocks(tensors)
        if block + NORMAL + STEP in tensors
    }


def _blocks(tensors: Tensors) -> list[str]:
    end = "expand.weight"
    blocks = (name.removesuffix(end) for name in tensors if name.endswith("." + end))
    return [block for block in blocks if not FLOAT.search(block)]


def has_bytes(block: str) -> bool:
    """Whether a block, by the beginning of its names, runs with bytes."""
    return not FLOAT.search(block) and not block.startswith("encoder.")


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
