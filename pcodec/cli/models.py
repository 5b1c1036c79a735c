"""``pcodec models``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pcodec import models as registry
from pcodec.cli import EXIT_ERROR, error_line
from pcodec.errors import PcodecError


def describe(model: registry.Model) -> dict[str, Any]:
    """What is said of a model, with stable keys."""
    return {
        "name": model.name,
        "bitstream_id": model.bitstream_id.hex(),
        "bit_rate": model.config.bit_rate,
        "sample_rate": model.config.sample_rate,
        "vocoders": model.vocoders,
        "folder": str(model.folder),
        **model.about,
    }


def text(about: dict[str, Any]) -> str:
    """The same for a person."""
    lines = [f"{about['name']}{' (default)' if about['name'] == registry.DEFAULT else ''}"]
    for key, value in list(about.items())[1:]:
        lines.append(f"  {key:14} {json.dumps(value) if isinstance(value, dict) else value}")
    return "\n".join(lines)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--add", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
    help="Install a model that was trained into DIR, for this user.",
)  # fmt: skip
@click.option("--name", help="With --add: its name, if not that of the folder.")
@click.option("--link", is_flag=True, help="With --add: link to DIR instead of copying.")
@click.option("--remove", metavar="NAME", help="Remove a model that --add has installed.")
def models(
    as_json: bool, add: Path | None, name: str | None, link: bool, remove: str | None
) -> int:
    """List the installed models: ids, bit rates, licences, scores.

    They are those of the package, those in the folders that the environment variable
    PCODEC_MODELS names, and those installed with --add. All commands take them by name, and
    find the one that a .pcx file was made with.
    """
    if add is not None and remove is not None:
        raise click.UsageError("--add and --remove exclude each other")
    if add is None and (name or link):
        raise click.UsageError("--name and --link are for --add")
    if remove is not None:
        click.echo(f"{registry.remove(remove)}: removed", err=True)
        return 0
    if add is not None:
        target = registry.add(add, name, link)
        click.echo(f"{target}: installed; --model {target.name} uses it", err=True)
        return 0
    show = json.dumps if as_json else text
    for model in registry.installed():
        click.echo(show(describe(model)))
    code = 0
    for folder in registry.folders():
        try:
            registry.read_model(folder)
        except PcodecError as error:
            click.echo(f"pcodec: {error_line(error)}", err=True)
            code = EXIT_ERROR
    return code
