"""What is computed in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch


def mixed_precision(device: torch.device) -> Callable[[], torch.autocast]:
    """Autocast to bfloat16, where the device multiplies it; elsewhere all stays float32."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    enabled = device.type != "cpu" or bool(capabilities.get("avx512_bf16"))
    return partial(torch.autocast, device.type, torch.bfloat16, enabled)
