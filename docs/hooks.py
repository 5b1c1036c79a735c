"""What mkdocs does besides.

It takes in pages that lie outside docs/, and turns the links to them, which lead to the files
themselves where the Markdown is read in the repository; and it mends the tables of options.
"""

import inspect
import posixpath
import re
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File

from pcodec.cli import cli

OUTSIDE = {
    "models/speech16k/MODEL_CARD.md": "model-card.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELEASE.md": "release.md",
    "SECURITY.md": "security.md",
}
"""Files of the repository, and the pages that they become."""


def on_startup(**_: Any) -> None:
    """Prepares the commands for mkdocs-click.

    An option without a default has None as such, as it had before click 8.2. Lines that the help
    keeps as they are, such as examples, become a block of code; the epilog follows the help.
    """
    group = click.Context(cli, **cli.context_settings)
    commands = [cli.get_command(group, name) for name in cli.list_commands(group)]
    contexts = [click.Context(command, parent=group) for command in commands if command]
    for context in [group, *contexts]:
        for option in context.command.get_params(context):
            if str(option.default).startswith("Sentinel"):
                option.default = None
        command = context.command
        text = "\n\n".join([inspect.cleandoc(command.help or ""), command.epilog or ""])
        command.help = re.sub(r"\x08\n((?:.+(?:\n|$))+)", r"```text\n\1\n```\n", text)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Leaves the cells of options empty that have no default, and their names in one line."""
    if page.file.src_uri != "reference/cli.md":
        return html
    html = html.replace("<td>None</td>", "<td></td>")
    html = html.replace("<td>_required</td>", "<td>required</td>")
    return f"<style>.md-typeset td:first-child code {{ white-space: nowrap }}</style>\n{html}"


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages from outside."""
    root = Path(config.config_file_path).parent
    for source, page in OUTSIDE.items():
        text = (root / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns each link into or out of docs/ to where its target is on the site."""
    here = page.file.src_uri
    sources = {page: source for source, page in OUTSIDE.items()}
    folder = posixpath.dirname(sources.get(here, f"docs/{here}"))

    def turn(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        if target in OUTSIDE:
            target = OUTSIDE[target]
        elif here in sources and target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return match[0]
        return f"]({posixpath.relpath(target, posixpath.dirname(here) or '.')}"

    return re.sub(r"\]\(([^)#:\s]+)", turn, markdown)
