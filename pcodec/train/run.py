"""A stage from its recipe: networks, data, loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from pcodec.audio.clips import find_clips
from pcodec.config import CodecConfig
from pcodec.errors import PcodecError
from pcodec.networks.checkpoint import Networks, read_about
from pcodec.train import loop
from pcodec.train.data import Batches, Corpus
from pcodec.train.stages import STAGES
from pcodec.train.stages.base import Settings


def run_stage(
    name: str,
    recipe: dict[str, Any],
    data: Path,
    noise: Path | None,
    dev: Path | None,
    out: Path,
    init: Path | None,
    steps: int | None,
    device: str = "cpu",
) -> None:
    """Runs one stage of a recipe to its end, from what lies in ``out`` and in ``init``."""
    kind = STAGES[name]
    try:
        settings = Settings(**recipe[name])
        config = CodecConfig(**recipe.get("codec", {}))
    except (TypeError, ValueError) as error:
        raise PcodecError(f"the recipe's stage {name}: {error}") from error
    if steps is not None:
        settings = dataclasses.replace(settings, steps=steps)
    torch.manual_seed(settings.seed)
    networks = Networks(config)
    read_about(out)  # what cannot be read could not be saved into, after the first minutes
    for part in networks.PARTS:
        for folder in (out, init):
            if folder is not None and (folder / f"{part}.safetensors").exists():
                networks.load(folder, (part,))
                break
        else:
            if part in kind.needs:
                raise PcodecError(f"{out}: stage {name} needs a trained {part}")
    try:
        stage = kind(networks.to(device), settings)
    except ValueError as error:
        raise PcodecError(f"the recipe's stage {name}: {error}") from error
    if stage.game is not None:
        opponent = loop.discriminator_file(name)
        for folder in (out, init):
            if folder is not None and (folder / opponent).exists():
                stage.game.load(folder / opponent)
                break
    cache = out / "cache"
    corpus = Corpus(data, cache, config.sample_rate)
    noises = Corpus(noise, cache, config.sample_rate) if noise else None
    length = settings.columns * config.column_samples + 2 * networks.mel.overhang
    batches = Batches(corpus, noises, settings.batch, length, settings.seed)
    # Every third clip is enough to follow the training.
    paths = [path for path, _ in find_clips(dev)][::3] if dev else []
    clips = loop.read_clips(paths, config.sample_rate, config.column_samples)
    if dev and not clips:
        raise PcodecError(f"{dev}: no clip is long enough to measure on")
    loop.run(stage, batches, out, clips)
