"""Concealment of lost columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcodec.config import CONCEALMENT_LOOK_AHEAD, CONCEALMENT_TAPS, CodecConfig
from pcodec.runtime.network import Network, Processor
from pcodec.runtime.quantizer import flattened
from pcodec.runtime.state import Array


class Concealment:
    """Concealment of lost columns."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        # Its products are too small for more threads.
        self.network = Network(config, folder, "concealment", processor._replace(threads=1))

    @staticmethod
    def hold(latents: Array, lost: Array) -> Array:
        """Latents (B, columns, rows, dim), each lost one replaced by the last one received.

        lost: (B, columns), bool. Before the first one received there are zeros.
        """
        number = np.arange(1, lost.shape[1] + 1)
        heard = np.maximum.accumulate(np.where(lost, 0, number), 1)
        padded = np.concatenate([np.zeros_like(latents[:, :1]), latents], 1)
        return np.take_along_axis(padded, heard[..., None, None], 1)

    def __call__(self, latents: Array, lost: Array) -> Array:
        """`hold`, plus a correction of the lost columns."""
        held = flattened(self.hold(latents, lost))
        missing = lost[..., None]
        # The column after the last one is unknown, so it counts as lost.
        ahead = np.concatenate([held, held[:, -1:]], 1)
        lost_ahead = np.pad(missing, ((0, 0), (0, 1), (0, 0)), constant_values=True)
        x = np.concatenate([ahead, ahead * ~lost_ahead, lost_ahead.astype(held.dtype)], -1)
        before = CONCEALMENT_TAPS - 1 - CONCEALMENT_LOOK_AHEAD
        around = ((0, 0), (before, CONCEALMENT_LOOK_AHEAD), (0, 0))
        (correction,) = self.network(seen=np.pad(x, around))
        return (held + correction[:, :-1] * missing).reshape(latents.shape)
