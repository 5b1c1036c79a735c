"""Training data: random augmented crops from a folder or a tsv list of audio files."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections import defaultdict
from collections.abc import Generator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from pcodec.audio.clips import find_clips
from pcodec.audio.pcm import Samples
from pcodec.audio.reader import Reader, read
from pcodec.cores import cores
from pcodec.errors import AudioError
from pcodec.runtime.biquad import high_pass

MAX_WORKERS = 16
"""Most processes that make batches for a GPU; a CPU needs only one."""
GRACE_SECONDS = 10
"""Seconds from SIGTERM to the end of these processes."""


_high_pass = lru_cache(high_pass)


def high_passed(samples: Samples, rate: int) -> Samples:
    """Samples (n,) through the encoder's high-pass filter, as a stream that begins with them."""
    return _high_pass(rate)(samples[None].astype(np.float64), {}, last=True)[0].astype(np.float32)


def seconds_of(path: Path) -> float:
    """Duration that a file's header states, 0 if it states none; AudioError if unreadable."""
    reader = Reader(path)
    reader.close()
    return (reader.frames or 0) / reader.rate


class Corpus:
    """The clips of a corpus, decoded once into a memory-mapped 16-bit file.

    A crop comes from a speaker with a probability proportional to the square root of the
    speaker's total duration, and then from one of their clips by duration. So speakers with much
    speech do not dominate.
    """

    def __init__(self, data: Path, cache: Path, sample_rate: int) -> None:
        """Lists the files; the audio is decoded when samples are first needed.

        data: a folder, a tsv list or a file. cache: the folder for the memory-mapped file.
        """
        self.clips = find_clips(data)
        if not self.clips:
            raise AudioError(f"{data}: no audio files found")
        states = [(state.st_size, state.st_mtime_ns) for state in (p.stat() for p, _ in self.clips)]
        about = repr([data.resolve(), sample_rate, self.clips, states])
        key = hashlib.sha256(about.encode()).hexdigest()[:16]
        self.store, self.ends_file = cache / f"{key}.s16", cache / f"{key}.npy"
        self.sample_rate = sample_rate

    @property
    def speakers(self) -> int:
        return len({speaker for _, speaker in self.clips})

    @property
    def is_read(self) -> bool:
        """Whether the memory-mapped file exists."""
        return self.ends_file.exists()

    @cached_property
    def seconds(self) -> float:
        """Duration of all clips; by their headers until the audio is decoded."""
        if self.is_read:
            return float(self.ends[-1]) / self.sample_rate
        paths = [path for path, _ in self.clips]
        return sum(map(seconds_of, tqdm(paths, "reading headers", unit="file", disable=None)))

    @property
    def bytes(self) -> int:
        """Size of the memory-mapped file."""
        return round(2 * self.seconds * self.sample_rate)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """End of each clip in `samples`, (clips,)."""
        if not self.is_read:
            self._read()
        ends: NDArray[np.int64] = np.load(self.ends_file)
        return ends

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        return np.concatenate([[0], self.ends[:-1]])

    @cached_property
    def samples(self) -> NDArray[np.int16]:
        """All clips, concatenated."""
        if not self.is_read:
            self._read()
        return np.memmap(self.store, np.int16, "r")

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """Cumulative probabilities of the clips, (clips,)."""
        lengths = (self.ends - self.starts).astype(float)
        of_speaker: dict[str, float] = defaultdict(float)
        for (_, speaker), length in zip(self.clips, lengths, strict=True):
            of_speaker[speaker] += length
        totals = np.array([max(1.0, of_speaker[speaker]) for _, speaker in self.clips])
        shares = np.cumsum(lengths / np.sqrt(totals))
        return shares / shares[-1]

    def _read(self) -> None:
        cache = self.store.parent
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        if self.bytes > free:
            need = f"the audio needs {self.bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
            raise AudioError(f"{cache}: not enough disk space: {need}")
        lengths = []
        with self.store.open("wb") as out:
            for path, _ in tqdm(self.clips, "reading audio", unit="file", disable=None):
                mono = read(path, self.sample_rate)
                out.write((mono.clip(-1, 32767 / 32768) * 32768).astype("<i2").tobytes())
                lengths.append(len(mono))
        if not any(lengths):
            raise AudioError(
                f"{self.clips[0][0]}: holds no samples, and neither does any other file"
            )
        np.save(self.ends_file, np.cumsum(lengths))

    def __getstate__(self) -> dict[str, Any]:
        # Each process that makes batches maps the file itself.
        return {name: value for name, value in vars(self).items() if name != "samples"}

    def crop(self, length: int, rng: np.random.Generator) -> Samples:
        """A random crop of ``length`` samples; a shorter clip is padded with silence at random."""
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

    Augmentation: half of the crops are resampled, which changes speed, pitch and timbre by up to
    12 %, of a fifth of these by up to a factor of two, as in children and in shouting; gains of -50
    to +6 dB without clipping; random polarity; noise in one of eight crops, at signal-to-noise
    ratios of 5 to 30 dB.
    """

    def __init__(
        self, corpus: Corpus, noise: Corpus | None, batch: int, length: int, seed: int
    ) -> None:
        self.corpus, self.noise, self.batch, self.length = corpus, noise, batch, length
        self.seed = seed

    def item(self, rng: np.random.Generator) -> Samples:
        """One crop of ``length`` samples."""
        if rng.random() < 0.5:
            speed = float(rng.uniform(1.12, 2.0) if rng.random() < 0.2 else rng.uniform(0.89, 1.12))
            source = int(self.length * speed) + 64
            audio = soxr.resample(self.corpus.crop(source, rng), speed, 1.0, "MQ")
            audio = np.pad(audio, (0, max(0, self.length - len(audio))))[: self.length]
        else:
            audio = self.corpus.crop(self.length, rng)
        if self.noise is not None and rng.random() < 0.125:
            noise = self.noise.crop(self.length, rng)
            level = float(np.sqrt(np.mean(audio**2)) / (np.sqrt(np.mean(noise**2)) + 1e-5))
            audio = audio + noise * min(level, 10.0) * 10 ** (-rng.uniform(5, 30) / 20)
        low = -50 if rng.random() < 0.3 else -12
        gain = 10 ** (rng.uniform(low, 6) / 20)
        scaled = audio * min(gain, 0.98 / (float(np.abs(audio).max()) + 1e-6))
        polarity = rng.choice((-1, 1))
        return high_passed(polarity * scaled, self.corpus.sample_rate)

    def at(self, step: int) -> Tensor:
        """The batch of a step: (batch, length)."""
        rng = np.random.default_rng([self.seed, step])
        return torch.from_numpy(np.stack([self.item(rng) for _ in range(self.batch)]))

    __getitem__ = at

    def stream(
        self, step: int, device: torch.device | None = None
    ) -> Generator[Tensor, None, None]:
        """Batches from a step on, made in other processes."""
        cuda = device is not None and device.type == "cuda"
        loader: DataLoader[Tensor] = DataLoader(
            self,  # type: ignore[arg-type]
            batch_size=None,
            sampler=range(step, 1 << 60),
            num_workers=min(MAX_WORKERS, max(1, cores() - 1)) if cuda else 1,
            pin_memory=cuda,
            prefetch_factor=4,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # leaves the random state of the training alone
        )
        yield from loader


def _ignore_signals(_worker: int) -> None:
    # Signals to the process group are handled by the training, which then ends this process.
    for name in ("SIGINT", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))
