"""`make demo`: encodes and decodes a file on the command line, measures it, draws spectrograms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from pcodec.eval import metrics

COMMAND = (sys.executable, "-m", "pcodec")


def draw(reference: metrics.Samples, decoded: metrics.Samples, path: Path) -> None:
    """Draws the spectrograms of both side by side, from -80 to 0 dB."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(14, 4.5), sharey=True, layout="constrained")
    for axis, samples, title in zip(
        axes, (reference, decoded), ("original", "decoded, 7.5 kbit/s"), strict=True
    ):
        padded = np.pad(samples, 256)
        frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::128] * np.hanning(512)
        level = 20 * np.log10(np.abs(np.fft.rfft(frames)).T / 128 + 1e-9)
        extent = (0, len(samples) / metrics.RATE, 0, metrics.RATE / 2000)
        axis.imshow(
            level, origin="lower", aspect="auto", extent=extent, vmin=-80, vmax=0, cmap="magma"
        )
        axis.set(title=title, xlabel="s")
    axes[0].set_ylabel("kHz")
    figure.savefig(path, dpi=110)


def main(source: Path, folder: Path) -> None:
    """Encodes and decodes a 16 kHz file into a folder; prints bit rate, duration, PESQ and STOI."""
    folder.mkdir(exist_ok=True)
    coded, decoded = folder / f"{source.stem}.pcx", folder / f"{source.stem}.wav"
    for arguments in (("encode", "-f", source, coded), ("decode", "-f", coded, decoded)):
        subprocess.run([*COMMAND, *map(str, arguments)], check=True)
    about = json.loads(subprocess.check_output([*COMMAND, "info", "--json", str(coded)]))
    a, b = (soundfile.read(path, dtype="float32")[0] for path in (source, decoded))
    draw(a, b, folder / f"{source.stem}.png")
    print(f"source       {source}")
    print(f"coded        {coded}: {about['file_bytes']} bytes")
    print(f"decoded      {decoded}")
    print(f"picture      {folder / source.stem}.png")
    print(f"duration     {about['duration']:.3f} s")
    print(f"bit rate     {about['codec_bit_rate']:.0f} bit/s, on disk {about['file_bit_rate']:.0f}")
    print(f"PESQ-WB      {metrics.pesq_wb(a, b):.2f}")
    print(f"STOI         {metrics.stoi(a, b):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
