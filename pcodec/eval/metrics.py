"""Quality metrics: decoded speech against its original, both at 16 kHz and aligned."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcodec.audio.pcm import int16
from pcodec.dsp import hann, mel_filters
from pcodec.runtime.mel import Analysis

Samples = NDArray[np.float32]
RATE = 16000


class MetricUndefined(ValueError):  # noqa: N818 - not an error of the caller
    """The metric is undefined for this file; the message says why."""


def pesq_wb(reference: Samples, decoded: Samples) -> float:
    """PESQ, wide band (ITU-T P.862.2), 1.0 to 4.64; package pesq."""
    import pesq

    if not reference.any():
        raise MetricUndefined("the original is silent")
    try:
        return float(pesq.pesq(RATE, reference, decoded, "wb"))
    except pesq.PesqError as error:
        text = error.args[0] if error.args else error
        raise MetricUndefined(text.decode() if isinstance(text, bytes) else str(text)) from error


def _stoi(reference: Samples, decoded: Samples, extended: bool) -> float:
    import warnings

    import pystoi

    if not reference.any():
        raise MetricUndefined("the original is silent")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = float(pystoi.stoi(reference, decoded, RATE, extended=extended))
    if caught:  # pystoi returns 1e-5 and warns
        raise MetricUndefined("less than 0.4 s of speech")
    return score


def stoi(reference: Samples, decoded: Samples) -> float:
    """Short-time objective intelligibility (Taal et al. 2011), 0 to 1; package pystoi."""
    return _stoi(reference, decoded, False)


def estoi(reference: Samples, decoded: Samples) -> float:
    """Extended STOI (Jensen & Taal 2016), 0 to 1; package pystoi."""
    return _stoi(reference, decoded, True)


@cache
def _visqol() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech")
    return api


def visqol(reference: Samples, decoded: Samples) -> float:
    """ViSQOL (Chinen et al. 2020), speech mode, lattice mapping, 1 to 5; package visqol-python."""
    api = _visqol()
    pair = reference.astype(np.float64), decoded.astype(np.float64)
    try:
        return float(api.measure_from_arrays(*pair, sample_rate=RATE).moslqo)
    except (ValueError, IndexError, RuntimeError) as error:
        raise MetricUndefined(str(error)) from error


def log_mel_distance(reference: Samples, decoded: Samples) -> float:
    """Mean |difference of natural logs| of 80 Slaney mels, window 1024, hop 256, floor 1e-5."""
    front_end = Analysis(hann(1024), 1024, 256)
    filters = mel_filters(80, 1024, RATE)
    a, b = (
        front_end.log_mel(np.pad(x, (0, -len(x) % 256))[None], filters)
        for x in (reference, decoded)
    )
    return float(np.abs(a - b).mean())


FRAME_PERIOD, ALPHA, ORDER = 5.0, 0.42, 24
"""Of WORLD (Morise et al. 2016): frame period in ms; of mel-cepstra: warping and order."""


@lru_cache(maxsize=4)
def _world(samples: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pitch in Hz (frames,), 0 where unvoiced, and power envelope (frames, bins)."""
    import pyworld

    x = np.frombuffer(samples, np.float32).astype(np.float64)
    if len(x) < 0.1 * RATE:
        raise MetricUndefined("shorter than 0.1 s")
    coarse, times = pyworld.dio(x, RATE, frame_period=FRAME_PERIOD)
    pitch = pyworld.stonemask(x, coarse, times, RATE)
    return pitch, pyworld.cheaptrick(x, pitch, times, RATE)


@cache
def _warping(bins: int) -> NDArray[np.float64]:
    """The matrix (ORDER + 1, bins) from log amplitudes to a mel-cepstrum.

    Cepstrum, then the frequency warping of Oppenheim & Johnson (1972) by ALPHA.
    """
    n_fft = 2 * (bins - 1)
    cepstrum = np.fft.irfft(np.eye(bins), n_fft, axis=0)[:bins]
    cepstrum[1:-1] *= 2
    warped = np.zeros((ORDER + 1, bins))
    for source in range(bins - 1, -1, -1):
        before = warped.copy()
        warped[0] = ALPHA * before[0]
        warped[0, source] += 1
        warped[1] = (1 - ALPHA**2) * before[0] + ALPHA * before[1]
        for m in range(2, ORDER + 1):
            warped[m] = before[m - 1] + ALPHA * (before[m] - warped[m - 1])
    result: NDArray[np.float64] = warped @ cepstrum
    return result


def mcd(reference: Samples, decoded: Samples) -> float:
    """Mel-cepstral distortion in dB: WORLD envelope, 5 ms, order 24, warping 0.42, without c0.

    Frame by frame (no DTW), over all frames (Kubichek 1993); package pyworld.
    """
    a, b = (_world(x.tobytes())[1] for x in (reference, decoded))
    warping = _warping(a.shape[1])[1:]
    difference = 0.5 * (np.log(a + 1e-16) - np.log(b + 1e-16)) @ warping.T
    return float(10 / math.log(10) * np.sqrt(2 * np.square(difference).sum(1)).mean())


