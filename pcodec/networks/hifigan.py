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
    SOURCE_BLOCKS,
    CodecConfig,
)
from pcodec.dsp import (
    BIN_FLOOR,
    LEVEL_PER_MEL,
    LOG_MEL_MEAN,
    LOG_MEL_STD,
    LOW_LEVEL_FLOOR,
    mel_interpolation,
)
from pcodec.networks.excitation import Excitation, FrameNetwork, seen
from pcodec.networks.layers import CausalConv
from pcodec.networks.spectral import Consistency, Spectrum
from pcodec.networks.stft import InverseSTFT, unit


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


class Amplitudes(FrameNetwork):
    """Predicts how the amplitudes of a `Source` differ from those interpolated from the mel."""

    def __init__(self, config: CodecConfig) -> None:
        bins = config.vocoder_n_fft // 2 + 1
        super().__init__(config, config.hifigan_width, SOURCE_BLOCKS, 2 * bins)
        # Initially they do not differ.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, normal: Tensor) -> Tensor:
        """`seen`, (B, frames, channels) -> (B, frames, 2 * bins).

        First the correction of the log-amplitudes, then how much of the excitation's log-level is
        added to it: 0 where harmonics are not to be resolved.
        """
        return self.outputs(normal)


class Source(nn.Module):
    """Log-mel (B, frames, bands) and low band (B, frames, 2 * bins) -> samples (B, n).

    Amplitudes predicted as a correction of the mel, phases of the low band, above it those of the
    excitation: harmonics and pulses are in their places, so that the generator need not invent
    them.
    """

    interpolation: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.low_bins = config.low_bins
        self.excitation = Excitation(config)
        self.amplitudes = Amplitudes(config)
        self.consistency = Consistency(config)
        self.inverse_stft = InverseSTFT(config.vocoder_n_fft, config.hop)
        interpolation = torch.from_numpy(mel_interpolation(config))
        self.register_buffer("interpolation", interpolation, persistent=False)

    def spectrum(self, mel: Tensor, low: Tensor, amplitudes: Tensor) -> Spectrum:
        """Log-mel, low band and output of `Amplitudes` -> the spectrum of each frame."""
        pitch = self.excitation.pitch(self.excitation.logits(seen(mel, low)))
        (cosine, sine), voice = self.excitation(pitch)
        power = (mel.float().exp() @ self.interpolation).square()
        real, imaginary = low.float().chunk(2, -1)
        here = slice(1, 1 + self.low_bins)
        # The low band is relative to a level; each frame gets that of its mel. Its amplitudes are
        # the geometric mean of both: the mel is less resolved, the low band less exact.
        shape = real.square() + imaginary.square()
        level = power[..., here].sum(-1, keepdim=True)
        shape = shape * (level / (shape.sum(-1, keepdim=True) + LOW_LEVEL_FLOOR))
        both = (power[..., here] * shape + BIN_FLOOR**4).sqrt()
        power = torch.cat([power[..., :1], both, power[..., 1 + self.low_bins :]], -1)
        sign = self.excitation.sign[here]
        low_cosine, low_sine = unit(real * sign, imaginary * sign)
        cosine, sine = (
            torch.cat([x[..., :1], own, x[..., 1 + self.low_bins :]], -1)
            for x, own in ((cosine, low_cosine), (sine, low_sine))
        )
        correction, gate = amplitudes.float().chunk(2, -1)
        log_amplitude = 0.5 * (power + BIN_FLOOR**2).log() + correction + gate * voice
        return Spectrum(log_amplitude, cosine, sine)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def synthesize(self, mel: Tensor, low: Tensor, amplitudes: Tensor) -> Tensor:
        """Log-mel, low band and output of `Amplitudes` -> samples (B, n).

        Not compiled, as its overlapping columns would be ten times slower.
        """
        spectrum = self.consistency(self.spectrum(mel, low, amplitudes))
        samples: Tensor = self.inverse_stft(spectrum.complex())
        return samples

    def forward(self, mel: Tensor, low: Tensor) -> Tensor:
        samples: Tensor = self.synthesize(mel, low, self.amplitudes(seen(mel, low)))
        return samples


class HifiGan(nn.Module):
    """Log-mel (B, frames, bands) and low band (B, frames, 2 * bins) -> samples (B, n), not clipped.

    The generator adds to a `Source` what it lacks. As in a neural source-filter model (Wang et al.
    2019), each stage sees the source, folded to its rate. Its sounds are relative to the level of
    the mel: else quiet speech, whose errors the losses see in decibels, would drown all gradients.
    """

    ramp: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width, samples = config.hifigan_width, config.hop
        self.source, self.bands = Source(config), config.mel_bands
        ramp = torch.arange(1, config.hop + 1) / config.hop
        self.register_buffer("ramp", ramp, persistent=False)
        channels = config.mel_bands + 2 * config.low_bins
        ahead = min(config.hifigan_look_ahead, FRAME_KERNEL - 1)
        self.embed = CausalConv(channels, width, FRAME_KERNEL, ahead)
        self.upsamples, self.folds = nn.ModuleList(), nn.ModuleList()
        self.residuals = nn.ModuleList()
        for stride, kernel in zip(config.hifigan_strides, config.hifigan_kernels, strict=True):
            self.upsamples.append(CausalUpsample(width, width // 2, kernel, stride))
            width, samples = width // 2, samples // stride
            self.folds.append(nn.Linear(samples, width))
            self.residuals.append(ResidualBlocks(width))
        self.final = CausalConv1d(width, 1, FRAME_KERNEL)
        # Initially nothing is added to the source.
        nn.init.zeros_(self.final.conv.weight)
        nn.init.zeros_(self.final.conv.bias)  # type: ignore[arg-type]

    def level(self, normal: Tensor) -> Tensor:
        """`seen`, (B, frames, channels) -> (B, n), about the RMS of the samples.

        From frame to frame it goes in a straight line; before the first is a mean frame.
        """
        mel = F.pad(normal[..., : self.bands].float(), (0, 0, 1, 0))
        log_mel = mel * LOG_MEL_STD + LOG_MEL_MEAN
        frames = LEVEL_PER_MEL * (2 * log_mel).exp().mean(-1).sqrt()
        before, now = frames[:, :-1, None], frames[:, 1:, None]
        return (before + (now - before) * self.ramp).flatten(1)

    def forward(self, mel: Tensor, low: Tensor, source: Tensor | None = None) -> Tensor:
        """source: `Source` of them, where it is there already."""
        if source is None:
            source = self.source(mel, low)
        normal = seen(mel, low)
        level = self.level(normal)
        x, relative = self.embed(normal), source / level
        for upsample, fold, residual in zip(
            self.upsamples, self.folds, self.residuals, strict=True
        ):
            x = upsample(F.leaky_relu(x, HIFIGAN_SLOPE))
            x = residual(x + fold(relative.unflatten(1, (-1, fold.in_features))))
        return source + level * self.final(F.leaky_relu(x, HIFIGAN_SLOPE)).float()[..., 0]
