"""``pcodec report``"""

from __future__ import annotations

from pathlib import Path

import click

from pcodec.cli.output import open_output


@click.command()
@click.argument("results", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="The page; - is standard output.  [default: RESULTS with .html]",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace an existing output.")
def report(results: Path, output: Path | None, force: bool) -> None:
    """Make one HTML file of what `pcodec eval -o RESULTS` wrote: tables, plots, listening.

    The page holds everything, audio too, and asks for nothing from outside. Among what it
    offers is a blind listening test, whose answers it saves as JSON.
    """
    from pcodec.eval.document import load
    from pcodec.report.page import write_report

    document = load(results)
    with open_output(output or results.with_suffix(".html"), results, force) as out:
        write_report(document, results.parent, out)
