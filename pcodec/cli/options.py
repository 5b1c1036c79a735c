"""Options that commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from pcodec import models
from pcodec.cli.output import STREAM


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several option decorators as one."""

    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class InputPath(click.Path):
    """A file, or "-". Whether it can be read is found out only when its turn comes.

    Shell completion offers folders, and files with the given suffixes.
    """

    def __init__(self, suffixes: Iterable[str]) -> None:
        super().__init__(path_type=Path, allow_dash=True, readable=False)
        self._suffixes = tuple(suffixes)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        path = super().convert(value, param, ctx)
        # "./-" is a file, but pathlib shortens it to "-", which is the standard stream.
        return Path.cwd() / path if path == STREAM and os.fspath(value) != "-" else path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = self._below(incomplete)
        if len(names) == 1 and names[0].endswith("/"):
            names += self._below(names[0])  # so that no space is put after the folder
        if any(re.search(r"[^\w./~+,:=@%-]", name) for name in names):
            return [CompletionItem(incomplete, type="file")]  # the shell knows how to quote
        return [CompletionItem(name) for name in names]

    def _below(self, start: str) -> list[str]:
        """The paths that begin with ``start``; folders end with a slash."""
        folder, begin = os.path.split(start)
        try:
            paths = sorted(Path(folder or ".").expanduser().iterdir())
        except (OSError, RuntimeError):
            return []
        return [
            start.removesuffix(begin) + path.name + "/" * path.is_dir()
            for path in paths
            if path.name.startswith(begin)
            and (begin or not path.name.startswith("."))
            and (path.is_dir() or path.name.lower().endswith(self._suffixes))
        ]


class ModelName(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """The name of a model, or its folder."""

    name = "NAME|DIR"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = [m.name for m in models.installed() if m.name.startswith(incomplete)]
        if not names:
            return [CompletionItem(incomplete, type="dir")]
        return [CompletionItem(name) for name in names]


def paths_argument(suffixes: Iterable[str]) -> Callable[[Any], Any]:
    """The arguments IN [OUT], or many inputs."""
    return click.argument("paths", nargs=-1, required=True, type=InputPath(suffixes))


def model_option(what: str) -> Callable[[Any], Any]:
    """The option --model."""
    return click.option(
        "--model",
        type=ModelName(),
        metavar="NAME|DIR",
        help=f"Model to {what} (see `pcodec models`).",
    )


files_argument = click.argument("files", nargs=-1, required=True, type=InputPath([".pcx"]))
recursive_option = click.option(
    "-r", "--recursive", is_flag=True, help="Take all files in folders."
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object per line on standard output: one per file, and a summary.",
)
output_options = options(
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="OUT",
        help="The output, instead of a second argument.",
    ),
    click.option(
        "-d",
        "--output-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for the outputs; allows many inputs.",
    ),
    click.option(
        "-r", "--recursive", is_flag=True, help="Take all files in folders; -d mirrors the tree."
    ),
    click.option("-f", "--force", is_flag=True, help="Replace an existing output."),
    click.option("--resume", is_flag=True, help="With -d: skip files whose output exists."),
    click.option(
        "--rm",
        "remove",
        is_flag=True,
        help="Remove each input after its output is complete; a damaged input is kept.",
    ),
    json_option,
)
run_options = options(
    model_option("use"),
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
        help="CPU threads (default: one per core; at most 8 for a single file).",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only: no progress, no summary."),
    click.option("-v", "--verbose", is_flag=True, help="Print duration and speed of each file."),
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
