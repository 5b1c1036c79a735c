"""Streaming as a state of the same module.

A module with memory is called as ``module(x, past, last)``. ``past`` is the stream's
memory: a dict that each layer reads and writes under its own key. An empty dict is the
start of a stream; ``last`` says that nothing follows ``x``. Offline use is the special
case of one chunk, ``module(x)``: so there is no second implementation to keep equal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Past = dict[nn.Module | str, Tensor]
"""The memory of a batch of streams in step, each (B, ...); of one stream, B = 1."""


def with_past(
    module: nn.Module,
    x: Tensor,
    history: int,
    past: Past | None = None,
    last: bool = True,
    look_ahead: int = 0,
) -> Tensor:
    """Joins ``x`` (B, T, C) to the frames that came before it.

    A layer whose output frame sees ``history + 1`` input frames, ``look_ahead`` of them
    in its future, gets all that it needs: the result has ``history`` frames more than
    the layer can now put out. Before the first frame and after the last stand zeros.
    """
    before = None if past is None else past.get(module)
    if before is None:
        x = F.pad(x, (0, 0, history - look_ahead, look_ahead if last else 0))
    else:
        x = torch.cat([before, x], 1)
        if last and look_ahead:
            x = F.pad(x, (0, 0, 0, look_ahead))
    if past is not None and not last:
        past[module] = x[:, max(0, x.shape[1] - history) :]
    return x


class CausalConv(nn.Module):
    """Dense convolution over time as one matrix product.

    Output frame t sees input frames ``t + look_ahead - kernel + 1 ... t + look_ahead``.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, look_ahead: int = 0) -> None:
        super().__init__()
        self.kernel, self.look_ahead = kernel, look_ahead
        self.linear = nn.Linear(kernel * channels, out_channels)

    def forward(self, x: Tensor, past: Past | None = None, last: bool = True) -> Tensor:
        """(B, T, channels) -> (B, T', out_channels); T' = T offline."""
        x = with_past(self, x, self.kernel - 1, past, last, self.look_ahead)
        frames = max(0, x.shape[1] - self.kernel + 1)
        windows = [x[:, i : i + frames] for i in range(self.kernel)]
        y: Tensor = self.linear(torch.cat(windows, -1))
        return y


class ConvNeXtBlock(nn.Module):
    """Causal ConvNeXt block (Liu et al. 2022; in 1-D as in Vocos, Siuzdak 2023).

    The depthwise convolution is a sum of shifted products: on a CPU that needs no
    transposition of the features, and `torch.compile` fuses it with the normalisation.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.depthwise = nn.Parameter(torch.empty(kernel, channels).uniform_(-1, 1) / kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.activation: nn.Module = nn.GELU(approximate="tanh")
        self.contract = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor, past: Past | None = None, last: bool = True) -> Tensor:
        """(B, T, channels) -> (B, T, channels)."""
        frames = x.shape[1]
        if not frames:
            return x
        padded = with_past(self, x, self.kernel - 1, past, last)
        shifted = padded.unfold(1, frames, 1).transpose(2, 3)  # (B, kernel, T, channels)
        y = (shifted * self.depthwise[:, None]).sum(1) + self.bias
        y = self.contract(self.activation(self.expand(self.norm(y))))
        return torch.addcmul(x, y, self.scale)
