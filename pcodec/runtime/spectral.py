"""The networks of a codec, ready to run: `pcodec.networks`'s, as graphs with NumPy between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcodec.config import (
    DILATIONS,
    KERNELS,
    PITCH_BLOCKS,
    PITCH_WIDTH,
    RESIDUAL_KERNELS,
    SLOPE,
    STRIDES,
    CodecConfig,
)
from pcodec.dsp import FLOOR, MEAN, SPREAD, mel_inverse
from pcodec.models import bitstream_id
from pcodec.runtime.excitation import Excitation
from pcodec.runtime.graph import LAST, Graph, Network, Processor, blocks, exact_block
from pcodec.runtime.state import Array, Past, with_past
from pcodec.runtime.stft import Analysis, Consistency, Synthesis
from pcodec.runtime.weights import Weights, read_weights


class Encoder:
    """Samples to magnitudes, columns of these to indices.

    Exact, or in double precision: a float32 rounding, which depends on threads and chunk
    sizes, would now and then tip the choice between two entries.
    """

    SEARCHED = 16
    """columns at a time: the nearness of their latents to all entries stays in the cache"""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config = config
        with read_weights(folder, "encoder", np.float64) as weights:
            window = weights["mel.window"].reshape(config.window)
            filters = weights["mel.filters"].reshape(config.mel_bands, config.n_fft // 2 + 1)
            self.analysis = Analysis(window, config.n_fft, config.hop)
            self.latents = Network(self._graph(filters, weights / "encoder"), processor)
        codebook = read_codebook(config, folder).astype(np.float64)
        self.bitstream_id = bitstream_id(config, window, filters, codebook)
        search = Graph(np.float64)
        latents = search.input("latents", "N", config.latent_dim)
        # The same order as by distance: |x - e|^2 = |x|^2 - 2 (x e - |e|^2 / 2).
        nearness = search.linear(latents, codebook, -0.5 * np.square(codebook).sum(1))
        search.output(search.add("ArgMax", nearness, axis=1, keepdims=0))
        self.search = Network(search, processor._replace(threads=1))

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
        return self.nearest(latents).reshape(len(magnitudes), -1, self.config.rows)

    def nearest(self, latents: Array) -> Array:
        """Latents (n, dim) -> indices of the nearest entries (n,), uint16."""
        step = self.SEARCHED * self.config.rows
        found = [
            self.search(latents=latents[i : i + step])[0] for i in range(0, len(latents), step)
        ]
        return np.concatenate(found).astype(np.uint16)


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


class Decoder:
    """Indices to log-mel."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config, self.look_ahead = config, config.decoder_look_ahead
        self.codebook = read_codebook(config, folder)
        with read_weights(folder, "decoder") as weights:
            skip = weights / "decoder" / "skip"
            self.skip = skip["weight"], skip["bias"]
            self.network = Network(self._graph(weights / "decoder"), processor)

    def _graph(self, weights: Weights) -> Graph:
        c, g = self.config, Graph()
        size = c.rows * c.latent_dim
        seen = g.frames("seen", size)
        x = g.convolution(seen, weights / "embed", 2 + self.look_ahead, size)
        x = blocks(g, x, weights / "blocks", c.decoder_blocks)
        x = g.dense(x, weights / "spread")
        x = g.add("Reshape", x, g.integers(0, 1, -1, c.decoder_fine_width))
        x = blocks(g, x, weights / "fine_blocks", c.decoder_fine_blocks)
        x = g.dense(x, weights / "refine")
        latents = g.input("latents", "B", "T", size)
        latents = g.add("Reshape", latents, g.integers(0, 0, c.rows, c.latent_dim))
        coarse = g.dense(latents, weights / "skip")
        shape = g.integers(0, 0, c.rows, c.patch_frames, c.patch_bands)
        coarse = g.add("Transpose", g.add("Reshape", coarse, shape), perm=[0, 1, 3, 2, 4])
        coarse = g.add("Reshape", coarse, g.integers(0, 1, -1, c.mel_bands))
        g.output_frames(g.affine(g.add("Add", coarse, x), SPREAD, MEAN))
        return g

    def lookup(self, indices: Array) -> Array:
        """Indices (...) -> entries (..., dim)."""
        return self.codebook[indices]

    def __call__(self, latents: Array, past: Past, last: bool) -> Array:
        """(B, columns, rows, dim) -> log-mel (B, frames, bands)."""
        flat, ahead = flattened(latents), self.look_ahead
        seen = with_past(self, flat, 1 + ahead, past, last, ahead)
        columns = seen.shape[1] - 1 - ahead
        if columns <= 0:
            return np.zeros((len(flat), 0, self.config.mel_bands), np.float32)
        # What is put out now, for the linear path of each patch.
        (mel,) = self.network(past, seen=seen, latents=seen[:, 1 : 1 + columns])
        return mel

    def patches(self) -> Array:
        """Each codebook entry by itself, as the log-mel it means: (entries, bands, frames)."""
        c, (weight, bias) = self.config, self.skip
        values = self.codebook @ weight.T + bias
        patches = values.reshape(-1, c.patch_frames, c.patch_bands) * SPREAD + MEAN
        return patches.swapaxes(1, 2)

    def look_back(self, latents: Array, past: Past) -> None:
        """Puts better latents (B, 1, rows, dim) in the place of the last column's.

        The decoder has used it as what comes next, but made no mel of it yet.
        """
        past[self] = np.concatenate([past[self][:, :-1], flattened(latents)], 1)


