"""The encoder: samples to indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcodec.config import CodecConfig
from pcodec.models import bitstream_id
from pcodec.runtime.biquad import high_pass
from pcodec.runtime.mel import Analysis, LowBand
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.quantizer import Quantizer, read_codebook
from pcodec.runtime.state import Array, State
from pcodec.runtime.weights import read_weights


class Encoder:
    """Samples to short-time spectra, and columns of these to indices.

    All sums are exact or in double precision. The rounding of float32 depends on threads and chunk
    sizes, and would sometimes change which of two entries is nearest.
    """

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config = config
        with read_weights(folder, "encoder", np.float64, whole=False) as weights:
            window = weights["mel.window"].reshape(config.window)
            filters = weights["mel.filters"].reshape(config.mel_bands, config.n_fft // 2 + 1)
        self.high_pass = high_pass(config.sample_rate)
        self.analysis = Analysis(window, config.n_fft, config.hop)
        self.low_band = LowBand(config)
        self.network = Network(config, folder, "encoder", processor)
        codebook = read_codebook(config, folder).astype(np.float64)
        self.bitstream_id = bitstream_id(config, window, filters, codebook)
        self.quantizer = Quantizer(config, folder, codebook, processor)

    def spectra(self, samples: Array, state: State, last: bool) -> Array:
        """Samples (B, n) -> spectra (B, frames, bins), complex, in double precision.

        last: the stream ends, after a multiple of the hop.
        """
        if last:  # the silence that the last frames see
            samples = np.pad(samples, ((0, 0), (0, self.analysis.overhang)))
        filtered = self.high_pass(samples.astype(np.float64), state, last)
        return self.analysis(filtered, state, last=False)

    def latents(self, spectra: Array, state: State) -> Array:
        """Whole columns of spectra (B, frames, bins) -> (B, columns, rows, dim), float64."""
        magnitudes, low = np.abs(spectra), self.low_band(spectra)
        (latents,) = self.network(state, magnitudes=magnitudes, low=low)
        return latents.reshape(len(spectra), -1, self.config.rows, self.config.latent_dim)

    def indices(self, spectra: Array, state: State) -> Array:
        """Whole columns of spectra (B, frames, bins) -> (B, columns, rows), uint16."""
        return self.quantizer.indices(self.latents(spectra, state))