def _pitch_errors(reference: Samples, decoded: Samples) -> NDArray[np.float64]:
    """Absolute differences of pitch in octaves, in the frames that are voiced in both (frames,)."""
    a, b = (_world(x.tobytes())[0] for x in (reference, decoded))
    both = (a > 0) & (b > 0)
    if not both.any():
        raise MetricUndefined("no voiced frame in common")
    return np.abs(np.log2(a[both] / b[both]))


GROSS = math.log2(1.2)
"""A gross pitch error: more than 20 %, in octaves."""


def f0_cents(reference: Samples, decoded: Samples) -> float:
    """Root mean square error of pitch in cents, where both are voiced and no error is gross.

    DIO and StoneMask of pyworld, frames of 5 ms.
    """
    octaves = _pitch_errors(reference, decoded)
    fine = octaves[octaves <= GROSS]
    if not len(fine):
        raise MetricUndefined("all pitch errors are gross")
    return float(1200 * np.sqrt(np.mean(np.square(fine))))


def f0_gross(reference: Samples, decoded: Samples) -> float:
    """Share of the frames voiced in both whose pitch is wrong by more than 20 %, in %; pyworld."""
    return float(100 * np.mean(_pitch_errors(reference, decoded) > GROSS))


def voicing_error(reference: Samples, decoded: Samples) -> float:
    """Share of 5 ms frames that are voiced in one and not in the other, in %; DIO of pyworld."""
    a, b = (_world(x.tobytes())[0] for x in (reference, decoded))
    return float(100 * np.mean((a > 0) != (b > 0)))


def dnsmos(reference: Samples, decoded: Samples) -> float:  # noqa: ARG001
    """DNSMOS (Reddy et al. 2022), overall quality without original, 1 to 5; package speechmos."""
    from speechmos import dnsmos

    if not decoded.any():
        raise MetricUndefined("silent")
    return float(dnsmos.run(decoded.clip(-1, 1), RATE)["ovrl_mos"])


@cache
def _distillmos() -> Any:
    import sys
    import types

    # distillmos needs torchaudio only to read files, and torchaudio does not fit every torch.
    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
    from distillmos import ConvTransformerSQAModel

    return ConvTransformerSQAModel().eval()


def distillmos(reference: Samples, decoded: Samples) -> float:  # noqa: ARG001
    """DistillMOS (Stahl & Gamper 2025), quality without original, 1 to 5; package distillmos."""
    import torch

    with torch.inference_mode():
        return float(_distillmos()(torch.from_numpy(decoded)[None]))


@cache
def _speaker() -> Any:
    from resemblyzer import VoiceEncoder

    return VoiceEncoder("cpu", verbose=False)


def speaker_similarity(reference: Samples, decoded: Samples) -> float:
    """Cosine of the speaker embeddings of Resemblyzer (GE2E, Wan et al. 2018), up to 1."""
    from resemblyzer import preprocess_wav

    a, b = (preprocess_wav(x, RATE) for x in (reference, decoded))
    if min(len(a), len(b)) < 0.1 * RATE:
        raise MetricUndefined("less than 0.1 s of speech")
    a, b = (_speaker().embed_utterance(x) for x in (a, b))
    return float(a @ b)


@cache
def _phone_recogniser() -> Any:
    from hama import ASRModel

    return ASRModel()


def _phones(samples: Samples) -> list[str]:
    """The phones that the recogniser finds, in IPA."""
    heard: list[str] = _phone_recogniser()(samples, RATE).phonemes
    return heard


def edit_distance(a: list[str], b: list[str]) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions from a to b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def phone_error_rate(reference: Samples, decoded: Samples) -> float:
    """Edit distance between the phones recognised in the decoded speech and in the original, per
    phone of the original, in %; 0 for the original itself. The recogniser (package hama; scores
    depend on its version) is trained on English, so other languages are recognised as English.
    """
    phones = _phones(reference)
    if not phones:
        raise MetricUndefined("no phone is recognised in the original")
    return 100 * edit_distance(phones, _phones(decoded)) / len(phones)


WARPQ_WINDOW, WARPQ_HOP, WARPQ_PATCH, WARPQ_STEP, WARPQ_LOCAL = 512, 64, 92, 42, 201
"""Of WARP-Q: window and hop in samples (32 and 4 ms); length and distance of patches, and length of
the local normalisation, in frames, as the authors count them (about 0.4, 0.2 and 0.8 s)."""


def _active(samples: Samples) -> Samples:
    """The samples of 30 ms frames that are speech, or next to one that is."""
    import webrtcvad

    frame = 3 * RATE // 100
    detector = webrtcvad.Vad(0)
    frames = int16(np.pad(samples, (0, frame - len(samples) % frame))).reshape(-1, frame)
    speech = np.array([detector.is_speech(row.tobytes(), RATE) for row in frames])
    near = np.convolve(speech, np.ones(3), "same") > 0
    active: Samples = samples[np.repeat(near, frame)[: len(samples)]]
    if len(active) < 0.4 * RATE:
        raise MetricUndefined("less than 0.4 s of speech")
    return active


