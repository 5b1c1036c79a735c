"""``pcodec train``"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import click

from pcodec import models
from pcodec.errors import PcodecError, needs_extra
from pcodec.folders import cache_folder
from pcodec.train.stages import STAGES

_STAGES = "\n".join(f"  {name:12} {stage.makes}" for name, stage in STAGES.items())


def table(recipe: dict[str, Any]) -> str:
    """The stages as aligned text, with their costs by a recipe."""
    lines = [["stage", "steps", "crops", "minutes", "makes"]]
    for name, stage in STAGES.items():
        own = recipe.get(name, {})
        costs = [str(own.get(key, "-")) for key in ("steps", "batch", "minutes")]
        lines.append([name, *costs, stage.makes])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{line[0]:{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(line[1:4], widths[1:4], strict=True))
        + f"  {line[4]}"
        for line in lines
    )


def choose_device(device: str) -> str:
    """cpu or cuda, by --device; PcodecError if torch has no such device."""
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        why = "the installed torch is a build for CPUs" if torch.version.cuda is None else "no GPU"
        raise PcodecError(f"--device cuda: torch finds no CUDA device ({why})")
    return "cuda" if has_cuda and device != "cpu" else "cpu"


@click.command(epilog=f"Stages, in order:\n\n\b\n{_STAGES}")
@click.argument("stage", type=click.Choice([*STAGES, "all"]), required=False)
@click.option(
    "--list", "show_list", is_flag=True, help="List the stages with their costs by the recipe."
)
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Recipe, a TOML file.  [default: train.toml of the shipped model]",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(exists=True, path_type=Path),
    help="Speech: a folder, or a tsv list with columns path and speaker.  [required]",
)  # fmt: skip
@click.option(
    "--noise",
    type=click.Path(exists=True, path_type=Path),
    help="Noise and music to mix in: a folder or a tsv list.",
)
@click.option(
    "--dev", type=click.Path(exists=True, path_type=Path),
    help="Speech of other speakers to measure on: a folder or a tsv list.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path),
    help="Output folder for the model, its logs and the state of the training.  [required]",
)  # fmt: skip
@click.option("--init", metavar="NAME|DIR", help="Model to start from, instead of random weights.")
@click.option(
    "--skip", type=click.Choice([*STAGES]), multiple=True,
    help="With all: stage to leave out (repeatable).",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(1), help="Steps per stage, instead of the recipe's.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True),
    help="Minutes of training, instead of steps; with all, divided among its stages.",
)  # fmt: skip
@click.option(
    "--batch-scale", type=click.IntRange(1), default=1, show_default=True,
    help="Factor of the recipe's batch sizes; the number of crops stays the same.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="Device of the networks.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: one per core).")
def train(
    stage: str | None,
    show_list: bool,
    config: Path | None,
    data: Path | None,
    noise: Path | None,
    dev: Path | None,
    out: Path | None,
    init: str | None,
    skip: tuple[str, ...],
    steps: int | None,
    minutes: float | None,
    batch_scale: int,
    device: str,
    threads: int | None,
) -> int:
    """Train one STAGE of a model, or all of them in order.

    Speech goes in by --data; --out becomes a model folder. A stage starts from what the earlier
    stages left in --out. Ctrl-C ends the training after its step and saves; the same command
    continues it. To begin anew, give another --out.

    Examples:

    \b
      pcodec train all --data speech --out trial --steps 10
      pcodec train all --data speech --dev dev --out mine --minutes 480
      pcodec train vocoder --data speech --out mine
      pcodec train --list
    """
    try:
        from pcodec.train import run
        from pcodec.train.stop import Stop
    except ImportError as error:
        raise needs_extra("train", "train", error) from error
    import torch

    config = config or models.find().folder / "train.toml"
    recipe = run.read_recipe(config)
    if show_list:
        click.echo(table(recipe))
        return 0
    if stage is None or data is None or out is None:
        raise click.UsageError("a STAGE (or all), --data and --out are needed; --list lists stages")
    if skip and stage != "all":
        raise click.UsageError("--skip is for all")
    if steps and minutes:
        raise click.UsageError("--steps and --minutes exclude each other")
    names = [name for name in STAGES if name in recipe and name not in skip]
    if stage != "all":
        names = [stage]
    if not names:
        raise PcodecError(f"{config}: all its stages are skipped")
    where = choose_device(device)
    if threads:
        torch.set_num_threads(threads)
    start = None
    if init is not None:
        start = Path(init) if Path(init).is_dir() else models.find(init).folder
    # All trainings share the cache of compiled steps.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    each = run.shares(names, recipe, minutes) if minutes else {}
    common = (recipe, data, noise, dev, out, start, steps, where)
    with Stop() as stop:
        try:
            run.prepare(names, *common, each, batch_scale)
            for name in names:
                run.run_stage(name, *common, each.get(name), batch_scale, stop)
                if stop.number is not None:
                    break
        except KeyboardInterrupt:
            click.echo("pcodec: interrupted; what was saved before is kept", err=True)
            stop.number = stop.number or signal.SIGINT
    if stop.number is None:
        if stage == "all":
            click.echo(f"{out} is a model: pcodec encode --model {out} IN OUT", err=True)
        return 0
    click.echo(f"to continue: pcodec {shlex.join(sys.argv[1:])}", err=True)
    return 128 + stop.number
