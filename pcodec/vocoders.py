"""The vocoders by name. A new one is a file in each layer, and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pcodec.config import CodecConfig
    from pcodec.runtime.network import Processor
    from pcodec.runtime.state import Array, State

VOCODERS = {
    "spectral": "SpectralVocoder",
    "hifigan": "HifiGan",
}
"""Class by name, the default vocoder first. NAME is its file in each layer, and its weights'."""


class Vocoder(Protocol):
    """A vocoder that runs: log-mels and low bands in, samples out."""

    def __init__(self, config: CodecConfig, folder: Path, processor: Processor) -> None:
        """folder: of the model. PcodecError if its weights do not fit."""

    @staticmethod
    def latency(config: CodecConfig) -> int:
        """Samples that the output waits for after the last one of its own frame."""

    @staticmethod
    def history(config: CodecConfig) -> int:
        """Frames before one on which its samples depend."""

    def start(self, state: State, frame: int) -> None:
        """Begins a stream at a frame, by its number."""

    def __call__(self, mel: Array, low: Array, state: State, last: bool) -> Array:
        """Log-mel (B, frames, bands) and low band (B, frames, 2 * bins) -> samples (B, n)."""


def runtime_class(name: str) -> type[Vocoder]:
    """The class that runs; loads ONNX Runtime."""
    return _class("runtime", name)


def network_class(name: str) -> Any:
    """The class that is trained, a module made from a `CodecConfig`; loads torch."""
    return _class("networks", name)


def _class(layer: str, name: str) -> Any:
    return getattr(import_module(f"pcodec.{layer}.{name}"), VOCODERS[name])
