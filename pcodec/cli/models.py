"""``pcodec models``"""

from __future__ import annotations

import json

import click

from pcodec import models as registry


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def models(as_json: bool) -> None:
    """List the installed models: ids, bit rates, licences, scores."""
    for model in registry.installed():
        about = {
            "name": model.name,
            "bitstream_id": model.bitstream_id.hex(),
            "bit_rate": model.config.bit_rate,
            "sample_rate": model.config.sample_rate,
            "vocoders": model.vocoders,
            "folder": str(model.folder),
            **model.about,
        }
        if as_json:
            click.echo(json.dumps(about))
            continue
        click.echo(f"{model.name}{' (default)' if model.name == registry.DEFAULT else ''}")
        for key, value in list(about.items())[1:]:
            click.echo(f"  {key:14} {json.dumps(value) if isinstance(value, dict) else value}")
