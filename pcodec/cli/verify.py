"""``pcodec verify``"""

from __future__ import annotations

from pathlib import Path

import click

from pcodec import models
from pcodec.cli import error_line, options
from pcodec.cli.info import entropy_loader, scan
from pcodec.cli.jobs import find_files, is_pcx
from pcodec.cli.output import named, open_input
from pcodec.cli.tally import Tally
from pcodec.errors import PcodecError, shown
from pcodec.models import Model
from pcodec.pcx.chain import Chain


def decode(path: Path, model: Model | None) -> Chain:
    """Decodes a whole file; returns what was read, as `scan` does."""
    from pcodec.pcx.transcode import PcxReader

    with open_input(path) as stream, named(path):
        decoding = PcxReader(stream, model)
        for _ in decoding.blocks():
            pass
    return decoding.chain


@click.command()
@options.files_argument
@options.recursive_option
@click.option("--full", is_flag=True, help="Decode each file too.")
@options.model_option("decode with")
@options.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing about intact files.")
def verify(
    files: tuple[Path, ...],
    recursive: bool,
    full: bool,
    model: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Check .pcx files: every checksum, and with --full that they decode.

    FILES are .pcx files, with -r folders of them; "-" is standard input. Exit code 0 if all are
    intact, 3 if any is damaged, 1 if any cannot be read at all.

    Examples:

    \b
      pcodec verify talk.pcx
      pcodec verify -r archive --quiet
      pcodec verify --full talk.pcx
    """
    found, _ = find_files(files, recursive, is_pcx)
    chosen = models.find(model) if model else None
    tally = Tally(as_json)
    tally.add_passed_over(found.passed_over, quiet)
    tally.add_unreadable(found.unreadable)
    for path in found.files:
        try:
            chain = decode(path, chosen) if full else scan(path, entropy=entropy_loader(chosen))
        except (PcodecError, OSError) as error:
            click.echo(f"pcodec: {error_line(error)}", err=True)
            tally.add("failed", path, messages=[error_line(error)])
            continue
        damages = [f"{f.start:.2f} s to {f.end:.2f} s: {f.reason}" for f in chain.faults]
        tally.add("damaged" if damages else "done", path, None, chain.start, damages)
        if not as_json:
            for damage in damages:
                click.echo(f"{shown(path)}: damaged: {damage}")
            if not damages and not quiet:
                click.echo(f"{shown(path)}: ok")
    return tally.finish(recursive and (bool(tally.code) or not quiet))