class Concealment:
    """What stands in for lost columns."""

    HISTORY = 15
    """columns up to the one that is predicted, on which it depends"""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        with read_weights(folder, "concealment") as weights:
            graph = self._graph(config, weights / "concealment")
            # Of some fifteen columns.
            self.network = Network(graph, processor._replace(threads=1))

    @staticmethod
    def _graph(config: CodecConfig, weights: Weights) -> Graph:
        g, size = Graph(), config.rows * config.latent_dim
        seen = g.frames("seen", 2 * size + 1)
        x = g.convolution(seen, weights / "embed", 4, 2 * size + 1)
        x = blocks(g, x, weights / "blocks", config.concealment_blocks)
        x = g.norm(x, weights / "norm", config.concealment_width)
        g.output_frames(g.dense(x, weights / "head"))
        return g

    @staticmethod
    def hold(latents: Array, lost: Array) -> Array:
        """Latents (B, columns, rows, dim) with the last one received in place of each lost one.

        lost: (B, columns), bool. Before the first one received stand zeros.
        """
        number = np.arange(1, lost.shape[1] + 1)
        heard = np.maximum.accumulate(np.where(lost, 0, number), 1)
        padded = np.concatenate([np.zeros_like(latents[:, :1]), latents], 1)
        return np.take_along_axis(padded, heard[..., None, None], 1)

    def __call__(self, latents: Array, lost: Array) -> Array:
        """What `hold` gives, and for the lost columns the correction of it."""
        held = flattened(self.hold(latents, lost))
        missing = lost[..., None]
        # What comes after the last column is not known: as if it were lost.
        ahead = np.concatenate([held, held[:, -1:]], 1)
        lost_ahead = np.pad(missing, ((0, 0), (0, 1), (0, 0)), constant_values=True)
        x = np.concatenate([ahead, ahead * ~lost_ahead, lost_ahead.astype(held.dtype)], -1)
        # Two columns before the first one and one after the last.
        (correction,) = self.network(seen=np.pad(x, ((0, 0), (2, 1), (0, 0))))
        return (held + correction[:, :-1] * missing).reshape(latents.shape)


