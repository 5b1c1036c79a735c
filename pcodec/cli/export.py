"""``pcodec export``"""

from __future__ import annotations

from pathlib import Path

import click

from pcodec import models
from pcodec.errors import PcodecError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--model", help="Model to export (default: the shipped one).")
def export(folder: Path, model: str | None) -> int:
    """Write a model into the folder DIR as two streaming ONNX graphs, for programs without Python.

    encoder.onnx: samples and state -> indices and state. decoder.onnx: indices and state ->
    samples and state, with concealment. pcodec.json describes them. The page "ONNX graphs" of the
    documentation says how to call them. Needs the extra [export].

    Examples:

    \b
      pcodec export graphs
      pcodec export --model trained graphs
    """
    try:
        from pcodec.graphs.export import export as write
    except ModuleNotFoundError as error:
        raise PcodecError(f"no {error.name}: pip install 'pcodec-speech[export]'") from error
    for path in write(models.find(model), folder):
        click.echo(path)
    return 0
