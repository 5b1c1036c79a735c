"""``pcodec train``"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from pcodec.errors import PcodecError, needs_extra

STAGES = (
    "vqvae",
    "adversarial",
    "vocoder",
    "joint",
    "end_to_end",
    "refine",
    "hifigan",
    "concealment",
)


@click.command()
@click.argument("stage", type=click.Choice([*STAGES, "all"]))
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The recipe, such as models/speech16k/train.toml.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="A folder of audio, or a tsv list with columns path and speaker.",
)
@click.option(
    "--noise", type=click.Path(exists=True, path_type=Path), help="Noise and music to mix in."
)
@click.option(
    "--dev", type=click.Path(exists=True, path_type=Path), help="Speech to measure on, 16 kHz."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where the model, its logs and the state to resume from go.",
)
@click.option(
    "--init",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A model to start from, instead of random weights.",
)
@click.option("--steps", type=click.IntRange(1), help="Steps, instead of the recipe's.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the networks run.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: all cores).")
def train(
    stage: str,
    config: Path,
    data: Path,
    noise: Path | None,
    dev: Path | None,
    out: Path,
    init: Path | None,
    steps: int | None,
    device: str,
    threads: int | None,
) -> None:
    """Train a stage of a model, or all of them in order.

    A stage starts from what the earlier ones left in --out. Interrupted, it goes on from
    its last saved state when it is called again.
    """
    # The stages share what was compiled.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((out / "cache" / "compiled").resolve()))

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        import pcodec.eval.metrics  # noqa: F401
        from pcodec.train.run import run_stage
    except ImportError as error:
        raise needs_extra("train", "train", error) from error
    import torch

    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise PcodecError("no CUDA device is available")
    try:
        recipe = tomllib.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PcodecError(f"{config}: {error}") from error
    if unknown := sorted(set(recipe) - {"codec", *STAGES}):
        raise PcodecError(f"{config}: no stage is called {', '.join(unknown)}")
    if stage == "all" and not set(recipe) & set(STAGES):
        raise PcodecError(f"{config}: has no stages")
    for name in STAGES if stage == "all" else (stage,):
        if stage != "all" and name not in recipe:
            raise PcodecError(f"{config}: has no stage [{name}]")
        if name in recipe:
            run_stage(name, recipe, data, noise, dev, out, init, steps, device)
