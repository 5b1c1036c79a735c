"""``pcodec info``; never imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pcodec import models
from pcodec.cli import EXIT_DAMAGED, EXIT_ERROR, common, error_line
from pcodec.container import Parser
from pcodec.errors import ModelMismatchError, PcodecError


def scan(path: Path) -> Parser:
    """Reads a whole stream, checking every checksum."""
    parser = Parser()
    with common.open_input(path) as stream, common.named(path):
        while data := stream.read(1 << 16):
            parser.feed(data)
        parser.close()
    return parser


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
        about["file"],
        f"  duration       {about['duration']:.3f} s, from {about['source_rate']} Hz",
        f"  model          {about['model'] or 'not installed'} ({about['bitstream_id']})",
        f"  codec rate     {about['codec_bit_rate']:.0f} bit/s"
        f" ({about['rows']} x {about['bits']} bit a column)",
        f"  on disk        {about['file_bytes']} bytes"
        + (f", {rate:.0f} bit/s with all overhead" if rate else ""),
        f"  stream         version {about['version']}, {about['columns']} columns"
        f" in {about['blocks']} blocks",
        f"  damage         {len(about['damage']) or 'none'}",
    ]
    lines += [f"    {d['start']:.2f} s to {d['end']:.2f} s: {d['reason']}" for d in about["damage"]]
    return "\n".join(lines)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def info(files: tuple[Path, ...], as_json: bool) -> int:
    """Show what is in .pcx files: length, model, bit rates, damage."""
    code = 0
    for path in files:
        try:
            about = describe(path, scan(path))
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
