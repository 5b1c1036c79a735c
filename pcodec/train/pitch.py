"""Pitch tracking of natural speech, as a training target of the vocoder."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pcodec.dsp import NOISE_FRAMES, PITCH_BINS, PITCH_BINS_PER_OCTAVE, PITCH_MIN_HZ
from pcodec.networks.excitation import Excitation, Pitch

WINDOW = 768
"""Window of the autocorrelation in samples: 48 ms at 16 kHz."""


@torch.no_grad()
def track_pitch(samples: Tensor, spectrum: Tensor, excitation: Excitation) -> Pitch:
    """Pitch by autocorrelation (Boersma 1993), pulse phase by the phases of the harmonics.

    samples: (B, n). spectrum: their short-time Fourier transform under a Hann window,
    (B, frames, bins), complex, without padding.
    """
    rate, hop, n_fft = excitation.sample_rate, excitation.hop, excitation.n_fft
    batch, frames, bins = spectrum.shape
    # Frequency: the peak of the autocorrelation, divided by that of the window.
    spare = (WINDOW - n_fft) // 2
    window = torch.hann_window(WINDOW, device=samples.device)
    pieces = F.pad(samples, (spare, spare)).unfold(-1, WINDOW, hop)
    pieces = (pieces - pieces.mean(-1, keepdim=True)) * window
    # Lags in half samples.
    highest = PITCH_MIN_HZ * 2 ** (PITCH_BINS / PITCH_BINS_PER_OCTAVE)
    low, high = int(2 * rate / highest) + 1, int(2 * rate / PITCH_MIN_HZ) - 1

    def autocorrelation(x: Tensor) -> Tensor:
        # Interpolated by 2, as a peak may lie between two samples.
        power = torch.fft.rfft(x, 1536).abs().square()
        return torch.fft.irfft(power, 2 * 1536)[..., : high + 2]

    own = autocorrelation(window)
    r = autocorrelation(pieces)
    r = r / (r[..., :1] + 1e-9) / (own / own[0])
    # Pitch changes slowly, so the autocorrelation is averaged over three frames.
    r = F.avg_pool1d(r.transpose(1, 2), 3, 1, 1, count_include_pad=False).transpose(1, 2)
    lags = torch.arange(low, high + 1, device=r.device)
    bias = 0.03 * (lags / low).log2()
    middle = r[..., low : high + 1]
    peaks = (middle >= r[..., low - 1 : high]) & (middle > r[..., low + 1 : high + 2])
    best = (middle - bias - 2.0 * ~peaks).argmax(-1, keepdim=True) + low
    left, peak, right = (r.gather(-1, best + i) for i in (-1, 0, 1))
    curve = left - 2 * peak + right
    shift = torch.where(curve < -1e-6, 0.5 * (left - right) / curve, 0.0).clamp(-0.5, 0.5)
    frequency = 2 * rate / (best + shift).squeeze(-1)
    power = spectrum.real.square() + spectrum.imag.square()
    loud = power.sum(-1)
    voiced = (peak.squeeze(-1) > 0.5) & (loud > 3e-5 * loud.amax(1, keepdim=True)) & (loud > 1e-4)

    # Phase of the pulses. First estimate: the phase difference of neighbouring harmonics, which is
    # the delay of the pulse; the polarity of the recording and its response at the fundamental do
    # not matter. Then it is refined with the phases of the first 16 harmonics: the offset of each
    # (the response of the vocal tract) changes little in nine frames.
    count = torch.arange(1, 17, device=r.device)
    position = (frequency[..., None] * count * (n_fft / rate)).round().long()
    inside = position < bins
    position = position.clamp(max=bins - 1)
    harmonics = spectrum.gather(-1, position) * (1 - 2 * (position % 2))
    size = harmonics.abs() + 1e-9
    harmonics = harmonics / size
    weight = size.sqrt() * inside
    weight = weight / (weight.sum(-1, keepdim=True) + 1e-9)
    pairs = (weight[..., 1:] * weight[..., :-1]).sqrt()
    phase = (harmonics[..., 1:] * harmonics[..., :-1].conj() * pairs).sum(-1).angle()
    for most in (3, 4, 6, 8, 12, 16, 16):
        n, w = count[:most], weight[..., :most]
        offset = harmonics[..., :most] * torch.exp(-1j * phase[..., None] * n)
        both = torch.view_as_real(offset * w).flatten(2).transpose(1, 2)
        mean = F.avg_pool1d(both, 9, 1, 4).transpose(1, 2).unflatten(-1, (most, 2))
        mean = torch.view_as_complex(mean.contiguous())
        error = (offset * mean.conj()).angle()
        phase = phase + (w * n * error).sum(-1) / ((w * n * n).sum(-1) + 1e-9)
    # The remaining phase is common to all harmonics, and a property of the recording.
    offset = harmonics * torch.exp(-1j * phase[..., None] * count)
    offset = offset * size.sqrt() * (inside & voiced[..., None])
    constant = offset.sum((1, 2)).angle()[:, None].expand(batch, frames)
    phase = phase % (2 * math.pi)
    # A random position in the noise, at the start of a column, as the samples start with one.
    column = excitation.column
    first = column * torch.randint(0, NOISE_FRAMES // column, (batch, 1), device=r.device)
    frame = first + torch.arange(frames, device=r.device)
    return Pitch(frequency, phase, constant, voiced, frame)


def pitch_loss(logits: Tensor, pitch: Pitch) -> Tensor:
    """Cross-entropy of voicing; in voiced frames also of the pitch class, and both phase errors."""
    voiced = pitch.voiced.float()
    octaves = (pitch.frequency / PITCH_MIN_HZ).log2()
    place = (octaves * PITCH_BINS_PER_OCTAVE - 0.5).clamp(0, PITCH_BINS - 1.001)
    lower = place.floor().long()
    share = place - lower
    scores = logits[..., 1 : 1 + PITCH_BINS].log_softmax(-1)
    a = scores.gather(-1, lower[..., None]).squeeze(-1)
    b = scores.gather(-1, lower[..., None] + 1).squeeze(-1)
    wrong = -((1 - share) * a + share * b)
    # Errors of both phases: 1 - cosine.
    pulses, constant = logits[..., 1 + PITCH_BINS :].unflatten(-1, (2, 2)).unbind(-2)
    for phasor, angle in ((pulses, pitch.phase), (constant, pitch.constant)):
        direction = F.normalize(phasor, dim=-1, eps=1e-2)
        wrong = wrong + 1 - direction[..., 0] * angle.cos() - direction[..., 1] * angle.sin()
    return F.binary_cross_entropy_with_logits(logits[..., 0], voiced) + (wrong * voiced).sum() / (
        voiced.sum() + 1
    )
