"""``pcodec eval``"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from tqdm import tqdm

from pcodec import models
from pcodec.errors import PcodecError

DEFAULT = ("pesq", "stoi", "estoi", "visqol", "log_mel")
NAMES = (*DEFAULT, "distillmos")


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--model", metavar="NAME|DIR", help="Model to use (see `pcodec models`).")
@click.option(
    "--vocoder", type=click.Choice(models.VOCODERS), default="spectral", show_default=True
)
@click.option(
    "--metrics", default=",".join(DEFAULT), show_default=True, help="By commas; also distillmos."
)
@click.option("--each", is_flag=True, help="A line for each file too.")
@click.option("--json", "as_json", is_flag=True, help="JSON, an object a line.")
def eval(  # noqa: A001
    data: Path, model: str | None, vocoder: str, metrics: str, each: bool, as_json: bool
) -> None:
    """Measure a model on speech: DATA is a file, a folder, or a tsv with a column `path`.

    Every file goes through a .pcx file on disk and back.
    """
    names = metrics.split(",")
    if unknown := set(names) - set(NAMES):
        raise click.UsageError(f"unknown metrics: {', '.join(sorted(unknown))}")
    try:
        from pcodec.eval.report import evaluate, summarize
        from pcodec.train.data import find_clips
    except ImportError as error:
        raise PcodecError(f"eval needs pip install 'pcodec-speech[eval]' ({error})") from error
    from pcodec.codec import Codec

    codec = Codec(models.find(model), vocoder)
    paths = [path for path, _ in find_clips(data)]
    if not paths:
        raise PcodecError(f"{data}: no audio files found")
    results = []
    for result in tqdm(evaluate(codec, paths, names), "files", len(paths), disable=None):
        results.append(result)
        if each:
            line = {"file": str(result.path), **{k: round(v, 4) for k, v in result.scores.items()}}
            click.echo(json.dumps(line))
    summary = {k: round(v, 4) for k, v in summarize(results).items()}
    if as_json:
        click.echo(json.dumps(summary))
        return
    for name, value in summary.items():
        if not name.endswith("_ci95"):
            margin = summary.get(f"{name}_ci95")
            click.echo(f"{name:20} {value:10g}" + (f" +- {margin:g}" if margin else ""))
    sys.stdout.flush()
