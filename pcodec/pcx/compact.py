"""The entropy models of installed codec models, by what a stream's header asks for."""

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
    """What decodes blocks of kind C of a stream; ModelMismatchError if it is not installed.

    With ``model`` no other one is considered.
    """
    return load(models.for_blocks(header, model))


def strength_for(model: Model, bit_rate: float) -> float:
    """How strongly bits are to count in `EntropyModel.choose`, so that speech takes a bit rate.

    bit_rate: bit/s of payload, on average over speech: noise takes more, silence less. By the
    table "rates" of the model's config.json, which `benchmarks/rates.py` has measured. PcodecError
    if that does not reach it.
    """
    load(model)
    rates = sorted((rate, strength) for strength, rate in model.about.get("rates", []))
    if not rates:
        raise PcodecError(f"model {model.name} does not say what bit rates it can have")
    if bit_rate >= rates[-1][0]:
        return 0.0
    if bit_rate < rates[0][0]:
        least, most = rates[0][0] / 1000, rates[-1][0] / 1000
        wanted = f"{bit_rate / 1000:g} kbit/s"
        raise PcodecError(f"{wanted}: model {model.name} has {least:.1f} to {most:.1f} kbit/s")
    return float(np.interp(bit_rate, *np.array(rates).T))


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
