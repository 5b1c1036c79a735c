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
    """A model as a JSON object, with stable keys."""
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
    """The same as lines of text."""
    lines = [f"{about['name']}{' (default)' if about['name'] == registry.DEFAULT else ''}"]
    for key, value in list(about.items())[1:]:
        lines.append(f"  {key:14} {json.dumps(value) if isinstance(value, dict) else value}")
    return "\n".join(lines)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option(
    "--add", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
    help="Install the model in DIR, such as the --out of `pcodec train`, for this user.",
)  # fmt: skip
@click.option("--name", help="With --add: name of the model (default: the name of the folder).")
@click.option("--link", is_flag=True, help="With --add: link to DIR instead of copying it.")
@click.option("--remove", metavar="NAME", help="Remove a model that was installed with --add.")
def models(
    as_json: bool, add: Path | None, name: str | None, link: bool, remove: str | None
) -> int:
    """List the installed models, with bit rate, licence and scores; add or remove one.

    Models come with the package, lie in the folders that the environment variable PCODEC_MODELS
    names, or were installed with --add. Every command takes a model by its name. Decoding finds the
    model of a .pcx file without being told.

    Examples:

    \b
      pcodec models
      pcodec models --add trained --name mine
      pcodec models --remove mine
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
