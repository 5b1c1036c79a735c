"""The encoder: samples to indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcodec.config import CodecConfig
from pcodec.dsp import LOG_MEL_MEAN, LOG_MEL_STD, MEL_FLOOR
from pcodec.models import bitstream_id
from pcodec.runtime.graph import Graph, Network, Processor, blocks, exact_block
from pcodec.runtime.mel import Analysis, HighPass, LowBand
from pcodec.runtime.quantizer import Quantizer, read_codebook
from pcodec.runtime.state import Array, State
from pcodec.runtime.weights import Weights, read_weights


class Encoder:
    """Samples to short-time spectra, and columns of these to indices.

    All sums are exact or in double precision. The rounding of float32 depends on threads and chunk
    sizes, and would sometimes change which of two entries is nearest.
    """

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config = config
        with read_weights(folder, "encoder", np.float64) as weights:
            window = weights["mel.window"].reshape(config.window)
            filters = weights["mel.filters"].reshape(config.mel_bands, config.n_fft // 2 + 1)
            self.high_pass = HighPass(config.sample_rate)
            self.analysis = Analysis(window, config.n_fft, config.hop)
            self.low_band = LowBand(config)
            self.network = Network(self._graph(filters, weights / "encoder"), processor)
        codebook = read_codebook(config, folder).astype(np.float64)
        self.bitstream_id = bitstream_id(config, window, filters, codebook)
        self.quantizer = Quantizer(config, codebook, processor)

    def _graph(self, filters: Array, weights: Weights) -> Graph:
        c, g = self.config, Graph("encoder", np.float64)
        magnitudes = g.frames("magnitudes", filters.shape[1])
        mel = g.add("Max", g.linear(magnitudes, filters), g.value(MEL_FLOOR))
        mel = g.affine(g.add("Log", mel), 1 / LOG_MEL_STD, -LOG_MEL_MEAN / LOG_MEL_STD)
        shape = g.integers(0, -1, c.patch_frames, c.mel_rows, c.patch_bands)
        x = g.add("Transpose", g.add("Reshape", mel, shape), perm=[0, 1, 3, 2, 4])
        patch = c.patch_frames * c.patch_bands
        patches = g.add("Reshape", x, g.integers(0, 1, -1, patch))
        x = g.add("Reshape", x, g.integers(0, 1, -1, c.mel_rows * patch))
        size = c.patch_frames * 2 * c.low_bins
        low = g.add("Reshape", g.frames("low", 2 * c.low_bins), g.integers(0, 1, -1, size))
        x = g.dense(g.add("Concat", x, low, axis=3), weights / "embed")
        x = blocks(g, x, weights / "blocks", c.encoder_blocks, exact_block)
        # The linear paths of the patches and of the low band, stacked.
        shape = g.integers(0, 0, -1, c.mel_rows * c.latent_dim)
        skip = g.add("Reshape", g.dense(patches, weights / "skip"), shape)
        skip = g.add("Concat", skip, g.dense(low, weights / "skip_low"), axis=3)
        x = g.add("Add", skip, g.dense(x, weights / "project"))
        g.output(g.add("Reshape", x, g.integers(-1, c.latent_dim)))
        return g

    def spectra(self, samples: Array, state: State, last: bool) -> Array:
        """Samples (B, n) -> spectra (B, frames, bins), complex, in double precision.

        last: the stream ends, after a multiple of the hop.
        """
        filtered = self.high_pass(samples.astype(np.float64), state, last)
        return self.analysis(filtered, state, last)

    def latents(self, spectra: Array, state: State) -> Array:
        """Whole columns of spectra (B, frames, bins) -> (B, columns, rows, dim), float64."""
        magnitudes, low = np.abs(spectra), self.low_band(spectra)
        (latents,) = self.network(state, magnitudes=magnitudes, low=low)
        return latents.reshape(len(spectra), -1, self.config.rows, self.config.latent_dim)

    def indices(self, spectra: Array, state: State) -> Array:
        """Whole columns of spectra (B, frames, bins) -> (B, columns, rows), uint16."""
        latents = self.latents(spectra, state)
        nearest = self.quantizer.nearest(latents.reshape(-1, self.config.latent_dim))
        return nearest.reshape(latents.shape[:-1])
