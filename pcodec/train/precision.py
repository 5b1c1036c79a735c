"""Mixed precision: training in bfloat16 where the device supports it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch


def mixed_precision(device: torch.device) -> Callable[[], torch.autocast]:
    """Autocast to bfloat16 on devices that have instructions for it; else all is float32.

    Filter banks and the search in the codebook stay in float32, not TF32: they cost little and
    should be exact.
    """
    return partial(torch.autocast, device.type, torch.bfloat16, has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; emulation would be slow."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # since Ampere
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type != "cpu" or bool(capabilities.get("avx512_bf16"))
