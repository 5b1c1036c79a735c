"""``pcodec tokens``"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from pcodec.cli import EXIT_DAMAGED
from pcodec.cores import cores
from pcodec.errors import PcodecError

if TYPE_CHECKING:
    from pcodec.tokens.job import Output, Step

SUFFIXES = {".parquet": "parquet", ".tar": "webdataset", ".npz": "numpy"}
"""Format by the suffix of OUT."""


def output_of(name: str, kind: str | None) -> Output:
    """The output that -o and --format describe; UsageError if they contradict each other."""
    from pcodec.tokens import storage
    from pcodec.tokens.job import Output

    where = storage.absolute(name)
    suffix = Path(storage.name_of(where)).suffix.lower()
    if suffix not in SUFFIXES:
        return Output(where, "tokens", kind or "parquet")
    if kind not in (None, SUFFIXES[suffix]):
        raise click.UsageError(f"-o {name}: its suffix means another format than --format {kind}")
    stem = storage.name_of(where)[: -len(suffix)]
    return Output(storage.folder_of(where), stem, SUFFIXES[suffix])


def show(steps: Iterator[Step], shards: int, quiet: bool) -> tuple[int, int, float]:
    """Shows the steps on a bar; returns clips, clips with an error, seconds of audio."""
    clips, failed, seconds = 0, 0, 0.0
    layout = "{n:.1f}/{total} shards {bar:20} {postfix[0]} clips, {postfix[1]:.2f} h of audio"
    layout += " [{elapsed}<{remaining}, {postfix[2]:.0f} times real time]"
    started = time.perf_counter()
    bar = tqdm(
        total=shards,
        disable=True if quiet else None,  # None: hidden unless stderr is a terminal
        bar_format=layout,
        postfix=[0, 0.0, 0.0],
        leave=False,
    )
    with bar:
        for step in steps:
            clips, failed, seconds = (
                clips + step.clips,
                failed + step.failed,
                seconds + step.seconds,
            )
            if not bar.disable:
                took = time.perf_counter() - started
                bar.postfix[:] = clips, seconds / 3600, seconds / took
            bar.update(step.shards)
    return clips, failed, seconds


@click.command()
@click.argument("data", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, metavar="OUT",
    help="Output folder, or a name such as out/train.parquet (.tar, .npz) for shards named"
    " out/train-00000-of-00012.parquet and so on.",
)  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(list(SUFFIXES.values())),
    help="Format of the shards (default: by the suffix of OUT, else parquet).",
)  # fmt: skip
@click.option(
    "--shard-clips", type=click.IntRange(1), default=1000, show_default=True,
    help="Clips per shard; a .tar or .parquet input always becomes one shard.",
)  # fmt: skip
@click.option("--model", metavar="NAME|DIR", help="Model to use (see `pcodec models`).")
@click.option(
    "--workers", type=click.IntRange(1),
    help="Processes with one thread each (default: one per core, of the cluster with ray).",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
    help="What runs the workers: this machine, or a Ray cluster.",
)  # fmt: skip
@click.option(
    "--address",
    help="Address of the Ray cluster: auto, or HOST:PORT (default: start one on this machine).",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def tokens(
    data: tuple[str, ...],
    output: str,
    kind: str | None,
    shard_clips: int,
    model: str | None,
    workers: int | None,
    engine: str,
    address: str | None,
    quiet: bool,
) -> int:
    """Turn a corpus of speech into shards of tokens, for a language model.

    DATA is one or more folders, audio or .pcx files, tsv lists with a column `path`, Lhotse cuts
    (.jsonl), WebDataset shards (.tar) or Parquet files with a column of audio; each is a path or
    a URI (s3://, gs://). OUT is a folder, or a name for the shards.

    A clip that cannot be read becomes a row with an error, and the exit code is 3. The same
    command continues an interrupted run with the shards that are missing.

    Examples:

    \b
      pcodec tokens speech -o tokens
      pcodec tokens train.tsv -o tokens/train.parquet --workers 8
      pcodec tokens cuts.jsonl.gz -o shards/train.tar
      pcodec tokens s3://bucket/in -o s3://bucket/out --engine ray --address auto
    """
    if address and engine != "ray":
        raise click.UsageError("--address is for --engine ray")
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        text = f"tokens needs pip install 'pcodec-speech[tokens]' ({error})"
        raise PcodecError(text) from error

    from pcodec.tokens import job as jobs

    job, todo = jobs.start(data, output_of(output, kind), model, shard_clips)
    if engine == "ray":
        from pcodec.tokens import on_ray

        steps = on_ray.run(job, todo, model, workers, address)
    else:
        from pcodec.tokens import local

        steps = local.run(job, todo, model, workers or cores())
    started = time.perf_counter()
    clips, failed, seconds = show(steps, len(todo), quiet)
    if not quiet or failed:
        done = job.shards - len(todo)
        already = f", {done} shards there already" if done else ""
        speed = seconds / (time.perf_counter() - started)
        click.echo(
            f"{clips - failed} clips ok, {failed} with an error{already};"
            f" {seconds / 3600:.2f} h of audio at {speed:.0f} times real time",
            err=True,
        )
    return EXIT_DAMAGED if failed else 0
