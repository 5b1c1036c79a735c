"""Training by a recipe: checks, a summary of what will be done, and the run of each stage."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from pcodec.audio.clips import find_clips
from pcodec.config import CodecConfig
from pcodec.errors import PcodecError, nearest
from pcodec.eval.metrics import METRICS
from pcodec.networks.checkpoint import Networks, read_about
from pcodec.train import loop
from pcodec.train.data import Batches, Corpus
from pcodec.train.precision import has_bfloat16
from pcodec.train.report import Length, duration, say
from pcodec.train.stages import STAGES, stage_class
from pcodec.train.stages.base import Settings
from pcodec.train.stop import Stop

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T", Settings, CodecConfig)

STATE_BYTES, WEIGHT_BYTES = 20, 2
"""Bytes per parameter: in a state (float32 weight, 2 of Adam, 2 of the average); in a model."""


def read_recipe(path: Path) -> dict[str, Any]:
    """The tables of a recipe; PcodecError if one is of no stage, or if there are none."""
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PcodecError.of_file(path, str(error)) from error
    for name, table in recipe.items():
        if name not in ("codec", *STAGES):
            like = nearest(name, STAGES)
            but = f"did you mean {like}?" if like else f"known: {', '.join(STAGES)}"
            raise PcodecError.of_file(path, f"no stage is called {name}; {but}")
        if not isinstance(table, dict):
            raise PcodecError.of_file(path, f"{name} is not a table")
    if not set(recipe) & set(STAGES):
        raise PcodecError.of_file(path, "has no stages")
    return recipe


def _from_table(kind: type[T], table: dict[str, Any], what: str) -> T:
    """Settings from a table of a recipe; PcodecError that names the entry if one is wrong."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in table:
        if name not in fields:
            like = nearest(name, fields)
            but = f"did you mean {like}?" if like else f"known: {', '.join(fields)}"
            raise PcodecError(f"the recipe's {what} has no {name}; {but}")
    try:
        return kind(**table)
    except (TypeError, ValueError) as error:
        raise PcodecError(f"the recipe's {what}: {error}") from error


def settings_of(
    stage: str, recipe: dict[str, Any], steps: int | None = None, batch_scale: int = 1
) -> tuple[CodecConfig, Settings]:
    """Sizes of the model, and settings of a stage, from a recipe; PcodecError if they are wrong.

    steps: replaces the recipe's. batch_scale: see `Settings.scaled`.
    """
    if stage not in recipe:
        raise PcodecError(f"the recipe has no stage [{stage}]")
    config = _from_table(CodecConfig, recipe.get("codec", {}), "[codec]")
    if "steps" not in recipe[stage]:
        raise PcodecError(f"the recipe's stage {stage} needs steps = ...")
    settings = _from_table(Settings, recipe[stage], f"stage {stage}")
    stage_class(stage).check(config, settings)
    if batch_scale > 1:
        settings = settings.scaled(batch_scale)
    return config, settings if steps is None else dataclasses.replace(settings, steps=steps)


def shares(stages: Sequence[str], recipe: dict[str, Any], minutes: float) -> dict[str, float]:
    """Divides minutes among stages, in proportion to the recipe's minutes, else to crops."""
    all_settings = {name: settings_of(name, recipe)[1] for name in stages}
    weights = {name: s.minutes for name, s in all_settings.items()}
    if not all(weights.values()):
        weights = {name: s.steps * s.batch * s.columns for name, s in all_settings.items()}
    return {name: minutes * weight / sum(weights.values()) for name, weight in weights.items()}


def _find(file: str, out: Path, init: Path | None) -> Path | None:
    """The folder of a file: ``out`` if it is there, else ``init``."""
    folders = [folder for folder in (out, init) if folder is not None]
    return next((folder for folder in folders if (folder / file).exists()), None)


def _check_weights(
    stages: Sequence[str], config: CodecConfig, out: Path, init: Path | None
) -> None:
    """PcodecError if a stage will lack weights, or if a folder holds a model of other sizes."""
    for folder in (out, init):
        about = {} if folder is None else read_about(folder)
        if "codec" in about and (other := _difference(about["codec"], config)):
            raise PcodecError.of_file(f"{folder}", f"holds a model of other sizes: {other}")
    there = {p for p in Networks.PARTS if _find(f"{p}.safetensors", out, init)}
    for name in stages:
        for part in stage_class(name).needs:
            if part not in there:
                maker = next(s for s in STAGES if part in stage_class(s).parts)
                text = f"stage {name} needs a trained {part}: train {maker} before, or --init"
                raise PcodecError(f"{out}: {text} a model that has it")
        there |= set(stage_class(name).parts)


def _difference(codec: dict[str, Any], config: CodecConfig) -> str | None:
    """The first difference between a model's configuration and a recipe's."""
    try:
        theirs, ours = CodecConfig(**codec).to_json(), config.to_json()
    except (TypeError, ValueError) as error:
        return str(error)
    for name, value in ours.items():
        if theirs[name] != value:
            return f"{name} is {theirs[name]} there, {value} in the recipe"
    return None


def _taken(stage: str, out: Path, length: Length) -> tuple[int, float]:
    """Steps that a stage has taken, and the share of the stage that is done."""
    state = loop.read_state(loop.state_file(out, stage), mmap=True)
    return (state["step"], length.share(state["step"], state["seconds"])) if state else (0, 0.0)


