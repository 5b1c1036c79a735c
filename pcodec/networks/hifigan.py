"""The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020).

Transposed convolutions up to the sample rate, each followed by residual blocks of several kernel
sizes and dilations. Inputs and outputs are (B, time, channels).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import (
    FRAME_KERNEL,
    HIFIGAN_DILATIONS,
    HIFIGAN_RESIDUAL_KERNELS,
    HIFIGAN_SLOPE,
    CodecConfig,
)
from pcodec.dsp import (
    BIN_FLOOR,
    LOG_MEL_MEAN,
    LOG_MEL_STD,
    mel_inverse,
)
from pcodec.networks.layers import CausalConv


class CausalConv1d(nn.Module):
    """Causal dilated convolution; (B, T, channels) -> (B, T, out_channels)."""

    def __init__(self, channels: int, out_channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, out_channels, kernel, dilation=dilation)
        self.history = (kernel - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x.transpose(1, 2), (self.history, 0))).transpose(1, 2)


class CausalUpsample(nn.Module):
    """Causal transposed convolution: frame t affects samples from ``t * stride`` on."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.ConvTranspose1d(channels, out_channels, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, channels) -> (B, T * stride, out_channels)."""
        y: Tensor = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return y[:, : x.shape[1] * self.stride]


class ResidualBlocks(nn.Module):
    """Multi-receptive-field fusion: the mean of residual stacks of several kernel sizes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(
            nn.ModuleList(CausalConv1d(channels, channels, kernel, d) for d in HIFIGAN_DILATIONS)
            for kernel in HIFIGAN_RESIDUAL_KERNELS
        )

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for stack in self.stacks:
            y = x
            for conv in stack:  # type: ignore[attr-defined]
                y = y + conv(F.leaky_relu(y, HIFIGAN_SLOPE))
            total = total + y
        return total / len(self.stacks)


class HifiGan(nn.Module):
    """Log-mel (B, frames, bands) and low band (B, frames, 2 * bins) -> samples (B, n).

    Samples are within [-1, 1]. A second input is the log amplitude by the pseudo-inverse of the mel
    filters, so that the network need not learn the filters.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.look_ahead = config.vocoder_look_ahead
        inverse = torch.from_numpy(mel_inverse(config))
        self.register_buffer("inverse", inverse, persistent=False)
        bins = config.vocoder_n_fft // 2 + 1
        width = config.hifigan_width
        inputs = config.mel_bands + bins + 2 * config.low_bins
        self.embed = CausalConv(inputs, width, FRAME_KERNEL, self.look_ahead)
        self.upsamples, self.residuals = nn.ModuleList(), nn.ModuleList()
        for stride, kernel in zip(config.hifigan_strides, config.hifigan_kernels, strict=True):
            self.upsamples.append(CausalUpsample(width, width // 2, kernel, stride))
            width //= 2
            self.residuals.append(ResidualBlocks(width))
        self.final = CausalConv1d(width, 1, FRAME_KERNEL)

    def forward(self, mel: Tensor, low: Tensor) -> Tensor:
        inverse: Tensor = self.inverse  # type: ignore[assignment]
        # The padding before the first and after the last mel has an amplitude, too.
        ahead = self.look_ahead
        around = (0, 0, self.embed.kernel - 1 - ahead, ahead)
        mel, low = F.pad(mel, around, value=LOG_MEL_MEAN), F.pad(low, around)
        amplitude = (mel.float().exp() @ inverse).clamp(min=BIN_FLOOR).log()
        levels = (torch.cat([mel, amplitude], -1) - LOG_MEL_MEAN) / LOG_MEL_STD
        x = self.embed(torch.cat([levels, low], -1), padded=True)
        for upsample, residual in zip(self.upsamples, self.residuals, strict=True):
            x = residual(upsample(F.leaky_relu(x, HIFIGAN_SLOPE)))
        return torch.tanh(self.final(F.leaky_relu(x, HIFIGAN_SLOPE)).float())[..., 0]
