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

from pcodec import folders, models
from pcodec.cli import EXIT_ERROR, error_line
from pcodec.cli.output import STREAM, open_output
from pcodec.cores import threads_for
from pcodec.errors import PcodecError, needs_extra
from pcodec.eval.metrics import METRICS


@contextlib.contextmanager
def open_cache(keep: bool) -> Iterator[Path]:
    """The folder of coded files and scores: the user's cache if ``keep``, else a temporary one."""
    if keep:
        try:
            cache = folders.cache_folder() / "eval"
            cache.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cache).close()
        except (OSError, RuntimeError) as error:  # there may be no home
            raise PcodecError(
                f"the cache cannot be written ({error_line(error)}); use --no-cache,"
                " or set XDG_CACHE_HOME to a folder that can"
            ) from error
        yield cache
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def table(document: dict[str, Any]) -> str:
    """One line per codec, as aligned text."""
    metrics = document["metrics"]
    lines = [["codec", "kbit/s", "on disk", *(m["title"] for m in metrics)]]
    for codec in document["codecs"]:
        if codec["absent"]:
            continue
        line = [codec["name"], f"{codec['kbit_s']:.2f}", f"{codec['kbit_s_container']:.2f}"]
        for metric in metrics:
            score = codec["scores"].get(metric["name"])
            line.append(_cell(score) if score else "-")
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    )


def _cell(score: dict[str, Any]) -> str:
    """A mean, and half of its 95 % interval if it is of several files."""
    half = (score["high"] - score["low"]) / 2
    return f"{score['mean']:.3f}" + (f" +-{half:.3f}" if score["files"] > 1 else "")


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write all scores, per file, as JSON for `pcodec report`.",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace an existing output.")
@click.option(
    "--codec", "specs", multiple=True, metavar="SPEC",
    help="Codec to measure (repeatable): pcodec, pcodec-hifigan, pcodec-compact, pcodec-5, opus-8, "
    "speex-7.75, amrwb-8.85, codec2-3.2, lc3-16 (the number is kbit/s), original; 'all' for all of "
    "them; pcodec-search-8 for 8 iterations; 'NAME=ENC {in} {bits} ;; DEC {bits} {out}' for two "
    "command lines on 16 kHz WAV files; 'NAME=python:MODULE:FUNCTION'; 'NAME=model:DIR' for "
    "another model.  [default: pcodec]",
)  # fmt: skip
@click.option(
    "--metrics", default=",".join(m.name for m in METRICS.values() if m.default),
    show_default=True, help="Metrics, separated by commas. Also "
    + " and ".join(m.name for m in METRICS.values() if not m.default)
    + ", whose packages must be installed separately; 'all' for all of them.",
)  # fmt: skip
@click.option("--model", metavar="NAME|DIR", help="Model to use (see `pcodec models`).")
@click.option(
    "--samples", type=click.IntRange(0), default=4, show_default=True,
    help="With -o: files whose audio is kept beside OUTPUT, for the report.",
)  # fmt: skip
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes with one thread each (default: one per core).",
)
@click.option("--no-cache", is_flag=True, help="Neither read nor write cached results.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the means as JSON, one codec per line."
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
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
    """Measure the quality and the bit rate of codecs on speech.

    DATA is an audio file, a folder, or a tsv list with a column `path`. Each file is encoded to
    bits and decoded again, at 16 kHz. Results are cached, so that the same command continues
    after an interruption.

    Examples:

    \b
      pcodec eval speech
      pcodec eval dev.tsv --codec pcodec --codec opus-8 -o results.json
      pcodec eval speech --codec all --metrics pesq,stoi
      pcodec eval speech --codec mine=model:trained
    """
    names = list(METRICS) if metrics == "all" else list(dict.fromkeys(metrics.split(",")))
    if unknown := set(names) - set(METRICS):
        raise click.UsageError(f"unknown metrics: {', '.join(sorted(unknown))}")
    if output is not None:
        if output == STREAM:
            raise click.UsageError("-o needs a file name: the table goes to standard output")
        if output.exists() and not force:
            raise PcodecError(f"{output}: exists; -f replaces it")
        if not os.access(output.parent, os.W_OK):  # checked before the work, not after it
            raise PcodecError(f"{output.parent}: cannot be written to")
    try:
        from pcodec.eval import peers
        from pcodec.eval.evaluate import Evaluation
    except ImportError as error:
        raise needs_extra("eval", "eval", error) from error
    models.find(model)
    with open_cache(not no_cache) as folder:
        count = threads_for(workers)
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
    # A score that is undefined for a file is no error of the command.
    uncoded = any(r["metric"] is None for r in refused)
    nothing = all(codec["absent"] for codec in document["codecs"])
    return EXIT_ERROR if uncoded or nothing else 0
