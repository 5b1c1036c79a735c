"""``pcodec info``; loads no networks, but for --grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pcodec import models
from pcodec.cli import EXIT_DAMAGED, EXIT_ERROR, error_line, options
from pcodec.cli.output import STREAM, named, open_input, open_output
from pcodec.errors import ModelMismatchError, PcodecError, needs_extra, shown
from pcodec.models import Model
from pcodec.pcx import blocks
from pcodec.pcx.blocks import EntropyCoder, Piece
from pcodec.pcx.layout import Header
from pcodec.pcx.parser import Parser


def scan(
    path: Path,
    pieces: list[Piece] | None = None,
    entropy: Callable[[Header], EntropyCoder] | None = None,
) -> Parser:
    """Reads a whole stream, checking every checksum; leaves what is in it in ``pieces``.

    entropy: as of `Parser`.
    """
    parser = Parser(entropy=entropy)
    with open_input(path) as stream, named(path):
        while data := stream.read(1 << 16):
            found = parser.feed(data)
            if pieces is not None:
                pieces += found
        found = parser.close()
        if pieces is not None:
            pieces += found
    return parser


def by_model(model: Model | None) -> Callable[[Header], EntropyCoder]:
    """What finds the entropy model of a stream, once one is needed."""

    def find(header: Header) -> EntropyCoder:
        from pcodec.pcx.compact import entropy_model

        return entropy_model(header, model)

    return find


def describe(path: Path, parser: Parser) -> dict[str, Any]:
    """What `info` says of a stream, with stable keys."""
    header = parser.header_
    seconds = parser.samples / header.sample_rate
    column = header.column_samples / header.sample_rate
    try:
        name: str | None = models.for_header(header).name
    except ModelMismatchError:
        name = None
    return {
        "file": str(path),
        "version": f"{header.version >> 4}.{header.version & 15}",
        "model": name,
        "bitstream_id": header.bitstream_id.hex(),
        "duration": round(seconds, 6),
        "samples": parser.samples,
        "sample_rate": header.sample_rate,
        "source_rate": header.source_rate,
        "source_frames": parser.tags.get("source_frames"),
        "columns": parser.next_column,
        "blocks": parser.blocks,
        "rows": header.rows,
        "bits": header.bits,
        "codec_bit_rate": header.bit_rate,
        "compact": header.entropy_id is not None,
        "file_bytes": parser.bytes_read,
        "file_bit_rate": round(parser.bytes_read * 8 / seconds, 1) if seconds else None,
        "damage": [
            {
                "start": round(d.first_column * column, 3),
                "end": round((d.first_column + d.columns) * column, 3),
                "reason": d.reason,
            }
            for d in parser.damages
        ],
    }


def text(about: dict[str, Any]) -> str:
    """The same for a person."""
    rate = about["file_bit_rate"]
    lines = [
        shown(about["file"]),
        f"  duration       {about['duration']:.3f} s, from {about['source_rate']} Hz",
        f"  model          {about['model'] or 'not installed'} ({about['bitstream_id']})",
        f"  codec rate     {about['codec_bit_rate']:.0f} bit/s"
        f" ({about['rows']} x {about['bits']} bit a column)",
        f"  on disk        {about['file_bytes']} bytes"
        + (f", {rate:.0f} bit/s with all overhead" if rate else ""),
        f"  stream         version {about['version']}, {about['columns']} columns"
        f" in {about['blocks']} blocks" + (", compact" if about["compact"] else ""),
        f"  damage         {len(about['damage']) or 'none'}",
    ]
    lines += [f"    {d['start']:.2f} s to {d['end']:.2f} s: {d['reason']}" for d in about["damage"]]
    return "\n".join(lines)


def draw(
    path: Path, grid: Path, force: bool, model: Model | None, parser: Parser, pieces: list[Piece]
) -> None:
    """The picture of --grid."""
    try:
        import matplotlib.colors  # noqa: F401

        from pcodec.report.drawings import draw_stream
    except ImportError as error:
        raise needs_extra("info --grid", "eval", error) from error
    if all(piece.indices is None for piece in pieces):
        raise PcodecError(f"{path}: has no column to draw")
    header = parser.header_
    indices = blocks.grid(pieces, header.rows)
    with named(path):
        model = models.for_header(header, model)
    with open_output(grid, path, force) as out:
        draw_stream(header, model, indices, out)


@click.command()
@options.files_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--grid",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw one file's patch grid, decoded mel and codebook use into a PNG.",
)
@click.option("--model", metavar="NAME|DIR", help="Model to draw with (see `pcodec models`).")
@click.option("-f", "--force", is_flag=True, help="Replace an existing picture.")
def info(
    files: tuple[Path, ...], as_json: bool, grid: Path | None, model: str | None, force: bool
) -> int:
    """Show what is in .pcx files: length, model, bit rates, damage."""
    if grid is not None and len(files) > 1:
        raise click.UsageError("--grid draws one file")
    if grid == STREAM:
        raise click.UsageError("--grid needs the name of a file: standard output has the text")
    if model and grid is None:
        raise click.UsageError("--model is for --grid")
    chosen = models.find(model) if model else None
    code = 0
    for path in files:
        try:
            pieces: list[Piece] | None = None if grid is None else []
            parser = scan(path) if grid is None else scan(path, pieces, by_model(chosen))
            about = describe(path, parser)
            if grid is not None and pieces is not None:
                draw(path, grid, force, chosen, parser, pieces)
        except (PcodecError, OSError) as error:
            if len(files) == 1:
                raise
            click.echo(f"pcodec: {error_line(error)}", err=True)
            code = EXIT_ERROR
            continue
        click.echo(json.dumps(about) if as_json else text(about))
        if about["damage"] and not code:
            code = EXIT_DAMAGED
    return code
