"""The codebook: latents to the indices of their nearest entries."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from pcodec.config import CodecConfig
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.state import Array
from pcodec.runtime.weights import read_weights


class Quantizer:
    """Latents to the indices of their nearest entries, in double precision."""

    SEARCHED = 16
    """Columns at a time, so that the matrix of scores stays in the CPU's cache."""

    def __init__(
        self, config: CodecConfig, folder: Path, codebook: Array, processor: Processor
    ) -> None:
        """codebook: (entries, dim), float64"""
        self.rows = config.rows
        self.search = Network(config, folder, "codebook", processor._replace(threads=1))
        self._codebook, self._squares = codebook, np.square(codebook).sum(1)

    @cached_property
    def spacing(self) -> float:
        """Mean squared distance of an entry to the one next to it."""
        distances = self._distances(self._codebook)
        np.fill_diagonal(distances, np.inf)
        return float(distances.min(1).mean())

    def _distances(self, latents: Array) -> Array:
        squares = np.square(latents).sum(-1, keepdims=True)
        result: Array = squares - 2 * latents @ self._codebook.T + self._squares
        return result

    def distances(self, latents: Array) -> Array:
        """Latents (..., dim) -> squared distances to all entries, (..., entries), by `spacing`."""
        return self._distances(latents) / self.spacing

    def nearest(self, latents: Array) -> Array:
        """Latents (n, dim) -> indices of the nearest entries (n,), uint16."""
        step = self.SEARCHED * self.rows
        found = [
            self.search(latents=latents[i : i + step])[0] for i in range(0, len(latents), step)
        ]
        return np.concatenate([np.zeros(0, np.uint16), *found]).astype(np.uint16)

    def indices(self, latents: Array) -> Array:
        """Latents (..., rows, dim) -> indices of the nearest entries (..., rows), uint16."""
        flat = latents.reshape(-1, latents.shape[-1])
        return self.nearest(flat).reshape(latents.shape[:-1])


def read_codebook(config: CodecConfig, folder: Path) -> Array:
    """A model's codebook (entries, dim), float32; PcodecError if it has none of that shape."""
    with read_weights(folder, "codebook") as weights:
        codebook = weights["quantizer.codebook"]
        if codebook.shape != (config.codebook_entries, config.latent_dim):
            raise ValueError(f"a codebook of {codebook.shape}")
    return codebook


def flattened(latents: Array) -> Array:
    """(B, columns, rows, dim) -> (B, columns, rows * dim)"""
    batch, columns, rows, dim = latents.shape
    return latents.reshape(batch, columns, rows * dim)
