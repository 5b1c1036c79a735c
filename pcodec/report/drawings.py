"""Drawings of the patch grid of a stream and of the codebook."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pcodec import models
from pcodec.eval.metrics import entropy_bits
from pcodec.pcx.layout import Header
from pcodec.runtime.decoder import Decoder, entry_patches
from pcodec.runtime.network import Processor

MAX_COLUMNS = 1875
"""Seconds that a picture shows."""


def levels(model: models.Model) -> NDArray[np.int64]:
    """The rank of each codebook entry by the loudness of its patch: (entries,)."""
    return entry_patches(model.config, model.folder).mean((1, 2)).argsort().argsort()


def figure(width: float, height: float, rows: int) -> tuple[Any, Any]:
    """A figure with rows of pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, 1, figsize=(width, height), layout="constrained", squeeze=False)


def draw_stream(
    header: Header, model: models.Model, indices: NDArray[np.int64], out: BinaryIO
) -> None:
    """Draws a PNG of the grid (columns, rows) of a stream, its decoded mel and its codebook use.

    Lost columns, -1, stay white. Shows at most the first minute.
    """
    from matplotlib.colors import PowerNorm

    decoder = Decoder(model.config, model.folder, Processor())
    indices = indices[:MAX_COLUMNS]
    seconds = len(indices) * header.column_samples / header.sample_rate
    mel, low = (x[0] for x in decoder(decoder.lookup(indices.clip(0))[None], {}, last=True))
    lost = indices[:, 0] < 0
    mel[lost.repeat(header.patch_frames)] = low[lost.repeat(header.patch_frames)] = np.nan
    rows = header.mel_rows
    patches = np.where(indices < 0, np.nan, levels(model)[indices])[:, :rows]
    phases = np.where(indices < 0, np.nan, indices)[:, rows:]
    drawing, axes = figure(min(40.0, 4 + 2.2 * seconds), 13, 5)
    (phase_grid, mel_grid, low_band, decoded, use) = axes[:, 0]
    common = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    extent: tuple[float, float, float, float] = (0, seconds, rows, header.rows)
    phase_grid.imshow(phases.T, extent=extent, cmap="twilight", **common)
    phase_grid.set(title="indices of the phase rows", ylabel="row")
    mel_grid.imshow(patches.T, extent=(0, seconds, 0, rows), cmap="viridis", **common)
    mel_grid.set(title="indices of the mel's patches, coloured by their loudness", ylabel="row")
    bin_hertz = header.sample_rate / model.config.window
    bins = model.config.low_bins
    extent = (0, seconds, bin_hertz / 2, (bins + 0.5) * bin_hertz)
    limits = {"vmin": -3, "vmax": 3}
    low_band.imshow(low[:, :bins].T, extent=extent, cmap="RdBu", **limits, **common)
    low_band.set(title="decoded low band: real part of its spectrum", ylabel="Hz")
    extent = (0, seconds, 0, header.mel_bands)
    decoded.imshow(mel.T, extent=extent, cmap="magma", **common)
    decoded.set(title="decoded log-mel", ylabel="band", xlabel="s")
    counts = np.bincount(indices[~lost].ravel(), minlength=model.config.codebook_entries)
    picture = counts.reshape(min(16, len(counts)), -1)
    shown = use.imshow(picture, cmap="cividis", norm=PowerNorm(0.5), aspect="auto")
    drawing.colorbar(shown, ax=use, label="times used")
    bits = entropy_bits(counts) if counts.any() else 0.0
    use.set(
        title=f"codebook: {int((counts > 0).sum())} of {len(counts)} entries, {bits:.2f} bits",
        xticks=[],
        yticks=[],
    )
    drawing.savefig(out, format="png", dpi=80)


def draw_codebook(model: models.Model, out: BinaryIO) -> None:
    """Draws a PNG of all entries of a codebook as small pictures, from quiet to loud.

    Within a row they are sorted from falling to rising in time.
    """
    pictures = entry_patches(model.config, model.folder)
    rows = 1 << model.config.bits // 2
    order = pictures.mean((1, 2)).argsort().reshape(rows, -1)
    rise = pictures[..., -1].mean(1) - pictures[..., 0].mean(1)
    order = np.stack([row[rise[row].argsort()] for row in order])
    bands, frames = pictures.shape[1:]
    gap = 1
    sheet = np.full((rows * (bands + gap), order.shape[1] * (frames + gap)), np.nan)
    for r, row in enumerate(order):
        for c, entry in enumerate(row):
            # All on one scale; low bands at the bottom.
            y, x = r * (bands + gap), c * (frames + gap)
            sheet[y : y + bands, x : x + frames] = pictures[entry][::-1]
    drawing, axes = figure(10, 10.4, 1)
    axis = axes[0, 0]
    axis.imshow(sheet, cmap="magma", interpolation="nearest")
    axis.set(
        title=f"{model.name}: {len(pictures)} entries, each {bands} bands x {frames} frames",
        xlabel="falling in time <-> rising",
        ylabel="loud <-> quiet",
        xticks=[],
        yticks=[],
    )
    drawing.savefig(out, format="png", dpi=100)
