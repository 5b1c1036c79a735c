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
    LOW_LEVEL_FLOOR,
    low_band_synthesis,
    mel_inverse,
    mel_low_bins,
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
    """Log-mel (B, frames, bands) and low band (B, frames, 2 * bins) -> samples (B, n), not clipped.

    The low band is synthesised by an inverse STFT, whose matrix is the initial value of a layer;
    the generator adds what is missing. As a neural source-filter model its excitation (Wang et al.
    2019), each stage sees that waveform, folded to its rate. Beside the mel, the first layer sees
    the log amplitude by the pseudo-inverse of the mel filters, so that it need not learn them.
    """

    inverse: Tensor
    low_bins: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        for name, array in (("inverse", mel_inverse), ("low_bins", mel_low_bins)):
            self.register_buffer(name, torch.from_numpy(array(config)), persistent=False)
        ahead = config.overlapping
        width, samples = config.hifigan_width, config.hop
        low_channels = 2 * config.low_bins
        self.wave = CausalConv(low_channels, config.hop, 2 * ahead + 1, ahead)
        self.wave.linear.weight = nn.Parameter(torch.from_numpy(low_band_synthesis(config)))
        nn.init.zeros_(self.wave.linear.bias)
        inputs = config.mel_bands + self.inverse.shape[1] + low_channels
        self.embed = CausalConv(inputs, width, FRAME_KERNEL, ahead)
        self.upsamples, self.sources = nn.ModuleList(), nn.ModuleList()
        self.residuals = nn.ModuleList()
        for stride, kernel in zip(config.hifigan_strides, config.hifigan_kernels, strict=True):
            self.upsamples.append(CausalUpsample(width, width // 2, kernel, stride))
            width, samples = width // 2, samples // stride
            self.sources.append(nn.Linear(samples, width))
            self.residuals.append(ResidualBlocks(width))
        self.final = CausalConv1d(width, 1, FRAME_KERNEL)

    def forward(self, mel: Tensor, low: Tensor) -> Tensor:
        # The padding before the first and after the last mel has an amplitude, too.
        ahead = self.embed.look_ahead
        around = (0, 0, self.embed.kernel - 1 - ahead, ahead)
        mel, low = F.pad(mel, around, value=LOG_MEL_MEAN), F.pad(low, around)
        magnitude = mel.float().exp()
        amplitude = (magnitude @ self.inverse).clamp(min=BIN_FLOOR).log()
        # The low band is relative to a level; here each frame gets that of its mel.
        power = (magnitude @ self.low_bins).square().sum(-1, keepdim=True)
        own = low.float().square().sum(-1, keepdim=True) + LOW_LEVEL_FLOOR
        spectrum = (low * (power / own).sqrt())[:, self.embed.kernel - self.wave.kernel :]
        wave = self.wave(spectrum, padded=True).float().flatten(1)
        levels = (torch.cat([mel, amplitude], -1) - LOG_MEL_MEAN) / LOG_MEL_STD
        x = self.embed(torch.cat([levels, low], -1), padded=True)
        stages = zip(self.upsamples, self.sources, self.residuals, strict=True)
        for upsample, source, residual in stages:
            x = upsample(F.leaky_relu(x, HIFIGAN_SLOPE))
            x = residual(x + source(wave.unflatten(1, (-1, source.in_features))))
        added = self.final(F.leaky_relu(x, HIFIGAN_SLOPE)).float()[..., 0]
        return wave + added
