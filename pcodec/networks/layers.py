"""Layers of the networks; features are (B, time, channels)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv(nn.Module):
    """Dense convolution over time as one matrix product.

    Output frame t sees input frames ``t + look_ahead - kernel + 1 ... t + look_ahead``. Zeros are
    added at both ends, unless ``padded`` says that x has them.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, look_ahead: int = 0) -> None:
        super().__init__()
        self.kernel, self.look_ahead = kernel, look_ahead
        self.linear = nn.Linear(kernel * channels, out_channels)

    def forward(self, x: Tensor, padded: bool = False) -> Tensor:
        """(B, T, channels) -> (B, T, out_channels)."""
        if not padded:
            x = F.pad(x, (0, 0, self.kernel - 1 - self.look_ahead, self.look_ahead))
        frames = x.shape[1] - self.kernel + 1
        windows = [x[:, i : i + frames] for i in range(self.kernel)]
        y: Tensor = self.linear(torch.cat(windows, -1))
        return y


class ConvNeXtBlock(nn.Module):
    """Causal ConvNeXt block (Liu et al. 2022; in 1-D as in Vocos, Siuzdak 2023).

    The depthwise convolution is a sum of shifted products. On a CPU that needs no transposed
    features, and `torch.compile` fuses it with the normalisation.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.depthwise = nn.Parameter(torch.empty(kernel, channels).uniform_(-1, 1) / kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.activation = nn.GELU(approximate="tanh")
        self.contract = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, channels) -> (B, T, channels)."""
        padded = F.pad(x, (0, 0, self.kernel - 1, 0))
        shifted = padded.unfold(1, x.shape[1], 1).transpose(2, 3)  # (B, kernel, T, channels)
        y = (shifted * self.depthwise[:, None]).sum(1) + self.bias
        y = self.contract(self.activation(self.expand(self.norm(y))))
        return torch.addcmul(x, y, self.scale)
