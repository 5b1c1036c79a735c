"""Options that commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pcodec.cli.output import STREAM


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several option decorators as one."""

    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class InputPath(click.Path):
    """A file, or "-"; one that cannot be read is found out when it is its turn."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, allow_dash=True, readable=False)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        path = super().convert(value, param, ctx)
        # A file of that name, which pathlib would take for the stream.
        return Path.cwd() / path if path == STREAM and os.fspath(value) != "-" else path


_anything = InputPath()
paths_argument = click.argument("paths", nargs=-1, required=True, type=_anything)
files_argument = click.argument("files", nargs=-1, required=True, type=_anything)
output_options = options(
    click.option(
        "-d",
        "--output-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Take many inputs; write the outputs here.",
    ),
    click.option(
        "-r", "--recursive", is_flag=True, help="Take folders; mirror their tree under -d."
    ),
    click.option("-f", "--force", is_flag=True, help="Replace an existing output."),
    click.option("--resume", is_flag=True, help="With -d: pass over what is there already."),
)
run_options = options(
    click.option("--model", metavar="NAME|DIR", help="Model to use (see `pcodec models`)."),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Where the networks run; cuda needs onnxruntime-gpu.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        help="CPU threads (default: one a core; of a single file up to 8).",
    ),
    click.option("-q", "--quiet", is_flag=True, help="No progress, no summary; errors only."),
    click.option("-v", "--verbose", is_flag=True, help="Say more."),
)
raw_options = options(
    click.option("--raw", is_flag=True, help="Headerless mono PCM instead of an audio file."),
    click.option(
        "--format",
        "raw_format",
        type=click.Choice(["s16le", "s32le", "f32le"]),
        help="Sample format with --raw (default: s16le).",
    ),
)
