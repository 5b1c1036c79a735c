"""``pcodec verify``"""

from __future__ import annotations

from pathlib import Path

import click

from pcodec.cli import EXIT_DAMAGED, EXIT_ERROR, common, error_line
from pcodec.cli.info import describe, scan
from pcodec.errors import PcodecError


@click.command()
@common.files_argument
@click.option("--full", is_flag=True, help="Decode too.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of whole files.")
def verify(files: tuple[Path, ...], full: bool, quiet: bool) -> int:
    """Check .pcx files: every checksum, and with --full that they decode.

    Exit code 0 if all are whole, 3 if any is damaged, 1 if any cannot be read at all.
    """
    if full and common.STREAM in files:
        raise click.UsageError("--full needs files")
    code = 0
    for path in files:
        try:
            about = describe(path, scan(path))
            if full:
                from pcodec.codec import Decoding

                with common.open_input(path) as stream, common.named(path):
                    for _ in Decoding(stream).blocks():
                        pass
        except (PcodecError, OSError) as error:
            click.echo(f"pcodec: {error_line(error)}", err=True)
            code = EXIT_ERROR
            continue
        for damage in about["damage"]:
            where = f"{damage['start']:.2f} s to {damage['end']:.2f} s: {damage['reason']}"
            click.echo(f"{path}: damaged: {where}")
            code = code or EXIT_DAMAGED
        if not about["damage"] and not quiet:
            click.echo(f"{path}: ok")
    return code
