"""The encoder: samples to indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcodec.config import CodecConfig
from pcodec.dsp import FLOOR, MEAN, SPREAD
from pcodec.models import bitstream_id
from pcodec.runtime.graph import Graph, Network, Processor, blocks, exact_block
from pcodec.runtime.mel import Analysis
from pcodec.runtime.quantizer import Quantizer, read_codebook
from pcodec.runtime.state import Array, Past
from pcodec.runtime.weights import Weights, read_weights


class Encoder:
    """Samples to magnitudes, columns of these to indices.

    Exact, or in double precision: a float32 rounding, which depends on threads and chunk
    sizes, would now and then tip the choice between two entries.
    """

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config = config
        with read_weights(folder, "encoder", np.float64) as weights:
            window = weights["mel.window"].reshape(config.window)
            filters = weights["mel.filters"].reshape(config.mel_bands, config.n_fft // 2 + 1)
            self.analysis = Analysis(window, config.n_fft, config.hop)
            self.latents = Network(self._graph(filters, weights / "encoder"), processor)
        codebook = read_codebook(config, folder).astype(np.float64)
        self.bitstream_id = bitstream_id(config, window, filters, codebook)
        self.quantizer = Quantizer(config, codebook, processor)

    def _graph(self, filters: Array, weights: Weights) -> Graph:
        c, g = self.config, Graph(np.float64)
        magnitudes = g.frames("magnitudes", filters.shape[1])
        mel = g.add("Max", g.linear(magnitudes, filters), g.value(FLOOR))
        mel = g.affine(g.add("Log", mel), 1 / SPREAD, -MEAN / SPREAD)
        shape = g.integers(0, -1, c.patch_frames, c.rows, c.patch_bands)
        x = g.add("Transpose", g.add("Reshape", mel, shape), perm=[0, 1, 3, 2, 4])
        patch = c.patch_frames * c.patch_bands
        patches = g.add("Reshape", x, g.integers(-1, patch))
        x = g.add("Reshape", x, g.integers(0, 1, -1, c.rows * patch))
        x = g.dense(x, weights / "embed")
        x = blocks(g, x, weights / "blocks", c.encoder_blocks, exact_block)
        x = g.add("Reshape", g.dense(x, weights / "project"), g.integers(-1, c.latent_dim))
        g.output(g.add("Add", g.dense(patches, weights / "skip"), x))
        return g

    def magnitudes(self, samples: Array, past: Past, last: bool) -> Array:
        """Samples (B, n) -> (B, frames, bins), float64; n a multiple of the hop if last."""
        return self.analysis(samples.astype(np.float64), past, last)

    def indices(self, magnitudes: Array, past: Past) -> Array:
        """Whole columns of magnitudes (B, frames, bins) -> (B, columns, rows), uint16."""
        (latents,) = self.latents(past, magnitudes=magnitudes)
        return self.quantizer.nearest(latents).reshape(len(magnitudes), -1, self.config.rows)
