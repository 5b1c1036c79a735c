"""The manual pages of docs/man, made from what the commands say of themselves.

    python docs/man.py

writes them anew; a test tells when they are out of date.
"""

import inspect
import re
from pathlib import Path

import click

from pcodec import __version__
from pcodec.cli import EXIT_DAMAGED, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, cli

FOLDER = Path(__file__).parent / "man"
EXIT_STATUS = {
    0: "All is fine.",
    EXIT_ERROR: "An error: a line on standard error names the file.",
    EXIT_USAGE: "Wrong usage.",
    EXIT_DAMAGED: "It is done, but the input was damaged.",
    EXIT_INTERRUPTED: "Interrupted.",
}
ENVIRONMENT = {
    "PCODEC_MODELS": "Folders of models, besides the shipped ones, with colons between them.",
    "XDG_DATA_HOME": "Where `pcodec models --add` installs models (default: ~/.local/share).",
    "XDG_CACHE_HOME": "Where `pcodec eval` keeps its results (default: ~/.cache).",
}


def escaped(text: str) -> str:
    """Text as roff has it, in one line or several; what stands in backticks is bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a help text; those after a line of \\b keep their lines."""
    lines = []
    for number, part in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(text))):
        if part.startswith("\b"):
            lines += [".PP", ".nf", escaped(part.removeprefix("\b").strip("\n")), ".fi"]
        else:
            lines += [".PP"] * bool(number) + [escaped(" ".join(part.split()))]
    return lines


def options(context: click.Context) -> list[str]:
    """The options of a command, each with what it is for."""
    lines = []
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            names, text = record
            lines += [".TP", f"\\fB{escaped(names)}\\fR", escaped(" ".join(text.split()))]
    return lines


def page(context: click.Context) -> str:
    """The manual page of a command."""
    command, path = context.command, context.command_path
    name = path.replace(" ", "-")
    usage = " ".join(command.collect_usage_pieces(context))
    text = inspect.cleandoc(command.help or "")
    summary = command.get_short_help_str(limit=200).rstrip(".")
    lines = [
        '.\\" Made by docs/man.py of what the command says of itself.',
        f'.TH "{name.upper()}" 1 "" "pcodec {__version__}" "pcodec"',
        ".ad l",
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(summary)}",
        ".SH SYNOPSIS",
        f"\\fB{escaped(path)}\\fR {escaped(usage)}",
        ".SH DESCRIPTION",
        *paragraphs(text),
    ]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for each in subcommands(context):
            page_name = each.command_path.replace(" ", "-")
            lines += [".TP", f"\\fB{escaped(page_name)}\\fR(1)"]
            lines.append(escaped(each.command.get_short_help_str(limit=200)))
    lines += [".SH OPTIONS", *options(context)]
    if command.epilog:
        lines += [".SH NOTES", *paragraphs(command.epilog)]
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT_STATUS.items():
        lines += [".TP", f"\\fB{code}\\fR", escaped(meaning)]
    if isinstance(command, click.Group):
        lines.append(".SH ENVIRONMENT")
        for variable, meaning in ENVIRONMENT.items():
            lines += [".TP", f"\\fB{variable}\\fR", escaped(meaning)]
    others = subcommands(context) if isinstance(command, click.Group) else [context.parent]
    see = ", ".join(f"\\fB{escaped(c.command_path.replace(' ', '-'))}\\fR(1)" for c in others if c)
    lines += [".SH SEE ALSO", see]
    return "\n".join(lines) + "\n"


def subcommands(context: click.Context) -> list[click.Context]:
    """The contexts of a group's commands."""
    group = context.command
    assert isinstance(group, click.Group)
    commands = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [click.Context(c, parent=context, info_name=name) for name, c in commands if c]


def pages() -> dict[str, str]:
    """Every manual page by the name of its file."""
    group = click.Context(cli, info_name="pcodec", **cli.context_settings)
    contexts = [group, *subcommands(group)]
    return {f"{c.command_path.replace(' ', '-')}.1": page(c) for c in contexts}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
