"""Training audio: any folder, or a tsv list, as random augmented crops."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor
from tqdm import tqdm

from pcodec.audio.clips import find_clips
from pcodec.audio.pcm import Samples
from pcodec.audio.reader import read
from pcodec.dsp import HIGH_PASS_HZ
from pcodec.errors import AudioError


def high_passed(samples: Samples, rate: int) -> Samples:
    """Samples (n,) after the encoder's high pass, in one piece; it wraps around their end."""
    s = 1j * np.fft.rfftfreq(len(samples), 1 / rate) / HIGH_PASS_HZ
    response = s**2 / (s**2 + 2**0.5 * s + 1)
    return np.fft.irfft(np.fft.rfft(samples) * response, len(samples)).astype(np.float32)


class Corpus:
    """Clips in one memory-mapped 16-bit file, so that a crop costs no decoding.

    A speaker is drawn with the square root of his share of the corpus, then a clip of his
    by length: many short speakers weigh more than one long one.
    """

    def __init__(self, data: Path, cache: Path, sample_rate: int) -> None:
        clips = find_clips(data)
        if not clips:
            raise AudioError(f"{data}: no audio files found")
        states = [(state.st_size, state.st_mtime_ns) for state in (p.stat() for p, _ in clips)]
        about = repr([data.resolve(), sample_rate, clips, states])
        key = hashlib.sha256(about.encode()).hexdigest()[:16]
        store, ends = cache / f"{key}.s16", cache / f"{key}.npy"
        if not ends.exists():
            cache.mkdir(parents=True, exist_ok=True)
            self._build(clips, store, ends, sample_rate)
        self.sample_rate = sample_rate
        self.samples = np.memmap(store, np.int16, "r")
        self.ends = np.load(ends)
        self.starts = np.concatenate([[0], self.ends[:-1]])
        lengths = (self.ends - self.starts).astype(float)
        of_speaker: dict[str, float] = defaultdict(float)
        for (_, speaker), length in zip(clips, lengths, strict=True):
            of_speaker[speaker] += length
        totals = np.array([max(1.0, of_speaker[speaker]) for _, speaker in clips])
        self.shares = np.cumsum(lengths / np.sqrt(totals))
        self.shares /= self.shares[-1]

    @staticmethod
    def _build(clips: list[tuple[Path, str]], store: Path, ends: Path, sample_rate: int) -> None:
        lengths = []
        with store.open("wb") as out:
            for path, _ in tqdm(clips, "reading audio", unit="file", disable=None):
                mono = read(path, sample_rate)
                out.write((mono.clip(-1, 32767 / 32768) * 32768).astype("<i2").tobytes())
                lengths.append(len(mono))
        if not any(lengths):
            raise AudioError(f"{clips[0][0]}: holds no samples, nor does any other file")
        np.save(ends, np.cumsum(lengths))

    def crop(self, length: int, rng: np.random.Generator) -> Samples:
        """A random piece of ``length`` samples; a shorter clip stands somewhere in silence."""
        clip = min(int(np.searchsorted(self.shares, rng.random())), len(self.ends) - 1)
        start, end = int(self.starts[clip]), int(self.ends[clip])
        crop = np.zeros(length, np.float32)
        spare = end - start - length
        if spare >= 0:
            start += int(rng.integers(spare + 1))
            crop[:] = self.samples[start : start + length]
        else:
            offset = int(rng.integers(-spare + 1))
            crop[offset : offset + end - start] = self.samples[start:end]
        return crop / np.float32(32768)


class Batches:
    """Endless augmented batches, a pure function of the seed and the step number.

    Augmentation: half of the crops change speed (and so pitch and timbre) by up to 12 %;
    levels from -35 dB to full scale; either polarity; one in eight is mixed with noise at 5 to
    30 dB.
    """

    def __init__(
        self, corpus: Corpus, noise: Corpus | None, batch: int, length: int, seed: int
    ) -> None:
        self.corpus, self.noise, self.batch, self.length = corpus, noise, batch, length
        self.seed = seed

    def item(self, rng: np.random.Generator) -> Samples:
        """One crop of ``length`` samples."""
        if rng.random() < 0.5:
            speed = float(rng.uniform(0.89, 1.12))
            source = int(self.length * speed) + 64
            audio = soxr.resample(self.corpus.crop(source, rng), speed, 1.0, "MQ")
            audio = np.pad(audio, (0, max(0, self.length - len(audio))))[: self.length]
        else:
            audio = self.corpus.crop(self.length, rng)
        if self.noise is not None and rng.random() < 0.125:
            noise = self.noise.crop(self.length, rng)
            level = float(np.sqrt(np.mean(audio**2)) / (np.sqrt(np.mean(noise**2)) + 1e-5))
            audio = audio + noise * min(level, 10.0) * 10 ** (-rng.uniform(5, 30) / 20)
        low = -35 if rng.random() < 0.25 else -12
        gain = 10 ** (rng.uniform(low, 6) / 20)
        scaled = audio * min(gain, 0.98 / (float(np.abs(audio).max()) + 1e-6))
        polarity = rng.choice((-1, 1))
        return high_passed(polarity * scaled, self.corpus.sample_rate)

    def at(self, step: int) -> Tensor:
        """The batch of a step: (batch, length)."""
        rng = np.random.default_rng([self.seed, step])
        return torch.from_numpy(np.stack([self.item(rng) for _ in range(self.batch)]))

    def stream(self, step: int, ahead: int = 4) -> Iterator[Tensor]:
        """Batches from a step on, made by a thread beside the training."""
        ready: queue.Queue[Tensor | Exception] = queue.Queue(ahead)

        def work() -> None:
            try:
                for k in range(step, 1 << 60):
                    ready.put(self.at(k))
            except Exception as error:
                ready.put(error)

        threading.Thread(target=work, daemon=True).start()
        while not isinstance(batch := ready.get(), Exception):
            yield batch
        raise batch
