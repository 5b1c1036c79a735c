"""``pcodec verify``"""

from __future__ import annotations

from pathlib import Path

import click

from pcodec import models
from pcodec.cli import EXIT_DAMAGED, EXIT_ERROR, error_line, options
from pcodec.cli.info import by_model, describe, scan
from pcodec.cli.output import named, open_input
from pcodec.errors import PcodecError, shown
from pcodec.models import Model
from pcodec.pcx.chain import Chain


def decode(path: Path, model: Model | None) -> Chain:
    """Decodes a whole file; gives what `scan` does."""
    from pcodec.pcx.transcode import PcxReader

    with open_input(path) as stream, named(path):
        decoding = PcxReader(stream, model)
        for _ in decoding.blocks():
            pass
    return decoding.chain


@click.command()
@options.files_argument
@click.option("--full", is_flag=True, help="Decode too.")
@click.option("--model", metavar="NAME|DIR", help="Model to decode with (see `pcodec models`).")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of whole files.")
def verify(files: tuple[Path, ...], full: bool, model: str | None, quiet: bool) -> int:
    """Check .pcx files: every checksum, and with --full that they decode.

    Exit code 0 if all are whole, 3 if any is damaged, 1 if any cannot be read at all.
    """
    chosen = models.find(model) if model else None
    code = 0
    for path in files:
        try:
            parser = decode(path, chosen) if full else scan(path, entropy=by_model(chosen))
            about = describe(path, parser)
        except (PcodecError, OSError) as error:
            click.echo(f"pcodec: {error_line(error)}", err=True)
            code = EXIT_ERROR
            continue
        for damage in about["damage"]:
            where = f"{damage['start']:.2f} s to {damage['end']:.2f} s: {damage['reason']}"
            click.echo(f"{shown(path)}: damaged: {where}")
            code = code or EXIT_DAMAGED
        if not about["damage"] and not quiet:
            click.echo(f"{shown(path)}: ok")
    return code
