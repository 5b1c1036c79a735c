"""Latents around lost columns to a correction of the latents that stand in for them."""

from __future__ import annotations

from pcodec.config import CONCEALMENT_LOOK_AHEAD, CONCEALMENT_TAPS, CodecConfig
from pcodec.graphs.blocks import blocks
from pcodec.graphs.graph import LAST, Graph, Tensors


def concealment(c: CodecConfig, tensors: Tensors) -> list[Graph]:
    """What the network sees of each column, (B, columns + taps - 1, ...), -> the correction."""
    g = Graph("concealment")
    seen = g.frames("seen", 2 * c.rows * c.latent_dim + 1)
    g.output_frames("correction", correction(g, c, tensors, seen))
    return [g]


def correction(g: Graph, c: CodecConfig, tensors: Tensors, seen: str) -> str:
    """(B, 1, columns + taps - 1, 2 * rows * dim + 1) -> (B, 1, columns, rows * dim)"""
    tensors = tensors / "concealment"
    channels = 2 * c.rows * c.latent_dim + 1
    x = g.convolution(seen, tensors / "embed", CONCEALMENT_TAPS, channels)
    x = blocks(g, x, tensors / "blocks")
    own = g.dense(g.norm(x, tensors / "norm"), tensors / "head")
    # Part of the way to the column after, where that is known.
    place, size = CONCEALMENT_TAPS - 1 - CONCEALMENT_LOOK_AHEAD, channels // 2
    held = g.slice(g.slice(seen, place, -CONCEALMENT_LOOK_AHEAD), 0, size, axis=3)
    after = g.slice(seen, place + 1, LAST)
    received, lost = (
        g.slice(after, start, stop, axis=3) for start, stop in ((size, 2 * size), (2 * size, LAST))
    )
    known = g.affine(lost, -1, 1)
    step = g.add("Sub", received, g.add("Mul", held, known))
    return g.add("Add", own, g.add("Mul", step, g.weight(tensors, "between")))
