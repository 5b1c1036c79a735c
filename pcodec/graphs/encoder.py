"""Short-time spectra to latents, in double precision."""

from __future__ import annotations

import numpy as np

from pcodec.config import CodecConfig
from pcodec.dsp import LOG_MEL_MEAN, LOG_MEL_STD, MEL_FLOOR
from pcodec.graphs.blocks import blocks, exact_block
from pcodec.graphs.graph import Graph, Tensors


def encoder(c: CodecConfig, tensors: Tensors) -> list[Graph]:
    """Magnitudes and low band of whole columns -> latents (N, dim)."""
    g = Graph("encoder", np.float64)
    magnitudes, low = g.frames("magnitudes", c.n_fft // 2 + 1), g.frames("low", 2 * c.low_bins)
    g.output("latents", latents(g, c, tensors, magnitudes, low))
    return [g]


def latents(g: Graph, c: CodecConfig, tensors: Tensors, magnitudes: str, low: str) -> str:
    """(B, 1, frames, bins) and (B, 1, frames, 2 * low bins) -> (B * columns * rows, dim)."""
    filters, tensors = g.weight(tensors / "mel", "filters"), tensors / "encoder"
    mel = g.add("Max", g.linear(magnitudes, filters), g.value(MEL_FLOOR))
    mel = g.affine(g.add("Log", mel), 1 / LOG_MEL_STD, -LOG_MEL_MEAN / LOG_MEL_STD)
    shape = g.integers(0, -1, c.patch_frames, c.mel_rows, c.patch_bands)
    x = g.add("Transpose", g.add("Reshape", mel, shape), perm=[0, 1, 3, 2, 4])
    patch = c.patch_frames * c.patch_bands
    patches = g.add("Reshape", x, g.integers(0, 1, -1, patch))
    x = g.add("Reshape", x, g.integers(0, 1, -1, c.mel_rows * patch))
    size = c.patch_frames * 2 * c.low_bins
    low = g.add("Reshape", low, g.integers(0, 1, -1, size))
    x = g.dense(g.add("Concat", x, low, axis=3), tensors / "embed")
    x = blocks(g, x, tensors / "blocks", exact_block)
    # The linear paths of the patches and of the low band, stacked.
    shape = g.integers(0, 0, -1, c.mel_rows * c.latent_dim)
    skip = g.add("Reshape", g.dense(patches, tensors / "skip"), shape)
    skip = g.add("Concat", skip, g.dense(low, tensors / "skip_low"), axis=3)
    x = g.add("Add", skip, g.dense(x, tensors / "project"))
    return g.add("Reshape", x, g.integers(-1, c.latent_dim))
