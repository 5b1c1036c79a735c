"""Losses of the regression stages."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.dsp import mel_filters, mel_inverse
from pcodec.networks.spectral import Spectrum
from pcodec.networks.stft import squared_length


def loudness_weights(log_mel: Tensor) -> Tensor:
    """Weights of a log-mel (B, frames, bands) by loudness; their mean is 1 per item.

    Loudness grows with about the 0.4th power of amplitude (Zwicker). A floor of 0.3 keeps quiet
    parts in the loss.
    """
    level = log_mel - log_mel.logsumexp((1, 2), keepdim=True)
    loudness = (0.4 * level).exp()
    return 0.3 + 0.7 * loudness / loudness.mean((1, 2), keepdim=True)


def mel_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Loudness-weighted mean |difference| of log-mels (B, frames, bands)."""
    return ((predicted - target).abs() * loudness_weights(target)).mean()


def low_loss(predicted: Tensor, target: Tensor, level: Tensor) -> Tensor:
    """Mean squared error of a low band (B, frames, 2 * bins), each column relative to its level.

    level: (B, columns); louder columns of an item have more weight.
    """
    loudness = level**0.4
    weights = 0.3 + 0.7 * loudness / loudness.mean(1, keepdim=True)
    columns = (predicted - target).square().unflatten(1, (level.shape[1], -1)).mean((2, 3))
    return 2 * (columns * weights).mean()