def _local_cepstra(samples: Samples) -> NDArray[np.float32]:
    """MFCC (13, frames), with mean and variance normalised over the 0.8 s around each frame."""
    import librosa

    cepstra = librosa.feature.mfcc(
        y=samples, sr=RATE, n_mfcc=13, lifter=3, fmax=5000,
        n_fft=2 * WARPQ_WINDOW, win_length=WARPQ_WINDOW, hop_length=WARPQ_HOP,
    )  # fmt: skip

    def around(x: NDArray[np.float32]) -> NDArray[np.float32]:
        padded = np.pad(x, ((0, 0), (WARPQ_LOCAL // 2, WARPQ_LOCAL // 2)), "symmetric")
        return np.lib.stride_tricks.sliding_window_view(padded, WARPQ_LOCAL, axis=1)

    centred = cepstra - around(cepstra).mean(2)
    normalised: NDArray[np.float32] = centred / (around(centred).std(2) + 2**-30)
    return normalised


def warpq(reference: Samples, decoded: Samples) -> float:
    """WARP-Q (Jassim et al. 2022), raw score: the median distance between patches of 0.4 s of
    normalised MFCC and the most similar part of the original (subsequence DTW), as in the
    authors' package warpq 1.5.2. Made for generative codecs; packages webrtcvad-wheels, librosa.
    """
    import librosa

    a, b = (_local_cepstra(_active(x)) for x in (reference, decoded))
    steps = np.array([[1, 0], [0, 3], [1, 3]])
    costs = []
    for start in range(0, b.shape[1] - WARPQ_PATCH + 1, WARPQ_STEP):
        patch = b[:, start : start + WARPQ_PATCH]
        cost = librosa.sequence.dtw(
            patch, a, step_sizes_sigma=steps, weights_mul=np.ones(3), subseq=True, backtrack=False
        )
        costs.append(cost[-1].min() / WARPQ_PATCH)
    return float(np.median(costs))


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric in the registry, the only place that lists it."""

    name: str
    """Name in `--metrics` and in the JSON document."""
    title: str
    """Name in tables."""
    score: Callable[[Samples, Samples], float]
    """Score of (reference, decoded), both (n,) at 16 kHz; raises MetricUndefined.
    Its docstring is the definition that tables and reports quote."""
    better: str = "higher"
    """Which way is better: "higher" or "lower"."""
    unit: str = ""
    package: str = "numpy"
    """The module that the metric needs; without it, `--metrics` with its name is an error."""
    distribution: str = ""
    """Name of the package for pip, where it differs from the module's."""
    digits: int = 3
    """Decimals in the tables of docs/results.md."""
    default: bool = True
    """Whether `pcodec eval` measures it by default; then the extra "eval" has its package."""

    @property
    def definition(self) -> str:
        return " ".join((self.score.__doc__ or "").split())


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("pesq", "PESQ-WB", pesq_wb, package="pesq", digits=2),
        Metric("stoi", "STOI", stoi, package="pystoi"),
        Metric("estoi", "ESTOI", estoi, package="pystoi"),
        Metric(
            "visqol", "ViSQOL", visqol,
            package="visqol", distribution="visqol-python", digits=2,
        ),
        Metric("mcd", "MCD", mcd, "lower", "dB", "pyworld", digits=2),
        Metric("log_mel", "log-mel distance", log_mel_distance, "lower"),
        Metric("f0_cents", "F0 error", f0_cents, "lower", "cents", "pyworld", digits=1),
        Metric("f0_gross", "gross F0 errors", f0_gross, "lower", "%", "pyworld", digits=1),
        Metric("voicing", "voicing error", voicing_error, "lower", "%", "pyworld", digits=1),
        Metric("dnsmos", "DNSMOS", dnsmos, package="speechmos", digits=2),
        Metric("phones", "phone error rate", phone_error_rate, "lower", "%", "hama", digits=1),
        Metric(
            "warpq", "WARP-Q", warpq, "lower",
            package="webrtcvad", distribution="webrtcvad-wheels", digits=2,
        ),
        Metric(
            "distillmos", "DistillMOS", distillmos,
            package="distillmos", digits=2, default=False,
        ),
        Metric(
            "speaker", "speaker similarity", speaker_similarity,
            package="resemblyzer", default=False,
        ),
    )
}  # fmt: skip


def or_nan(metric: str, reference: Samples, decoded: Samples) -> float:
    """The score, or NaN where it is undefined."""
    try:
        return METRICS[metric].score(reference, decoded)
    except MetricUndefined:
        return math.nan


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Entropy of an index histogram, in bits."""
    p = np.asarray(counts, float)
    p = p[p > 0] / p.sum()
    return float(-(p * np.log2(p)).sum())
