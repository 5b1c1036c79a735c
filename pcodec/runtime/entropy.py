"""The probability model of indices, and entropy coding of blocks with it.

Codebook entries are the leaves of a binary tree. An index is coded as two symbols: the upper half
of the levels, then the lower half. A causal network predicts both from the columns before, and from
the groups of rows of the same column that are decoded already. The rows of a group are independent.

All arithmetic is in integers: 8-bit weights, 7-bit activations, sums below 2**24. A float32 holds
each of them exactly, so a matrix product is the same in any order of summation, on any processor
(Balle, Johnston and Minnen 2019, "Integer networks for data compression with latent-variable
models").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcodec.config import ENTROPY_FAR, ENTROPY_MAX, ENTROPY_NEAR, CodecConfig
from pcodec.errors import PcodecError
from pcodec.models import entropy_id
from pcodec.pcx import rans
from pcodec.pcx.packing import Indices
from pcodec.runtime.state import Array
from pcodec.runtime.weights import Weights, read_weights

_SIXTEENTHS = "65536 62757 60097 57549 55109 52772 50535 48393 46341 44376 42495 40693 38968 37316"
_SIXTEENTHS += " 35734 34219"
LIKELIHOODS = np.array([int(_SIXTEENTHS.split()[k % 16]) >> k // 16 for k in range(256)], np.int64)
"""65536 * 2**(-k / 16): likelihood of a symbol whose logit is k steps below the largest one."""

Pick = Callable[[int, Array, Array], Array]
"""(column, rows of a group, features (n, rows, hidden)) -> places in the tree (n, rows)."""


class Linear:
    """A linear layer in integers: floor((weight x + bias) / 2**shift)."""

    def __init__(self, weights: Weights, channels: int, out_channels: int, *rows: int) -> None:
        """weights: "weight" (out_channels, channels), "bias" (*rows, out_channels), "shift"."""
        weight = weights["weight"].reshape(out_channels, channels)
        bias = weights["bias"].reshape(*rows, out_channels)
        shift = weights["shift"].reshape(out_channels)
        self.weight = np.ascontiguousarray(weight.T)
        self.bias, self.scale = bias, np.exp2(-shift)
        largest = ENTROPY_MAX * np.abs(weight).sum(1) + np.abs(bias).reshape(-1, len(weight)).max(0)
        if not (largest < 1 << 24).all() or (np.abs(weight) > ENTROPY_MAX).any():
            raise ValueError("sums too large for an exact float32")

    def __call__(self, x: Array) -> Array:
        """(..., channels) -> (..., out_channels)"""
        # As one matrix product: NumPy would compute one per leading index.
        sums = (x.reshape(-1, x.shape[-1]) @ self.weight).reshape(*x.shape[:-1], -1)
        return np.floor((sums + self.bias) * self.scale)


def rectified(x: Array) -> Array:
    """The activation function: clips to 0 to `ENTROPY_MAX`."""
    return np.clip(x, 0, ENTROPY_MAX)


def frequencies(logits: Array) -> Array:
    """Logits (..., symbols) -> frequencies, int64, at least 1, with the sum `rans.TOTAL`."""
    steps = np.minimum(logits.max(-1, keepdims=True) - logits, len(LIKELIHOODS) - 1)
    likelihoods = LIKELIHOODS[steps.astype(np.intp)]
    spare = rans.TOTAL - logits.shape[-1]
    result = 1 + likelihoods * spare // likelihoods.sum(-1, keepdims=True)
    # The rest after rounding down goes to the likeliest symbol, the first one of several.
    first = logits.argmax(-1)[..., None]
    rest = rans.TOTAL - result.sum(-1, keepdims=True)
    np.put_along_axis(result, first, np.take_along_axis(result, first, -1) + rest, -1)
    return result


def cumulative(counts: Array) -> Array:
    """Frequencies (..., symbols) -> cumulative frequencies (..., symbols + 1), from 0 on."""
    sums = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1), np.int64)
    np.cumsum(counts, -1, out=sums[..., 1:])
    return sums


class EntropyModel:
    """Codes blocks of indices (columns, rows) as bytes, and decodes them."""

    LANES = 32
    """Blocks that are decoded as one batch."""

    def __init__(self, config: CodecConfig, folder: Path) -> None:
        """Loads the entropy model of a model folder; PcodecError if it has none."""
        self.rows, self.width = config.rows, config.entropy_width
        self.hidden, self.dim = config.entropy_hidden, config.entropy_dim
        self.lower = 1 << config.bits // 2
        self.upper = config.codebook_entries // self.lower
        with read_weights(folder, "entropy") as file:
            self.id = entropy_id(file.stored)
            weights = file / "entropy"
            rows, width, hidden, size = config.rows, self.width, self.hidden, config.rows * self.dim
            entries = config.codebook_entries
            self.order = weights["order"].reshape(entries).astype(np.int64)
            if not (np.sort(self.order) == np.arange(config.codebook_entries)).all():
                raise ValueError("order does not contain each entry once")
            self.place = np.argsort(self.order)
            self.embedding = weights["embedding"].reshape(entries, self.dim)
            if (np.abs(self.embedding) > ENTROPY_MAX).any():
                raise ValueError("sums too large for an exact float32")
            self.near = Linear(weights / "near", len(ENTROPY_NEAR) * size, width)
            self.far = Linear(weights / "far", len(ENTROPY_FAR) * width, width)
            self.column = Linear(weights / "column", width + size, rows * hidden)
            self.mix = Linear(weights / "mix", hidden, hidden)
            self.coarse = Linear(weights / "coarse", hidden, self.upper, rows)
            self.fine = Linear(weights / "fine", hidden, entries, rows)
        self.groups = [np.array(group) for group in config.entropy_groups]
        shape = self.width + self.rows * self.dim, self.rows, self.hidden
        column = self.column.weight.reshape(shape)
        self._history = np.ascontiguousarray(column[: self.width].reshape(self.width, -1))
        seen = column[self.width :].reshape(self.rows, self.dim, self.rows, self.hidden)
        for i, group in enumerate(self.groups):
            later = np.concatenate(self.groups[i:])
            if seen[later][:, :, group].any():
                raise PcodecError.of_file(
                    folder / "entropy.safetensors", "a row would depend on rows that come after it"
                )
        self._before = [
            np.ascontiguousarray(column[self.width :, group].reshape(shape[0] - self.width, -1))
            for group in self.groups
        ]
        fine = self.fine.weight.T.reshape(self.upper, self.lower, self.hidden)
        self._fine = np.ascontiguousarray(fine.transpose(0, 2, 1))

    # The network

    def _hidden(self, sums: Array, rows: Array) -> Array:
        """Sums (n, rows, hidden) of the layer `column` -> features (n, rows, hidden)."""
        scale = self.column.scale.reshape(self.rows, self.hidden)[rows]
        return rectified(self.mix(rectified(np.floor(sums * scale))))

    def _coarse(self, features: Array, rows: Array) -> Array:
        """Features (n, rows, hidden) -> frequencies of the upper halves, (n, rows, upper)."""
        logits = (features @ self.coarse.weight + self.coarse.bias[rows]) * self.coarse.scale
        return frequencies(np.floor(logits))

    def _fine_of(self, features: Array, rows: Array, coarse: Array) -> Array:
        """Features, and upper halves (n, rows) -> frequencies of the lower, (n, rows, lower)."""
        bias = self.fine.bias.reshape(self.rows, self.upper, self.lower)[rows, coarse]
        scale = self.fine.scale.reshape(self.upper, self.lower)[coarse]
        logits = (features[..., None, :] @ self._fine[coarse])[..., 0, :]
        return frequencies(np.floor((logits + bias) * scale))

    def _all_bits(self, features: Array, rows: Array) -> Array:
        """Features (n, rows, hidden) -> bits of each place in the tree, (n, rows, entries)."""
        logits = np.floor((features @ self.fine.weight + self.fine.bias[rows]) * self.fine.scale)
        fine = frequencies(logits.reshape(*logits.shape[:2], self.upper, self.lower))
        counts = self._coarse(features, rows)[..., None] * fine
        bits: Array = 2 * rans.TOTAL_BITS - np.log2(counts)
        return bits.reshape(logits.shape)

    def _context(self, x: Array, near: Array, first: int, last: int) -> Array:
        """What columns ``first`` to ``last - 1`` know of those before, (n, columns, width).

        x: embedded indices, (n, max(ENTROPY_NEAR) zeros + columns, rows * dim). near: outputs of
        the first layer, (n, max(ENTROPY_FAR) zeros + columns, width); set here for these columns.
        """
        new = near[:, max(ENTROPY_FAR) + first : max(ENTROPY_FAR) + last]
        new[:] = rectified(self.near(_earlier(x, ENTROPY_NEAR, first, last)))
        return rectified(self.far(_earlier(near, ENTROPY_FAR, first, last)))

    def _walk(self, lengths: Sequence[int], pick: Pick) -> list[Array]:
        """Codes blocks column by column; returns their places in the tree (columns, rows).

        lengths: columns of each block, longest first. pick: decodes or chooses the places of a
        group of rows.
        """
        count, most = len(lengths), max(lengths, default=0)
        before, reach = max(ENTROPY_NEAR), max(ENTROPY_FAR)
        x = np.zeros((count, before + most, self.rows * self.dim), np.float32)
        near = np.zeros((count, reach + most, self.width), np.float32)
        places = np.zeros((count, most, self.rows), np.int64)
        bias = self.column.bias.reshape(self.rows, self.hidden)
        for t in range(most):
            n = sum(length > t for length in lengths)
            context = self._context(x[:n], near[:n], t, t + 1)[:, 0]
            history = (context @ self._history).reshape(n, self.rows, self.hidden) + bias
            now = x[:n, before + t].reshape(n, self.rows, self.dim)
            for rows, weight in zip(self.groups, self._before, strict=True):
                sums = (now.reshape(n, -1) @ weight).reshape(n, len(rows), self.hidden)
                chosen = pick(t, rows, self._hidden(sums + history[:, rows], rows))
                places[:n, t, rows] = chosen
                now[:, rows] = self.embedding[chosen]
        return [p[:length] for p, length in zip(places, lengths, strict=True)]

    # Blocks

    def compress(self, blocks: Sequence[Indices]) -> list[bytes]:
        """Blocks of indices (columns, rows) -> bytes of each. Blocks are independent."""
        return [
            part for i in range(0, len(blocks), 8) for part in self._compress(blocks[i : i + 8])
        ]

    def _compress(self, blocks: Sequence[Indices]) -> list[bytes]:
        most = max(len(block) for block in blocks)
        places = np.zeros((len(blocks), most, self.rows), np.int64)
        for lane, block in zip(places, blocks, strict=True):
            lane[: len(block)] = self.place[block]
        features = self._features(places).reshape(-1, self.rows, self.hidden)
        coarse, fine = np.divmod(places.reshape(-1, self.rows), self.lower)
        rows = np.arange(self.rows)
        pairs = []
        for counts, symbols in (
            (self._coarse(features, rows), coarse),
            (self._fine_of(features, rows, coarse), fine),
        ):
            sums = cumulative(counts)
            below, after = (
                np.take_along_axis(sums, (symbols + i)[..., None], -1)[..., 0] for i in (0, 1)
            )
            pairs.append(np.stack([below, after - below], -1))
        order = np.concatenate(self.groups)
        # Of each group first all upper halves, then all lower ones: the order of decoding.
        turns = [half[:, group] for group in self.groups for half in pairs]
        symbols = np.concatenate(turns, 1).reshape(len(blocks), most, 2 * len(order), 2)
        return [
            rans.encode([(int(a), int(b)) for a, b in lane[: len(block)].reshape(-1, 2).tolist()])
            for lane, block in zip(symbols, blocks, strict=True)
        ]

    def _features(self, places: Array) -> Array:
        """Places (n, columns, rows), all known -> features (n * columns, rows, hidden)."""
        n, columns, _ = places.shape
        x = self.embedding[places].reshape(n, columns, -1).astype(np.float32)
        padded = np.pad(x, ((0, 0), (max(ENTROPY_NEAR), 0), (0, 0)))
        near = np.zeros((n, max(ENTROPY_FAR) + columns, self.width), np.float32)
        context = self._context(padded, near, 0, columns)
        sums = np.concatenate([context, x], -1) @ self.column.weight + self.column.bias
        return self._hidden(sums.reshape(n * columns, self.rows, self.hidden), np.arange(self.rows))

    def decompress(self, blocks: Sequence[tuple[bytes, int]]) -> list[Indices | None]:
        """(bytes, columns) of each block -> its indices, or None if the bytes are invalid."""
        order = sorted(range(len(blocks)), key=lambda i: -blocks[i][1])
        result: list[Indices | None] = [None] * len(blocks)
        for start in range(0, len(order), self.LANES):
            lanes = order[start : start + self.LANES]
            decoders = [rans.Decoder(blocks[i][0]) for i in lanes]
            places = self._walk([blocks[i][1] for i in lanes], self._reading(decoders))
            for i, decoder, lane in zip(lanes, decoders, places, strict=True):
                if decoder.finished:
                    result[i] = self.order[lane].astype(np.uint16)
        return result

    def choose(
        self, latents: Sequence[Array], distances: Callable[[Array], Array], strength: float
    ) -> list[Indices]:
        """Quantises blocks of latents (columns, rows, dim) to indices that take fewer bits.

        Entropy-constrained vector quantisation (Chou, Lookabaugh and Gray 1989): each latent, in
        the order of coding, gets the entry with the least distance + strength * bits.
        distances: latents (n, rows, dim) -> distances to all entries, (n, rows, entries).
        """
        if not latents:
            return []
        order = sorted(range(len(latents)), key=lambda i: -len(latents[i]))
        lengths = [len(latents[i]) for i in order]
        padded = np.zeros((len(latents), lengths[0], *latents[0].shape[1:]))
        for lane, i in zip(padded, order, strict=True):
            lane[: len(latents[i])] = latents[i]

        def pick(t: int, rows: Array, features: Array) -> Array:
            costs = distances(padded[: len(features), t, rows])[..., self.order]
            places: Array = (costs + strength * self._all_bits(features, rows)).argmin(-1)
            return places

        result: list[Indices] = [np.zeros((0, self.rows), np.uint16)] * len(latents)
        for i, lane in zip(order, self._walk(lengths, pick), strict=True):
            result[i] = self.order[lane].astype(np.uint16)
        return result

    def _reading(self, decoders: list[rans.Decoder]) -> Pick:
        """Decodes the places of a group of rows, one decoder per block."""

        def read(counts: Array) -> Array:
            sums = cumulative(counts).tolist()
            return np.array(
                [[d.symbol(row) for row in rows] for d, rows in zip(decoders, sums, strict=False)]
            )

        def pick(_: int, rows: Array, features: Array) -> Array:
            coarse = read(self._coarse(features, rows))
            return coarse * self.lower + read(self._fine_of(features, rows, coarse))

        return pick


def _earlier(padded: Array, distances: Sequence[int], first: int, last: int) -> Array:
    """The columns at some distances before columns ``first`` to ``last - 1``, concatenated.

    padded: (n, max(distances) zeros + columns, channels). Returns (n, last - first, channels of
    all distances).
    """
    start = max(distances)
    return np.concatenate([padded[:, start + first - d : start + last - d] for d in distances], -1)