class MultiResolutionMelLoss(nn.Module):
    """`mel_loss` of waveforms at window lengths from ``shortest`` samples to 128 ms."""

    RESOLUTIONS = ((2048, 160), (1024, 128), (512, 80), (256, 48), (128, 24))

    def __init__(self, sample_rate: int, shortest: int = 128) -> None:
        super().__init__()
        self.resolutions = [(n_fft, b) for n_fft, b in self.RESOLUTIONS if n_fft >= shortest]
        for n_fft, bands in self.resolutions:
            self.register_buffer(f"window{n_fft}", torch.hann_window(n_fft), persistent=False)
            filters = torch.from_numpy(mel_filters(bands, n_fft, sample_rate)).T.contiguous()
            self.register_buffer(f"filters{n_fft}", filters, persistent=False)

    def log_mel(self, x: Tensor, n_fft: int) -> Tensor:
        window, filters = getattr(self, f"window{n_fft}"), getattr(self, f"filters{n_fft}")
        pieces = F.pad(x, (n_fft // 2, n_fft // 2)).unfold(-1, n_fft, n_fft // 4) * window
        spectrum = torch.view_as_real(torch.fft.rfft(pieces))
        magnitude = (squared_length(spectrum) + 1e-10).sqrt()
        return (magnitude @ filters).clamp(min=1e-5).log()

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Two signals (B, n) -> scalar."""
        losses = []
        for n_fft, _ in self.resolutions:
            with torch.no_grad():
                wanted = self.log_mel(target, n_fft)
            losses.append(mel_loss(self.log_mel(predicted, n_fft), wanted))
        return torch.stack(losses).mean()


def phase_loss(predicted: Spectrum, target: Tensor) -> Tensor:
    """Distance of phases, and of their differences along frequency and time.

    As in APNet (Ai & Ling 2023), but a difference counts as its chord on the unit circle, which
    needs no arc tangent, and is weighted by loudness, since the phase of silence is noise.

    target: complex spectrum (B, frames, bins) with the frames of the prediction.
    """
    target = torch.view_as_real(target)
    amplitude = (squared_length(target) + 1e-10).sqrt()
    weights = loudness_weights(amplitude.clamp(min=1e-5).log())
    cosine, sine = (target / amplitude[..., None]).unbind(-1)
    # The difference as a phasor: the prediction times the conjugate of the target.
    real = predicted.cosine * cosine + predicted.sine * sine
    imaginary = predicted.sine * cosine - predicted.cosine * sine

    def chord(cosine: Tensor) -> Tensor:
        return (2 - 2 * cosine).clamp(min=1e-4).sqrt()

    along_bins = real[..., 1:] * real[..., :-1] + imaginary[..., 1:] * imaginary[..., :-1]
    along_frames = real[:, 1:] * real[:, :-1] + imaginary[:, 1:] * imaginary[:, :-1]
    return (
        (chord(real) * weights).mean()
        + (chord(along_bins) * weights[..., 1:]).mean()
        + (chord(along_frames) * weights[:, 1:]).mean()
    )


class DisturbanceLoss(nn.Module):
    """Differences of loudness per critical band, modelled on PESQ (ITU-T P.862).

    Zwicker loudness in 49 bands, windows of 32 ms with half overlap. Differences below a quarter
    of the smaller loudness are masked. Added sound has more weight than missing sound. PESQ's
    alignment of time, level and frequency response is left out, since training crops are aligned.
    """

    RATE, WINDOW = 16000, 512
    """Hz; samples. P.862.2 is defined for no other rate."""
    # Number of 31.25 Hz bins in each critical band, from 0 Hz.
    BINS: ClassVar = [1] * 8 + [2] + [1] * 5 + [2, 1, 1] + [2] * 8 + [3] * 4
    BINS += [4, 3, 4, 5, 4, 5, 6, 6, 7, 8, 9, 9, 12, 12, 15, 16, 18, 21, 25, 20]
    QUIET = 3e-5
    """Mean power below which a signal is not scaled up to the level of speech."""

    window: Tensor
    bands: Tensor
    weighting: Tensor
    threshold: Tensor
    width: Tensor
    exponent: Tensor

    def __init__(self) -> None:
        super().__init__()
        edges = torch.tensor([0, *self.BINS], dtype=torch.float64).cumsum(0)
        hz = (edges - 0.5).clamp(min=0) * (self.RATE / self.WINDOW)
        # Bark of Zwicker and Terhardt (1980), in kHz.
        bark = 13 * (0.76e-3 * hz).atan() + 3.5 * (hz / 7500).square().atan()
        width, centre = bark.diff(), (bark[1:] + bark[:-1]) / 2
        bins = torch.arange(self.WINDOW // 2 + 1, dtype=torch.float64)[:, None]
        inside = (bins >= edges[:-1]) & (bins < edges[1:])
        # The wide-band input filter of P.862.2, a high pass, as its power response.
        z = torch.exp(-2j * math.pi * bins / self.WINDOW)
        numerator = 2.6657628 - 5.3315255 * z + 2.6657628 * z.square()
        response = (numerator / (1 - 1.8890331 * z + 0.89487434 * z.square())).abs().square()
        # Band powers in units of the threshold's, per bark.
        bands = inside * response * (6.910853e-4 * width[0] / width)
        khz = (hz[1:] + hz[:-1]).clamp(min=40) / 2000
        # Hearing threshold of Terhardt (1979), dB.
        threshold = 3.64 * khz**-0.8 - 6.5 * (-0.6 * (khz - 3.3).square()).exp() + 1e-3 * khz**4
        exponent = 0.23 * torch.where(centre < 4, (6 / (centre + 2)).clamp(max=2) ** 0.15, 1.0)
        speech = ((hz.new_tensor(350) / 31.25 < bins) & (bins < 3250 / 31.25))[:, 0]
        self.register_buffer("window", torch.hann_window(self.WINDOW), persistent=False)
        for name, tensor in (
            ("bands", bands),
            ("weighting", speech),
            ("threshold", 10 ** (threshold / 10)),
            ("width", width),
            ("exponent", exponent),
        ):
            self.register_buffer(name, tensor.float(), persistent=False)

    def power(self, x: Tensor) -> Tensor:
        """Samples (B, n) -> power spectrum (B, frames, bins)."""
        pieces = x.unfold(-1, self.WINDOW, self.WINDOW // 2) * self.window
        return squared_length(torch.view_as_real(torch.fft.rfft(pieces)))

    def loudness(self, power: Tensor) -> Tensor:
        """Band powers (B, frames, bands) -> loudness, sone per bark."""
        scale = 0.1866055 * (2 * self.threshold) ** self.exponent
        loudness = (0.5 + 0.5 * power / self.threshold) ** self.exponent - 1
        return (scale * loudness).clamp(min=0)

    def gain(self, power: Tensor) -> Tensor:
        """Factor that scales a power spectrum to the level of speech, (B, 1, 1)."""
        # The mean power of speech between 350 and 3250 Hz is 1e7.
        level = 2 * (power @ self.weighting).mean(1) / self.window.square().sum() / self.WINDOW
        return (1e7 / level.clamp(min=self.QUIET))[:, None, None]

    @staticmethod
    def asymmetry(got: Tensor, wanted: Tensor) -> Tensor:
        """Weights of differences where sound is added, (B, frames, bands); 0 where little is."""
        ratio = ((got + 50) / (wanted + 50)) ** 1.2
        return torch.where(ratio < 3, 0.0, ratio.clamp(max=12))

    @staticmethod
    def combine(symmetric: Tensor, asymmetric: Tensor) -> Tensor:
        """What both disturbances take from a PESQ score."""
        return 0.1 * symmetric + 0.0309 * asymmetric

    def disturbances(self, got: Tensor, wanted: Tensor, asymmetry: Tensor) -> tuple[Tensor, Tensor]:
        """Band powers (B, frames, bands) -> symmetric and asymmetric disturbance, (B, frames)."""
        loudness, wanted_loudness = self.loudness(got), self.loudness(wanted)
        masked = 0.25 * torch.minimum(loudness.detach(), wanted_loudness)
        difference = ((loudness - wanted_loudness).abs() - masked).clamp(min=0) * self.width
        total = self.width.sum()
        symmetric = ((difference.square().sum(-1) / total) + 1e-6).sqrt() * total
        return symmetric, (difference * asymmetry).sum(-1)

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Two signals (B, n) -> scalar."""
        with torch.no_grad():
            wanted = self.power(target)
            gain = self.gain(wanted)
            wanted = (wanted * gain) @ self.bands
        got = (self.power(predicted) * gain) @ self.bands
        disturbances = self.disturbances(got, wanted, self.asymmetry(got.detach(), wanted))
        # P.862 averages with sixth powers per syllable, whose gradient comes from few frames.
        return self.combine(*((d.square().mean(-1) + 1e-9).sqrt().mean() for d in disturbances))


class MelDisturbanceLoss(DisturbanceLoss):
    """`DisturbanceLoss` of log-mels, closer to P.862; for the prediction of lost columns.

    Levels are equalised frame by frame first, because a level is hard to predict and matters
    little. The disturbance of a frame is limited. The worst frames within 320 ms dominate.
    """

    LIMIT, SYLLABLE = 45.0, 20
    """Limit of a frame's disturbance; frames per syllable, at one frame per 16 ms."""
    inverse: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        if (config.vocoder_n_fft, config.window) != (self.WINDOW, self.WINDOW):
            raise ValueError(f"the mel must have windows of {self.WINDOW} samples")
        self.every = self.WINDOW // 2 // config.hop
        # Mel filters of unit area give magnitudes per Hz; the FFT of the front end is longer.
        scale = config.sample_rate / config.n_fft
        inverse = scale * torch.from_numpy(mel_inverse(config))
        self.register_buffer("inverse", inverse, persistent=False)

    def power(self, x: Tensor) -> Tensor:
        """Log-mel (B, frames, bands) -> power spectrum (B, frames, bins) of every other frame."""
        return (x[:, :: self.every].exp() @ self.inverse).square()

    def audible(self, power: Tensor) -> Tensor:
        """Band powers (B, frames, bands) -> the sum of those above the threshold."""
        return torch.where(power > self.threshold, power, 0.0).sum(-1)

    def mean(self, disturbance: Tensor) -> Tensor:
        """(B, frames) -> (B,): sixth powers within a syllable, squares over syllables."""
        frames = disturbance.shape[1]
        # A smooth limit: a hard one has no gradient.
        limited = (disturbance / self.LIMIT).tanh()
        syllables = limited.unfold(-1, min(self.SYLLABLE, frames), self.SYLLABLE // 2)
        squares = (syllables.pow(6).mean(-1) + 1e-9).pow(1 / 3)
        return self.LIMIT * (squares.mean(-1) + 1e-9).sqrt()

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Two log-mels (B, frames, bands) -> scalar."""
        with torch.no_grad():
            wanted = self.power(target)
            gain = self.gain(wanted)
            wanted = (wanted * gain) @ self.bands
            audible = self.audible(wanted)
            # Disturbances in loud frames are less audible.
            louder = ((audible + 1e5) / 1e7) ** 0.04
        got = (self.power(predicted) * gain) @ self.bands
        level = (audible + 5e3) / (self.audible(got) + 5e3)
        # First-order smoothing of the level with coefficient 0.2, cut off after five frames.
        smoothed = 0.8 * level
        for i in range(1, 5):
            smoothed = smoothed + 0.8 * 0.2**i * F.pad(level, (i, 0), value=1.0)[:, :-i]
        got = got * smoothed.clamp(3e-4, 5.0)[..., None]
        disturbances = self.disturbances(got, wanted, self.asymmetry(got, wanted))
        return self.combine(*(self.mean(d / louder).mean() for d in disturbances))


class _LimitGradient(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        norm = gradient.norm(dim=-1, keepdim=True)
        return gradient * (10 * norm.median() / (norm + 1e-12)).clamp(max=1)


def limit_gradient(x: Tensor) -> Tensor:
    """x (B, frames, channels), with the gradient of each frame limited to ten times the median.

    A phase close to a decision boundary has a gradient that grows through the blocks and would
    dominate the batch.
    """
    limited: Tensor = _LimitGradient.apply(x)  # type: ignore[no-untyped-call]
    return limited


class EnvelopeLoss(nn.Module):
    """Correlation of the envelopes of third-octave bands over 384 ms, modelled on STOI and ESTOI.

    Taal et al. 2011, Jensen & Taal 2016; windows of 32 ms with half overlap, bands of 150 Hz to
    7.6 kHz as far as the rate reaches. Frames of silence, which STOI removes, are levelled by a
    floor 40 dB below the peak of each band.
    """

    HOP_SECONDS, FRAMES, STEP = 0.016, 24, 4
    """Half a window; frames per segment and between segments."""
    BANDS, LOWEST_HZ = 18, 150

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.hop = round(self.HOP_SECONDS * sample_rate)
        centres = self.LOWEST_HZ * 2 ** (torch.arange(self.BANDS) / 3)
        hz = torch.arange(self.hop + 1)[:, None] * (sample_rate / 2 / self.hop)
        inside = (hz >= centres * 2 ** (-1 / 6)) & (hz < centres * 2 ** (1 / 6))
        bands = inside[:, inside.any(0)].float()
        self.register_buffer("window", torch.hann_window(2 * self.hop), persistent=False)
        self.register_buffer("bands", bands, persistent=False)

    def power(self, x: Tensor) -> Tensor:
        """Samples (B, n) -> band powers (B, frames, bands)."""
        pieces = x.unfold(-1, 2 * self.hop, self.hop) * self.window
        return squared_length(torch.view_as_real(torch.fft.rfft(pieces))) @ self.bands

    def segments(self, power: Tensor, floor: Tensor) -> Tensor:
        """Envelopes, (B, segments, bands, frames), without their mean, of length 1."""
        envelopes = (power + floor).sqrt()
        pieces = envelopes.unfold(1, min(self.FRAMES, power.shape[1]), self.STEP)
        return self.unit(pieces, 3)

    @staticmethod
    def unit(x: Tensor, dim: int) -> Tensor:
        x = x - x.mean(dim, keepdim=True)
        return x / (x.square().sum(dim, keepdim=True) + 1e-12).sqrt()

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Two signals (B, n) -> scalar: 1 - the mean of both correlations."""
        with torch.no_grad():
            wanted = self.power(target)
            floor = 1e-4 * wanted.amax(1, keepdim=True) + 1e-6
            wanted = self.segments(wanted, floor)
            spectral = self.unit(wanted, 2)
        got = self.segments(self.power(predicted), floor)
        over_time = (got * wanted).sum(3).mean()
        over_bands = (self.unit(got, 2) * spectral).sum(2).mean()
        return 1 - 0.5 * (over_time + over_bands)


def level_loss(output: Tensor, target: Tensor, floor: float = 1e-4) -> Tensor:
    """Mean squared difference of levels in nepers; samples (B, n) twice -> scalar.

    The other losses are smallest if unpredictable parts are left out, and so make the output a
    little too quiet; this one corrects that. floor: RMS level, relative to full scale, below which
    differences count less.
    """
    levels = [0.5 * (x.square().mean(1) + floor**2).log() for x in (output, target)]
    return (levels[0] - levels[1]).square().mean()
