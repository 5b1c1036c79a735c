"""What is computed in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch


def mixed_precision(device: torch.device) -> Callable[[], torch.autocast]:
    """Autocast to bfloat16, where the device multiplies it; elsewhere all stays float32.

    What is not under autocast are filter banks and the search in the codebook: little work,
    and it should be exact, so it is not given to TF32 either.
    """
    return partial(torch.autocast, device.type, torch.bfloat16, multiplies_bfloat16(device))


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for it: emulated, it takes much longer."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # since Ampere
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type != "cpu" or bool(capabilities.get("avx512_bf16"))
