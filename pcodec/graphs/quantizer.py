"""Latents to the indices of their nearest entries, in double precision."""

from __future__ import annotations

import numpy as np

from pcodec.config import CodecConfig
from pcodec.graphs.graph import Graph, Tensors


def quantizer(c: CodecConfig, tensors: Tensors) -> list[Graph]:
    """Latents (N, dim) -> indices (N,)."""
    g = Graph("codebook", np.float64)
    g.output("indices", nearest(g, tensors, g.input("latents", "N", c.latent_dim)))
    return [g]


def nearest(g: Graph, tensors: Tensors, latents: str) -> str:
    """Latents (N, dim) -> indices (N,), int64.

    Same order as by distance: |x - e|^2 = |x|^2 - 2 (x e - |e|^2 / 2).
    """
    codebook = g.weight(tensors / "quantizer", "codebook")
    squares = g.add("ReduceSum", g.add("Mul", codebook, codebook), g.integers(1), keepdims=0)
    nearness = g.linear(latents, codebook, g.affine(squares, -0.5))
    return g.add("ArgMax", nearness, axis=1, keepdims=0)
