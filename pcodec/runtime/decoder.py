"""The decoder: indices to log-mel and low band."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcodec.config import CodecConfig
from pcodec.dsp import LOG_MEL_MEAN, LOG_MEL_STD
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.quantizer import flattened, read_codebook
from pcodec.runtime.state import Array, State, StateKey, with_history
from pcodec.runtime.weights import read_weights

LATENTS = StateKey("decoder", "latents")
"""Latents of the columns that the first layer still sees."""


class Decoder:
    """Indices to log-mel and low band."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config, self.look_ahead = config, config.decoder_look_ahead
        self.codebook = read_codebook(config, folder)
        self.network = Network(config, folder, "decoder", processor)

    def lookup(self, indices: Array) -> Array:
        """Indices (...) -> entries (..., dim)."""
        return self.codebook[indices]

    def __call__(self, latents: Array, state: State, last: bool) -> tuple[Array, Array]:
        """(B, columns, rows, dim) -> log-mel (B, frames, bands), low band (B, frames, 2 * bins).

        The low band is normalised: each column is relative to its level.
        """
        flat, ahead = flattened(latents), self.look_ahead
        seen = with_history(LATENTS, flat, 1 + ahead, state, last, ahead)
        columns = seen.shape[1] - 1 - ahead
        if columns <= 0:
            sizes = self.config.mel_bands, 2 * self.config.low_bins
            mel, low = (np.zeros((len(flat), 0, size), np.float32) for size in sizes)
            return mel, low
        # The columns that are put out now, for the linear path of each row.
        mel, low = self.network(state, seen=seen, latents=seen[:, 1 : 1 + columns])
        return mel, low

    def look_back(self, latents: Array, state: State) -> None:
        """Replaces the latents of the last column by better ones, (B, 1, rows, dim).

        The decoder has used that column as look-ahead only.
        """
        state[LATENTS] = np.concatenate([state[LATENTS][:, :-1], flattened(latents)], 1)


def entry_patches(c: CodecConfig, folder: Path) -> Array:
    """The log-mel of each codebook entry by the linear path: (entries, bands, frames)."""
    with read_weights(folder, "decoder", whole=False) as weights:
        skip = weights / "decoder" / "skip"
        values = read_codebook(c, folder) @ skip["weight"].T + skip["bias"]
    values = values.reshape(-1, c.patch_frames, c.patch_bands) * LOG_MEL_STD + LOG_MEL_MEAN
    return values.swapaxes(1, 2)
