"""Analysis by synthesis: a search for the indices whose decoded speech is nearest to the original.

An encoder has to choose in one go. Here it only begins: then the latents of some seconds are
decoded, and the gradient of the waveform's error moves them, straight through the quantiser, a
number of times. The bitstream and the decoder are the same. As in CELP (Schroeder & Atal 1985), but
by gradients, as in Yang et al. 2020 ("Improving inference for neural image compression").
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcodec.audio.pcm import Samples, clean
from pcodec.codec import Codec
from pcodec.config import CodecConfig
from pcodec.networks.checkpoint import Networks
from pcodec.runtime.biquad import high_pass
from pcodec.runtime.state import Array, State
from pcodec.streams import LatentStream
from pcodec.train.losses import DisturbanceLoss, EnvelopeLoss, MultiResolutionMelLoss
from pcodec.train.precision import mixed_precision

if TYPE_CHECKING:
    from typing_extensions import Self

SEGMENT, AFTER = 160, 8
"""Columns that are searched together (5 s), and those after them that are searched with them, as
what comes later changes which entries are best."""

RATE, MOMENTA = 0.1, (0.8, 0.95)
"""Of Adam. Entries next to each other differ by some 1.4 in each dimension."""

COMMITMENT = 0.3
"""Weight of the mean squared distance of the latents to their entries, which keeps them close."""


class SearchStream:
    """Samples at the codec's rate -> latents (columns, rows, dim), in segments of 5 s."""

    def __init__(self, codec: Codec, iterations: int) -> None:
        """iterations: how often a segment is decoded, and its latents moved."""
        self._config, self._iterations = codec.config, iterations
        self._encoder = LatentStream(codec)
        rate = codec.config.sample_rate
        self._filter = high_pass(rate)
        self._state: State = {}
        gpu = codec.processor.device == "cuda" and torch.cuda.is_available()
        self._device = torch.device("cuda" if gpu else "cpu")
        self._networks = _networks(codec.config, codec.model.folder, self._device)
        self._autocast = mixed_precision(self._device)
        envelope = EnvelopeLoss(rate)
        self._shortest = 2 * envelope.hop
        losses: list[tuple[float, nn.Module]] = [
            (15.0, MultiResolutionMelLoss(rate)),
            (30.0, envelope),
        ]
        if rate == DisturbanceLoss.RATE:
            losses.append((2.0, DisturbanceLoss()))
        self._losses = [(weight, loss.to(self._device)) for weight, loss in losses]
        # What is kept of earlier columns, for the memories of decoder and vocoder.
        self._kept = Codec(codec.model).warm_up
        self._taken, self._first, self._known = 0, 0, 0
        """Samples so far; number of the first column that is kept; how many are searched."""
        self._latents = np.zeros((0, codec.config.rows, codec.config.latent_dim))
        self._samples = np.zeros(0, np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._encoder.__exit__()

    def push(self, samples: Samples) -> Array:
        """Takes the next samples (n,); returns the latents of the segments that they complete."""
        samples = clean(samples)
        step = SEGMENT * self._config.column_samples
        out = [self._latents[:0]]
        for start in range(0, len(samples), step):
            piece = samples[start : start + step]
            self._taken += len(piece)
            out += self._take(self._encoder.push(piece), piece, last=False)
        return np.concatenate(out)

    def finish(self) -> Array:
        """Ends the stream; returns the latents that are left."""
        silence = np.zeros(-self._taken % self._config.column_samples, np.float32)
        return np.concatenate(
            [self._latents[:0], *self._take(self._encoder.finish(), silence, True)]
        )

    def _take(self, latents: Array, samples: Samples, last: bool) -> list[Array]:
        self._latents = np.concatenate([self._latents, latents])
        filtered = self._filter(samples[None].astype(np.float64), self._state, last)[0]
        self._samples = np.concatenate([self._samples, filtered.astype(np.float32)])
        out = []
        while (left := len(self._latents) - self._known) > (0 if last else SEGMENT + AFTER):
            out.append(self._segment(SEGMENT if left > SEGMENT + AFTER else left))
        return out

    def _segment(self, columns: int) -> Array:
        """Searches the next columns; returns their latents, and forgets what is long past."""
        start, stop = self._known, self._known + columns
        end = min(stop + AFTER, len(self._latents))
        step = self._config.column_samples
        latents = torch.from_numpy(self._latents[:end]).float()[None]
        target = torch.from_numpy(self._samples[: end * step])[None]
        found = self._search(latents.to(self._device), target.to(self._device), start)
        self._latents[start:end] = found[0].double().cpu().numpy()
        result = self._latents[start:stop].copy()
        self._known = min(stop, self._kept)
        past = stop - self._known
        self._first += past
        self._latents = self._latents[past:].copy()
        self._samples = self._samples[past * step :].copy()
        return result

    def _search(self, latents: Tensor, target: Tensor, start: int) -> Tensor:
        """Latents (1, columns, rows, dim), samples (1, n) -> better latents from ``start`` on."""
        known, moved = latents[:, :start], latents[:, start:].clone().requires_grad_()
        optimizer = torch.optim.Adam([moved], RATE, MOMENTA)
        best, least = moved.detach().clone(), float("inf")
        for i in range(self._iterations + 1):
            with torch.set_grad_enabled(i < self._iterations):
                codes = self._networks.quantizer(torch.cat([known, moved], 1))
                error = self._error(self._decode(codes.latents), target)
            if (value := float(error.detach())) < least:
                best, least = moved.detach().clone(), value
            if i < self._iterations:
                optimizer.zero_grad()
                (error + COMMITMENT * codes.commitment).backward()
                optimizer.step()
        return best

    def _decode(self, latents: Tensor) -> Tensor:
        """Quantised latents (1, columns, rows, dim) -> samples (1, n)."""
        with self._autocast():
            mel, low = self._networks.decoder(latents)
            first = self._first * self._config.patch_frames
            samples: Tensor = self._networks.spectral(mel.float(), low.float(), first)
        return samples.float()

    def _error(self, output: Tensor, target: Tensor) -> Tensor:
        """What decoded samples (1, n) miss of a target: the sum of the training's losses."""
        missing = max(0, self._shortest - target.shape[1])
        output, target = (F.pad(x, (0, missing)) for x in (output, target))
        errors = [weight * loss(output, target) for weight, loss in self._losses]
        return torch.stack(errors).sum()


@lru_cache(1)
def _networks(config: CodecConfig, folder: Path, device: torch.device) -> Networks:
    """The networks of a decoder, which have no memory, so that searches can share them."""
    parts = ("codebook", "decoder", "spectral")
    networks = Networks(config, parts)
    networks.load(folder, parts)
    return networks.to(device).requires_grad_(False)
