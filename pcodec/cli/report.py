"""``pcodec report``"""

from __future__ import annotations

from pathlib import Path

import click

from pcodec.cli.output import open_output


@click.command()
@click.argument("results", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Output page; - is standard output.  [default: RESULTS with the suffix .html]",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace an existing output.")
def report(results: Path, output: Path | None, force: bool) -> None:
    """Make one HTML page with tables, plots and audio from the results of an evaluation.

    RESULTS is the JSON file that `pcodec eval -o RESULTS` wrote. The page is one file with all
    audio in it; it loads nothing from a network. It contains a blind listening test, whose
    answers can be saved as JSON.

    Examples:

    \b
      pcodec report results.json
      pcodec report results.json -o page.html
    """
    from pcodec.eval.document import load
    from pcodec.report.page import write_report

    document = load(results)
    with open_output(output or results.with_suffix(".html"), results, force) as out:
        write_report(document, results.parent, out)
