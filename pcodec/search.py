"""Analysis by synthesis: a search for the indices whose decoded speech is nearest to the original.

An encoder has to choose in one go. Here it only begins: then the latents of some seconds are
decoded, and the gradient of the waveform's error moves them, straight through the quantiser, a
number of times. The bitstream and the decoder are the same. As in CELP (Schroeder & Atal 1985), but
by gradients, as in Yang et al. 2020 ("Improving inference for neural image compression").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pcodec.audio.pcm import Samples, clean
from pcodec.networks.checkpoint import Networks
from pcodec.runtime.biquad import high_pass
from pcodec.runtime.state import Array, State
from pcodec.streams import LatentStream
from pcodec.train.losses import DisturbanceLoss, EnvelopeLoss, MultiResolutionMelLoss
from pcodec.train.precision import mixed_precision

if TYPE_CHECKING:
    from typing_extensions import Self

    from pcodec.codec import Codec

SEGMENT, AFTER = 160, 8
"""Columns that are searched together (5 s), and those after them that are searched with them, as
what comes later changes which entries are best."""

RATE, MOMENTA = 0.1, (0.8, 0.95)
"""Of Adam. An entry's distance to the next one is about 1."""

COMMITMENT = 0.3
"""Weight of the distance of the latents to their entries, which keeps them close."""


class SearchStream:
    """Samples at the codec's rate -> latents (columns, rows, dim), in segments of 5 s."""

    def __init__(self, codec: Codec, iterations: int) -> None:
        """iterations: decodings to learn from; each takes about as long as three decodings."""
        self._codec, self._iterations = codec, iterations
        self._first = LatentStream(codec)
        rate = codec.config.sample_rate
        self._filter = high_pass(rate)
        self._state: State = {}
        torch.set_num_threads(codec.processor.threads)
        self._device = torch.device(codec.processor.device)
        parts = ("encoder", "codebook", "decoder", "spectral")
        networks = Networks(codec.config, parts)
        networks.load(codec.model.folder, parts)
        self._networks = networks.to(self._device).requires_grad_(False)
        self._autocast = mixed_precision(self._device)
        losses: list[tuple[float, nn.Module]] = [
            (15.0, MultiResolutionMelLoss(rate)),
            (30.0, EnvelopeLoss(rate)),
        ]
        if rate == DisturbanceLoss.RATE:
            losses.append((2.0, DisturbanceLoss()))
        self._losses = [(weight, loss.to(self._device)) for weight, loss in losses]
        self._taken, self._before = 0, 0
        self._latents = np.zeros((0, codec.config.rows, codec.config.latent_dim))
        self._samples = np.zeros(0, np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._first.__exit__()

    def push(self, samples: Samples) -> Array:
        """Takes the next samples (n,); returns the latents of the segments that they complete."""
        samples = clean(samples)
        self._taken += len(samples)
        return self._take(self._first.push(samples), samples, last=False)

    def finish(self) -> Array:
        """Ends the stream; returns the latents that are left."""
        missing = -self._taken % self._codec.config.column_samples
        return self._take(self._first.finish(), np.zeros(missing, np.float32), last=True)

    def _take(self, latents: Array, samples: Samples, last: bool) -> Array:
        self._latents = np.concatenate([self._latents, latents])
        filtered = self._filter(samples[None].astype(np.float64), self._state, last)[0]
        self._samples = np.concatenate([self._samples, filtered.astype(np.float32)])
        out = [self._latents[:0]]
        while (left := len(self._latents) - self._before) > (0 if last else SEGMENT + AFTER):
            out.append(self._segment(SEGMENT if left > SEGMENT + AFTER else left))
        return np.concatenate(out)

    def _segment(self, columns: int) -> Array:
        """Searches the next columns; returns their latents, and forgets what is long past."""
        start, stop = self._before, self._before + columns
        end = min(stop + AFTER, len(self._latents))
        step = self._codec.config.column_samples
        latents = torch.from_numpy(self._latents[:end]).float()[None]
        target = torch.from_numpy(self._samples[: end * step])[None]
        found = self._search(latents.to(self._device), target.to(self._device), start)
        self._latents[start:end] = found[0].double().cpu().numpy()
        result = self._latents[start:stop].copy()
        self._before = min(stop, self._codec.warm_up)
        past = stop - self._before
        self._latents, self._samples = self._latents[past:], self._samples[past * step :]
        return result

    def _search(self, latents: Tensor, target: Tensor, start: int) -> Tensor:
        """Latents (1, columns, rows, dim), samples (1, n) -> better latents from ``start`` on."""
        known, moved = latents[:, :start], latents[:, start:].clone().requires_grad_()
        optimizer = torch.optim.Adam([moved], RATE, MOMENTA)
        best, least = moved.detach().clone(), float("inf")
        for i in range(self._iterations + 1):
            with torch.set_grad_enabled(i < self._iterations):
                codes = self._networks.quantizer(torch.cat([known, moved], 1))
                error = self._error(codes.latents, target)
            if float(error.detach()) < least:
                best, least = moved.detach().clone(), float(error.detach())
            if i < self._iterations:
                optimizer.zero_grad()
                (error + COMMITMENT * codes.commitment).backward()
                optimizer.step()
        return best

    def _error(self, latents: Tensor, target: Tensor) -> Tensor:
        """What the decoded speech misses of samples (1, n): the sum of the training's losses."""
        with self._autocast():
            mel, low = self._networks.decoder(latents)
            output = self._networks.spectral(mel.float(), low.float()).float()
        errors = [weight * loss(output, target) for weight, loss in self._losses]
        return torch.stack(errors).sum()