def _read_dev(dev: Path, config: CodecConfig) -> list[Tensor]:
    """The clips to measure on: every third file, which is enough to follow the training."""
    for metric in ("pesq", "stoi"):
        package = METRICS[metric].package
        if importlib.util.find_spec(package) is None:
            raise PcodecError(f"--dev: the package {package}, which measures, is not installed")
    paths = [path for path, _ in find_clips(dev)][::3]
    if not paths:
        raise PcodecError(f"{dev}: no audio files found")
    clips = loop.read_clips(paths, config.sample_rate, config.column_samples)
    if not clips:
        raise PcodecError(f"{dev}: no clip is long enough to measure on")
    return clips


def prepare(
    stages: Sequence[str],
    recipe: dict[str, Any],
    data: Path,
    noise: Path | None,
    dev: Path | None,
    out: Path,
    init: Path | None,
    steps: int | None,
    device: str,
    minutes: Mapping[str, float],
    batch_scale: int,
) -> None:
    """Checks what could stop the stages later, prints a summary, and reads the audio.

    Arguments as for `run_stage`, but minutes are given by stage.
    """
    every = {name: settings_of(name, recipe, steps, batch_scale) for name in stages}
    config, _ = every[stages[0]]
    _check_weights(stages, config, out, init)
    threads = torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    where = torch.cuda.get_device_name() if device == "cuda" else cpu
    numbers = "bfloat16" if has_bfloat16(torch.device(device)) else "float32"
    say(f"device: {where}, {numbers}")
    networks = Networks(config)
    disk = WEIGHT_BYTES * sum(t.numel() for t in networks.state_dict().values())
    for name, (_, settings) in every.items():
        length = Length(settings.steps, minutes.get(name))
        step, share = _taken(name, out, length)
        amount = f"{settings.steps} steps"
        if length.minutes is not None:
            amount = duration(60 * length.minutes)
        crop = settings.columns * config.column_samples / config.sample_rate
        begun = f", continues after step {step}" if step else ""
        begun = ", done" if share == 1 else begun
        say(f"stage {name}: {amount} of {settings.batch} crops of {crop:.2f} s{begun}")
        parts = (networks.part_tensors(part) for part in stage_class(name).parts)
        disk += STATE_BYTES * sum(t.numel() for tensors in parts for t in tensors.values())
    clips = 0 if dev is None else len(_read_dev(dev, config))
    corpora = {"speech": Corpus(data, out / "cache", config.sample_rate)}
    if noise is not None:
        corpora["noise"] = Corpus(noise, out / "cache", config.sample_rate)
    for kind, corpus in corpora.items():
        whose = f", {corpus.speakers} speakers" if kind == "speech" else ""
        hours = f"{corpus.seconds / 3600:.2f} hours"
        say(f"{kind}: {len(corpus.clips)} files, {hours}{whose} ({data if whose else noise})")
        disk += corpus.bytes
    if dev is not None:
        say(f"dev: {clips} clips, every third one, each up to 5 s ({dev})")
    else:
        say("dev: none (without --dev only the losses are logged)")
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    say(f"disk: {out} grows to about {disk / 1e9:.2f} GB; {free / 1e9:.0f} GB are free")
    for kind, corpus in corpora.items():
        if not corpus.is_read:
            say(f"reading the {kind} once, into {corpus.store.parent}")
        _ = corpus.samples


def run_stage(
    name: str,
    recipe: dict[str, Any],
    data: Path,
    noise: Path | None,
    dev: Path | None,
    out: Path,
    init: Path | None,
    steps: int | None = None,
    device: str = "cpu",
    minutes: float | None = None,
    batch_scale: int = 1,
    stop: Stop | None = None,
) -> None:
    """Runs one stage of a recipe to its end, from the weights in ``out`` and ``init``.

    steps, minutes: replace the recipe's steps. batch_scale: see `Settings.scaled`. stop: ends the
    stage early.
    """
    kind = stage_class(name)
    config, settings = settings_of(name, recipe, steps, batch_scale)
    length = Length(settings.steps, minutes)
    if _taken(name, out, length)[1] == 1:
        begun = loop.state_file(out, name)
        say(f"{name} is done; delete {begun} to train it again")
        return
    _check_weights([name], config, out, init)
    torch.manual_seed(settings.seed)
    networks = Networks(config)
    copied = []
    for part in dict.fromkeys((*kind.needs, *kind.parts)):
        if folder := _find(f"{part}.safetensors", out, init):
            networks.load(folder, (part,))
            if folder != out and part in kind.needs:
                copied.append(part)
    try:
        stage = kind(networks.to(device), settings)
    except ValueError as error:
        raise PcodecError(f"the recipe's stage {name}: {error}") from error
    if stage.adversary is not None:
        file = loop.discriminator_file(name)
        if folder := _find(file, out, init):
            stage.adversary.load(folder / file)
    cache = out / "cache"
    corpus = Corpus(data, cache, config.sample_rate)
    noises = Corpus(noise, cache, config.sample_rate) if noise else None
    size = settings.columns * config.column_samples + 2 * networks.mel.overhang
    batches = Batches(corpus, noises, settings.batch, size, settings.seed)
    clips = [] if dev is None else _read_dev(dev, config)
    if copied:  # copied, so that ``out`` is a complete model
        networks.save(out, tuple(copied), init)
    try:
        loop.run(stage, batches, out, clips, length, stop or Stop())
    except torch.cuda.OutOfMemoryError as error:
        text = f"the GPU's memory is too small for {settings.batch} crops of"
        raise PcodecError(f"stage {name}: {text} {settings.columns} columns per step") from error
    if device == "cuda":
        most, card = torch.cuda.max_memory_allocated(), torch.cuda.mem_get_info()[1]
        say(f"{name}: took {most / 1e9:.1f} of the GPU's {card / 1e9:.0f} GB")