class SpectralVocoder:
    """Log-mel frames to samples: a spectrum for each frame, then one inverse STFT."""

    KERNEL = 7

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config, self.look_ahead = config, config.vocoder_look_ahead
        with read_weights(folder, "spectral") as weights:
            own = weights / "spectral"
            self.pitch = Network(self._pitch(own / "excitation"), processor._replace(threads=1))
            self.spectrum = Network(self._spectrum(own), processor)
            self.synthesis = Synthesis(own["inverse_stft.window"], config.hop)
        self.excitation = Excitation(config)
        self.consistency = Consistency(config)

    def _seen(self, g: Graph, weights: Weights) -> str:
        mel = g.affine(g.frames("seen", self.config.mel_bands), 1 / SPREAD, -MEAN / SPREAD)
        return g.convolution(mel, weights / "embed", self.KERNEL, self.config.mel_bands)

    def _pitch(self, weights: Weights) -> Graph:
        g = Graph()
        x = blocks(g, self._seen(g, weights), weights / "blocks", PITCH_BLOCKS)
        x = g.norm(x, weights / "norm", PITCH_WIDTH)
        g.output_frames(g.dense(x, weights / "head"))
        return g

    def _spectrum(self, weights: Weights) -> Graph:
        c, g = self.config, Graph()
        bins = c.vocoder_n_fft // 2 + 1
        x = g.norm(self._seen(g, weights), weights / "norm", c.vocoder_width)
        x = g.add("Add", x, g.dense(g.frames("features", 3), weights / "embed_pitch"))
        x = blocks(g, x, weights / "blocks", c.vocoder_blocks)
        x = g.norm(x, weights / "final_norm", c.vocoder_width)
        both = (weights / "head", weights / "source")
        weight, bias = (
            np.concatenate([layer[name] for layer in both]) for name in ("weight", "bias")
        )
        heads = g.split("Split", g.linear(x, weight, bias), count=6, axis=3)
        correction, real, imaginary, gate, a, b = heads
        mel = g.add("Exp", g.frames("mel", c.mel_bands))
        prior = g.linear(mel, np.abs(weights["inverse"]).T)
        prior = g.add("Log", g.add("Max", prior, g.value(1e-5)))
        level, cosine, sine = (g.frames(name, bins) for name in ("level", "cosine", "sine"))
        log_amplitude = g.add("Add", prior, correction)
        log_amplitude = g.add("Add", log_amplitude, g.add("Mul", gate, level))
        g.output_frames(g.add("Exp", g.add("Min", log_amplitude, g.value(6.0))))
        # The excitation's phasor, turned and stretched by (a, b), beside an absolute part.
        turned = g.add("Sub", g.add("Mul", a, cosine), g.add("Mul", b, sine))
        real = g.add("Add", real, turned)
        turned = g.add("Add", g.add("Mul", a, sine), g.add("Mul", b, cosine))
        imaginary = g.add("Add", imaginary, turned)
        squares = (g.add("Mul", part, part) for part in (real, imaginary))
        length = g.add("Sqrt", g.add("Add", g.add("Add", *squares), g.value(1e-2)))
        g.output_frames(g.add("Div", real, length))
        g.output_frames(g.add("Div", imaginary, length))
        return g

    def start(self, past: Past, frame: int) -> None:
        """Begins a stream in the middle: the number of its first frame."""
        self.excitation.start(past, frame)

    def polar(self, mel: Array, past: Past, last: bool) -> tuple[Array, Array, Array]:
        """Log-mel (B, frames, bands) -> amplitudes, and cosines and sines of the phases.

        (B, frames, bins) each, of as many frames as are complete.
        """
        ahead = self.look_ahead
        seen = with_past(self, mel, self.KERNEL - 1, past, last, ahead, MEAN)
        frames = seen.shape[1] - self.KERNEL + 1
        if frames <= 0:
            nothing = np.zeros((len(mel), 0, self.config.vocoder_n_fft // 2 + 1), np.float32)
            return nothing, nothing, nothing
        (logits,) = self.pitch(past, seen=seen)
        pitch = self.excitation.pitch(logits, past)
        cosine, sine, level = self.excitation(pitch)
        start = self.KERNEL - 1 - ahead
        amplitude, cosine, sine = self.spectrum(
            past,
            seen=seen,
            mel=seen[:, start : start + frames],
            features=pitch.features(),
            cosine=cosine,
            sine=sine,
            level=level,
        )
        return amplitude, cosine, sine

    def __call__(self, mel: Array, past: Past, last: bool) -> Array:
        """Log-mel (B, frames, bands) -> samples (B, n), |sample| not limited."""
        spectrum = self.consistency(*self.polar(mel, past, last), past, last)
        return self.synthesis(spectrum, past, last)


class HifiGan:
    """The paper's vocoder: a causal HiFi-GAN generator (Kong et al. 2020)."""

    KERNEL = 7

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        self.config, self.look_ahead = config, config.vocoder_look_ahead
        with read_weights(folder, "hifigan") as weights:
            self.network = Network(self._graph(weights / "hifigan"), processor)

    def _graph(self, weights: Weights) -> Graph:
        c, g = self.config, Graph()
        mel = g.frames("seen", c.mel_bands)
        amplitude = g.linear(g.add("Exp", mel), mel_inverse(c).T)
        amplitude = g.add("Log", g.add("Max", amplitude, g.value(1e-5)))
        x = g.affine(g.add("Concat", mel, amplitude, axis=3), 1 / SPREAD, -MEAN / SPREAD)
        channels = c.mel_bands + c.vocoder_n_fft // 2 + 1
        x = g.convolution(x, weights / "embed", self.KERNEL, channels)
        x = g.add("Transpose", g.add("Squeeze", x, g.integers(1)), perm=[0, 2, 1])
        width = c.hifigan_width
        for i, (stride, kernel) in enumerate(zip(STRIDES, KERNELS, strict=True)):
            history, half = -(-kernel // stride) - 1, width // 2
            x = g.remember(self._activation(g, x), history, width, history)
            filters = self._filters(g, weights / "upsamples" / str(i), (width, half, kernel), half)
            x = g.add("ConvTranspose", x, *filters, strides=[stride])
            x = g.slice(x, history * stride, -(kernel - stride) or LAST)
            x, width = self._residual(g, x, half, weights / "residuals" / str(i)), half
        x = g.remember(self._activation(g, x), 6, width, 6)
        x = g.add("Conv", x, *self._filters(g, weights / "final", (1, width, 7), 1))
        g.output(g.add("Squeeze", g.add("Tanh", x), g.integers(1)))
        return g

    def _activation(self, g: Graph, x: str) -> str:
        return g.add("LeakyRelu", x, alpha=SLOPE)

    @staticmethod
    def _filters(g: Graph, layer: Weights, shape: tuple[int, ...], biases: int) -> list[str]:
        weights = layer / "conv"
        return [
            g.value(weights["weight"].reshape(shape)),
            g.value(weights["bias"].reshape(biases)),
        ]

    def _residual(self, g: Graph, x: str, width: int, weights: Weights) -> str:
        stacks = []
        for i, kernel in enumerate(RESIDUAL_KERNELS):
            y = x
            for j, dilation in enumerate(DILATIONS):
                history = (kernel - 1) * dilation
                z = g.remember(self._activation(g, y), history, width, history)
                layer = weights / "stacks" / str(i) / str(j)
                filters = self._filters(g, layer, (width, width, kernel), width)
                y = g.add("Add", y, g.add("Conv", z, *filters, dilations=[dilation]))
            stacks.append(y)
        return g.affine(g.add("Sum", *stacks), 1 / len(stacks))

    def start(self, past: Past, frame: int) -> None:
        """A stream may begin anywhere."""

    def __call__(self, mel: Array, past: Past, last: bool) -> Array:
        """Log-mel (B, frames, bands) -> samples (B, n), within [-1, 1]."""
        ahead = self.look_ahead
        seen = with_past(self, mel, self.KERNEL - 1, past, last, ahead, MEAN)
        if seen.shape[1] < self.KERNEL:
            return np.zeros((len(mel), 0), np.float32)
        (samples,) = self.network(past, seen=seen)
        return samples
