"""``pcodec info``; only --grid loads networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pcodec import models
from pcodec.audio.tags import known_tags
from pcodec.cli import error_line, options
from pcodec.cli.jobs import find_files, is_pcx
from pcodec.cli.output import STREAM, named, open_input, open_output
from pcodec.cli.tally import Tally
from pcodec.errors import ModelMismatchError, PcodecError, needs_extra, shown
from pcodec.models import Model
from pcodec.pcx import blocks
from pcodec.pcx.blocks import EntropyCoder, Piece
from pcodec.pcx.chain import Chain
from pcodec.pcx.layout import Header


def scan(
    path: Path,
    pieces: list[Piece] | None = None,
    entropy: Callable[[Header], EntropyCoder] | None = None,
) -> Chain:
    """Reads a whole file and checks every checksum; appends its columns to ``pieces``.

    entropy: see `Parser`.
    """
    chain = Chain(entropy=entropy)
    with open_input(path) as stream, named(path):
        for _, found in chain.read(stream):
            if pieces is not None:
                pieces += found
    return chain


def entropy_loader(model: Model | None) -> Callable[[Header], EntropyCoder]:
    """A function that loads the entropy model of a stream; called only when it is needed."""

    def find(header: Header) -> EntropyCoder:
        from pcodec.pcx.compact import entropy_model

        return entropy_model(header, model)

    return find


def describe(path: Path, chain: Chain) -> dict[str, Any]:
    """What `info` prints about a file, with stable keys."""
    header, seconds = chain.known_header, chain.start
    links, rates = chain.links, {link.header.source_rate for link in chain.links}
    frames = [link.source_frames for link in links if link.source_frames is not None]
    return {
        "file": str(path),
        "version": f"{header.version >> 4}.{header.version & 15}",
        "model": model_of(header),
        "bitstream_id": header.bitstream_id.hex(),
        "duration": round(seconds, 6),
        "samples": chain.samples,
        "sample_rate": header.sample_rate,
        "source_rate": header.source_rate,
        "source_frames": sum(frames) if len(frames) == chain.number and len(rates) == 1 else None,
        "columns": chain.columns,
        "blocks": chain.blocks,
        "rows": header.rows,
        "bits": header.bits,
        "codec_bit_rate": header.bit_rate,
        "compact": header.entropy_id is not None,
        "file_bytes": chain.bytes_read,
        "file_bit_rate": round(chain.bytes_read * 8 / seconds, 1) if seconds else None,
        "damage": [
            {"start": round(f.start, 3), "end": round(f.end, 3), "reason": f.reason}
            for f in chain.faults
        ],
        "tags": known_tags(chain.tags),
        "links": [
            {
                "start": round(link.start, 6),
                "duration": round(link.seconds, 6),
                "samples": link.samples,
                "source_rate": link.header.source_rate,
                "model": model_of(link.header),
                "bitstream_id": link.header.bitstream_id.hex(),
            }
            for link in links
        ],
    }


def model_of(header: Header) -> str | None:
    """The name of the installed model that decodes a stream, if there is one."""
    try:
        return models.for_header(header).name
    except ModelMismatchError:
        return None


def text(about: dict[str, Any]) -> str:
    """The same as lines of text."""
    rate = about["file_bit_rate"]
    lines = [
        shown(about["file"]),
        f"  duration       {about['duration']:.3f} s, from {about['source_rate']} Hz",
        f"  model          {about['model'] or 'not installed'} ({about['bitstream_id']})",
        f"  codec rate     {about['codec_bit_rate']:.0f} bit/s"
        f" ({about['rows']} x {about['bits']} bit per column)",
        f"  on disk        {about['file_bytes']} bytes"
        + (f", {rate:.0f} bit/s with all overhead" if rate else ""),
        f"  stream         version {about['version']}, {about['columns']} columns"
        f" in {about['blocks']} blocks" + (", compact" if about["compact"] else ""),
        f"  damage         {len(about['damage']) or 'none'}",
    ]
    lines += [f"    {d['start']:.2f} s to {d['end']:.2f} s: {d['reason']}" for d in about["damage"]]
    lines += [f"  {name:14} {shown(text)}" for name, text in about["tags"].items()]
    if len(links := about["links"]) > 1:
        lines.append(f"  streams        {len(links)}, concatenated")
        lines += [
            f"    {link['start']:.2f} s: {link['duration']:.3f} s, from {link['source_rate']} Hz,"
            f" model {link['model'] or 'not installed'} ({link['bitstream_id']})"
            for link in links
        ]
    return "\n".join(lines)


def draw(
    path: Path, grid: Path, force: bool, model: Model | None, header: Header, pieces: list[Piece]
) -> None:
    """Draws the picture of --grid."""
    try:
        import matplotlib.colors  # noqa: F401

        from pcodec.report.drawings import draw_stream
    except ImportError as error:
        raise needs_extra("info --grid", "eval", error) from error
    if all(piece.indices is None for piece in pieces):
        raise PcodecError(f"{path}: has no column to draw")
    indices = blocks.grid(pieces, header.rows)
    with named(path):
        model = models.for_header(header, model)
    with open_output(grid, path, force) as out:
        draw_stream(header, model, indices, out)


@click.command()
@options.files_argument
@options.recursive_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object per line: one per file, and with -r a summary.",
)
@click.option(
    "--grid",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw one file's patch grid, decoded mel and codebook use into a PNG.",
)
@options.model_option("draw with")
@click.option("-f", "--force", is_flag=True, help="Replace an existing picture.")
def info(
    files: tuple[Path, ...],
    recursive: bool,
    as_json: bool,
    grid: Path | None,
    model: str | None,
    force: bool,
) -> int:
    """Show what is in .pcx files: length, model, bit rates, tags, damage.

    FILES are .pcx files, with -r folders of them; "-" is standard input.

    Examples:

    \b
      pcodec info talk.pcx
      pcodec info -r coded --json
      pcodec info talk.pcx --grid talk.png
    """
    if grid is not None and (len(files) > 1 or recursive):
        raise click.UsageError("--grid draws one file")
    if grid == STREAM:
        raise click.UsageError("--grid needs a file name: the text goes to standard output")
    if model and grid is None:
        raise click.UsageError("--model is for --grid")
    found, _ = find_files(files, recursive, is_pcx)
    chosen = models.find(model) if model else None
    tally = Tally(as_json and recursive)
    tally.add_passed_over(found.passed_over, False)
    tally.add_unreadable(found.unreadable)
    for path in found.files:
        try:
            pieces: list[Piece] | None = None if grid is None else []
            entropy = None if grid is None else entropy_loader(chosen)
            about = describe(path, chain := scan(path, pieces, entropy))
            if grid is not None and pieces is not None:
                if chain.number > 1:
                    raise PcodecError(f"{path}: holds {chain.number} streams; --grid draws one")
                draw(path, grid, force, chosen, chain.known_header, pieces)
        except (PcodecError, OSError) as error:
            if not recursive and len(files) == 1:
                raise
            click.echo(f"pcodec: {error_line(error)}", err=True)
            tally.add("failed", path, messages=[error_line(error)])
            continue
        tally.count("damaged" if about["damage"] else "done", about["duration"])
        click.echo(json.dumps(about) if as_json else text(about))
    return tally.finish(recursive)
