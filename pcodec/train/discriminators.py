"""Discriminators of the adversarial stages, and their losses."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pcodec.networks.stft import squared_length


class DiscriminatorOutput(NamedTuple):
    """Scores and features of one discriminator."""

    scores: Tensor
    """One score per patch, (B, 1, ...); higher for real than for generated audio."""
    features: list[Tensor]
    """Activations of the hidden layers."""


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017) on images (B, channels, height, width)."""

    def __init__(
        self, channels: int, widths: tuple[int, ...], strides: tuple[tuple[int, int], ...]
    ) -> None:
        super().__init__()
        sizes = (channels, *widths)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 3), stride, (2, 1)))
            for (a, b), stride in zip(pairwise(sizes), strides, strict=True)
        )
        self.final = weight_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return DiscriminatorOutput(self.final(x).float(), features)


class MelDiscriminator(nn.Module):
    """PatchGAN on a log-mel (B, frames, bands), for the patch VQ-VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = PatchDiscriminator(1, (32, 64, 64), ((2, 1), (2, 2), (2, 2)))

    def forward(self, mel: Tensor) -> list[DiscriminatorOutput]:
        return [self.patches((mel.transpose(1, 2)[:, None] + 4) / 3)]


class SpectrogramDiscriminator(nn.Module):
    """Multi-resolution discriminator on complex spectrograms (Jang et al. 2021; DAC).

    The input is an image whose pixels hold eight neighbouring bins as channels, so that a few wide
    convolutions suffice. A learned embedding tells each pixel its frequency. Height is time: then
    a spectrogram is an image in channels-last order without a copy.
    """

    SIZES = (1024, 512, 256)
    GROUP = 8
    """Bins per pixel."""

    def __init__(self, width: int = 48, above: float = 0.0) -> None:
        """above: lowest frequency that it sees, relative to half the sample rate."""
        super().__init__()
        self.above = above
        self.embeds, self.places = nn.ModuleList(), nn.ParameterList()
        self.layers, self.finals = nn.ModuleList(), nn.ModuleList()
        for n_fft in self.SIZES:
            self.register_buffer(f"window{n_fft}", torch.hann_window(n_fft), persistent=False)
            self.embeds.append(weight_norm(nn.Conv2d(2 * self.GROUP, width, 3, 1, 1)))
            self.places.append(
                torch.zeros(1, width, 1, n_fft // 2 // self.GROUP - self.lowest(n_fft))
            )
            self.layers.append(
                nn.ModuleList(
                    weight_norm(nn.Conv2d(width, width, 3, stride, 1))
                    for stride in ((2, 1), (2, 2), (1, 1))
                )
            )
            self.finals.append(weight_norm(nn.Conv2d(width, 1, 3, padding=1)))

    def lowest(self, n_fft: int) -> int:
        """The first group of bins that it sees."""
        return round(self.above * n_fft / 2 / self.GROUP)

    def image(self, samples: Tensor, n_fft: int) -> Tensor:
        """Samples (B, n) -> (B, 2 * GROUP, frames, groups of bins), channels last."""
        pieces = samples.unfold(-1, n_fft, n_fft // 4) * getattr(self, f"window{n_fft}")
        spectrum = torch.view_as_real(torch.fft.rfft(pieces))
        spectrum = spectrum[:, :, self.lowest(n_fft) * self.GROUP : -1]
        # Magnitudes are compressed to their power 0.3, so that quiet parts count too.
        power = squared_length(spectrum)[..., None] + 1e-6
        pixels = (spectrum * (-0.35 * power.log()).exp()).unflatten(2, (-1, self.GROUP))
        return pixels.flatten(3).permute(0, 3, 1, 2)

    def forward(self, samples: Tensor) -> list[DiscriminatorOutput]:
        """Samples (B, n)."""
        outputs = []
        for i, n_fft in enumerate(self.SIZES):
            x = self.embeds[i](self.image(samples, n_fft))
            x = x + self.places[i].to(x.dtype)
            features = [x := F.leaky_relu(x, 0.1)]
            for layer in self.layers[i]:  # type: ignore[attr-defined]
                x = F.leaky_relu(layer(x), 0.1)
                features.append(x)
            outputs.append(DiscriminatorOutput(self.finals[i](x).float(), features))
        return outputs


class PeriodDiscriminator(nn.Module):
    """Multi-period discriminator (Kong et al. 2020) with few channels, on samples (B, n)."""

    PERIODS = (2, 3, 5, 7, 11)
    WIDTHS = (1, 8, 32, 64, 128)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)))
                for a, b in pairwise(self.WIDTHS)
            )
            for _ in self.PERIODS
        )
        self.finals = nn.ModuleList(
            weight_norm(nn.Conv2d(self.WIDTHS[-1], 1, (3, 1), padding=(1, 0))) for _ in self.PERIODS
        )

    def forward(self, samples: Tensor) -> list[DiscriminatorOutput]:
        """Samples (B, n)."""
        outputs = []
        for period, layers, final in zip(self.PERIODS, self.layers, self.finals, strict=True):
            whole = samples.shape[1] // period * period
            x = samples[:, :whole].reshape(len(samples), 1, -1, period)
            features = []
            for layer in layers:  # type: ignore[attr-defined]
                x = F.leaky_relu(layer(x), 0.1)
                features.append(x)
            outputs.append(DiscriminatorOutput(final(x).float(), features))
        return outputs


class WaveformDiscriminator(nn.Module):
    """Spectrogram and period discriminators together."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram, self.period = SpectrogramDiscriminator(), PeriodDiscriminator()

    def forward(self, samples: Tensor) -> list[DiscriminatorOutput]:
        outputs: list[DiscriminatorOutput] = self.spectrogram(samples) + self.period(samples)
        return outputs


def discriminator_loss(real: list[DiscriminatorOutput], fake: list[DiscriminatorOutput]) -> Tensor:
    """The discriminator's hinge loss, mean over discriminators."""
    losses = [
        F.relu(1 - r.scores).mean() + F.relu(1 + f.scores).mean()
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_loss(fake: list[DiscriminatorOutput]) -> Tensor:
    """The generator's term of the hinge loss, mean over discriminators."""
    return torch.stack([-f.scores.mean() for f in fake]).mean()


def feature_loss(real: list[DiscriminatorOutput], fake: list[DiscriminatorOutput]) -> Tensor:
    """Feature matching (Larsen et al. 2016), relative to the mean magnitude of the features."""
    losses = [
        (b - a).abs().mean().float() / (a.abs().mean().float() + 1e-4)
        for r, f in zip(real, fake, strict=True)
        for a, b in zip([x.detach() for x in r.features], f.features, strict=True)
    ]
    return torch.stack(losses).mean()
