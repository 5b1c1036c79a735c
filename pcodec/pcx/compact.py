"""The entropy models of installed codec models, by what a stream's header asks for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pcodec import models
from pcodec.errors import PcodecError
from pcodec.models import Model
from pcodec.pcx.layout import Header
from pcodec.runtime.entropy import EntropyModel


def entropy_model(header: Header, model: Model | None = None) -> EntropyModel:
    """What decodes blocks of kind C of a stream; ModelMismatchError if it is not installed.

    With ``model`` no other one is considered.
    """
    return load(models.for_blocks(header, model))


@lru_cache(4)
def _load(folder: str, wanted: bytes) -> EntropyModel:
    found = EntropyModel(models.read_model(Path(folder)).config, Path(folder))
    if found.id != wanted:
        raise PcodecError.of_file(folder, "entropy.safetensors is not that of config.json")
    return found


def load(model: Model) -> EntropyModel:
    """A model's entropy model; PcodecError if it has none."""
    if model.entropy_id is None:
        raise PcodecError(f"model {model.name} has no entropy model, so it cannot code compactly")
    return _load(str(model.folder), model.entropy_id)
