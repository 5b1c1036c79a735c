"""``pcodec eval``"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pcodec import models
from pcodec.cli import EXIT_ERROR
from pcodec.cli.output import STREAM, open_output
from pcodec.cores import cores
from pcodec.errors import PcodecError
from pcodec.eval.metrics import METRICS


@contextlib.contextmanager
def cache_folder(keep: bool) -> Iterator[Path]:
    """Where coded files and scores are kept: the user's cache, or a folder that goes away."""
    if keep:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        yield Path(home) / "pcodec" / "eval"
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def table(document: dict[str, Any]) -> str:
    """The codecs' lines as aligned text."""
    metrics = document["metrics"]
    lines = [["codec", "kbit/s", "on disk", *(m["title"] for m in metrics)]]
    for codec in document["codecs"]:
        if codec["absent"]:
            continue
        line = [codec["name"], f"{codec['kbit_s']:.2f}", f"{codec['kbit_s_container']:.2f}"]
        for metric in metrics:
            score = codec["scores"].get(metric["name"])
            half = (score["high"] - score["low"]) / 2 if score else 0.0
            line.append(f"{score['mean']:.3f} +-{half:.3f}" if score else "-")
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    )


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write everything, file by file, as JSON: what `pcodec report` reads.",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace an existing output.")
@click.option(
    "--codec", "specs", multiple=True, metavar="SPEC",
    help="What to measure (repeatable): pcodec, pcodec-hifigan, opus-8, speex-7.75, amrwb-8.85, "
    "codec2-3.2, lc3-16, original; 'all' for all of them; "
    "'NAME=ENC {in} {bits} ;; DEC {bits} {out}' for two command lines on 16 kHz WAV files; "
    "'NAME=python:MODULE:FUNCTION'.  [default: pcodec]",
)  # fmt: skip
@click.option(
    "--metrics", default=",".join(m.name for m in METRICS.values() if m.default),
    show_default=True, help="By commas; also "
    + " and ".join(m.name for m in METRICS.values() if not m.default)
    + ", whose packages are no extras of this one.",
)  # fmt: skip
@click.option("--model", metavar="NAME|DIR", help="Model to use (see `pcodec models`).")
@click.option(
    "--samples", type=click.IntRange(0), default=4, show_default=True,
    help="With -o: keep the audio of so many files beside it, for the report.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1), help="Processes, of one thread each (default: all cores)."
)
@click.option("--no-cache", is_flag=True, help="Do everything anew, keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="The codecs' means as JSON, one a line.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def eval(  # noqa: A001
    data: Path,
    output: Path | None,
    force: bool,
    specs: tuple[str, ...],
    metrics: str,
    model: str | None,
    samples: int,
    workers: int | None,
    no_cache: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Measure codecs on speech: DATA is a file, a folder, or a tsv with a column `path`.

    Every file goes through real bits and back, at 16 kHz. Interrupted and called again, it
    goes on where it was: what was done lies in a cache.
    """
    names = list(dict.fromkeys(metrics.split(",")))
    if unknown := set(names) - set(METRICS):
        raise click.UsageError(f"unknown metrics: {', '.join(sorted(unknown))}")
    if output is not None:
        if output == STREAM:
            raise click.UsageError("-o needs the name of a file: standard output has the table")
        if output.exists() and not force:
            raise PcodecError(f"{output}: exists; -f replaces it")
        if not os.access(output.parent, os.W_OK):  # found out now, not after the work
            raise PcodecError(f"{output.parent}: cannot be written to")
    try:
        from pcodec.eval import peers
        from pcodec.eval.evaluate import Evaluation
    except ImportError as error:
        raise PcodecError(f"eval needs pip install 'pcodec-speech[eval]' ({error})") from error
    models.find(model)
    with cache_folder(not no_cache) as folder:
        count = workers or cores()
        job = Evaluation(data, peers.expand(specs, model), names, model, count, folder, quiet)
        document = job.run()
        if output is not None:
            if samples:
                job.keep_samples(document, samples, output.with_suffix(".audio"))
            with open_output(output, data, force) as file:
                file.write(json.dumps(document, indent=1).encode())
    for codec in document["codecs"]:
        if codec["absent"]:
            click.echo(f"{codec['name']}: absent: {codec['absent']}", err=True)
    refused = [r for file in document["files"] for r in file["refused"]]
    if refused:
        first = " of ".join(filter(None, (refused[0]["metric"], refused[0]["codec"])))
        text = f"{len(refused)} scores are missing, such as {first}: {refused[0]['why']}"
        click.echo(text, err=True)
    if as_json:
        for codec in document["codecs"]:
            click.echo(json.dumps(codec))
    else:
        click.echo(table(document))
    # A metric may have reason to refuse a file.
    uncoded = any(r["metric"] is None for r in refused)
    nothing = all(codec["absent"] for codec in document["codecs"])
    return EXIT_ERROR if uncoded or nothing else 0
