"""Finds the entropy model that a stream or a codec model needs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from pcodec import models
from pcodec.errors import PcodecError
from pcodec.models import Model
from pcodec.pcx.layout import Header
from pcodec.runtime.entropy import EntropyModel


def entropy_model(header: Header, model: Model | None = None) -> EntropyModel:
    """The entropy model for the blocks of type C of a stream.

    model: the only codec model to look in; None for all that are installed. ModelMismatchError if
    none has it.
    """
    return load(models.for_blocks(header, model))


def strength_for(model: Model, bit_rate: float) -> float:
    """The ``strength`` for `EntropyModel.choose` at which speech has a bit rate on average.

    bit_rate: bit/s of payload, averaged over speech; noise takes more, silence less. Interpolates
    the table "rates" of the model's config.json, which `benchmarks/rates.py` measures. 0 for a bit
    rate above the table, PcodecError for one below it.
    """
    load(model)
    rates = sorted((rate, strength) for strength, rate in model.about.get("rates", []))
    if not rates:
        raise PcodecError(f"model {model.name} has no table of bit rates in its config.json")
    if bit_rate >= rates[-1][0]:
        return 0.0
    if bit_rate < rates[0][0]:
        least, most = rates[0][0] / 1000, rates[-1][0] / 1000
        wanted = f"{bit_rate / 1000:g} kbit/s"
        raise PcodecError(f"{wanted}: model {model.name} reaches {least:.1f} to {most:.1f} kbit/s")
    return float(np.interp(bit_rate, *np.array(rates).T))


@lru_cache(4)
def _load(folder: str, wanted: bytes) -> EntropyModel:
    found = EntropyModel(models.read_model(Path(folder)).config, Path(folder))
    if found.id != wanted:
        raise PcodecError.of_file(
            folder, "entropy.safetensors does not match the entropy id in config.json"
        )
    return found


def load(model: Model) -> EntropyModel:
    """A model's entropy model; PcodecError if it has none."""
    if model.entropy_id is None:
        raise PcodecError(f"model {model.name} has no entropy model, so it cannot code compactly")
    return _load(str(model.folder), model.entropy_id)
