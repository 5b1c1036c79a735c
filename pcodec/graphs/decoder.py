"""Latents to log-mel and low band."""

from __future__ import annotations

from pcodec.config import CodecConfig
from pcodec.dsp import LOG_MEL_MEAN, LOG_MEL_STD
from pcodec.graphs.blocks import blocks
from pcodec.graphs.graph import Graph, Tensors


def decoder(c: CodecConfig, tensors: Tensors) -> list[Graph]:
    """Latents, with those before and after, -> log-mel and low band of the columns."""
    g, size = Graph("decoder"), c.rows * c.latent_dim
    seen, latents = g.frames("seen", size), g.frames("latents", size)
    normal, low = picture(g, c, tensors, seen, latents)
    g.output_frames("mel", g.affine(normal, LOG_MEL_STD, LOG_MEL_MEAN))
    g.output_frames("low", low)
    return [g]


def picture(g: Graph, c: CodecConfig, tensors: Tensors, seen: str, latents: str) -> tuple[str, str]:
    """Latents -> normalised log-mel (B, 1, frames, bands), low band (B, 1, frames, 2 * bins).

    latents: (B, 1, columns, rows * dim). seen: these, one column before them, and those that the
    decoder looks ahead at.
    """
    tensors, size = tensors / "decoder", c.rows * c.latent_dim
    x = g.convolution(seen, tensors / "embed", 2 + c.decoder_look_ahead, size)
    x = blocks(g, x, tensors / "blocks")
    coarse_low = g.dense(x, tensors / "refine_low")
    x = g.dense(x, tensors / "spread")
    x = g.add("Reshape", x, g.integers(0, 1, -1, c.decoder_fine_width))
    x = blocks(g, x, tensors / "fine_blocks")
    x = g.dense(x, tensors / "refine")
    sizes = g.integers(c.mel_rows * c.latent_dim, c.phase_rows * c.latent_dim)
    patches, phases = g.split("Split", latents, sizes, count=2, axis=3)
    patches = g.add("Reshape", patches, g.integers(0, -1, c.mel_rows, c.latent_dim))
    coarse = g.dense(patches, tensors / "skip")
    shape = g.integers(0, -1, c.mel_rows, c.patch_frames, c.patch_bands)
    coarse = g.add("Transpose", g.add("Reshape", coarse, shape), perm=[0, 1, 3, 2, 4])
    coarse = g.add("Reshape", coarse, g.integers(0, 1, -1, c.mel_bands))
    low = g.add("Add", coarse_low, g.dense(phases, tensors / "skip_low"))
    low = g.add("Reshape", low, g.integers(0, 1, -1, 2 * c.low_bins))
    return g.add("Add", coarse, x), low
