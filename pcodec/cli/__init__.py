"""The command line: one file per command, imported when the command is called."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from typing import Any

import click

from pcodec import __version__
from pcodec.errors import PcodecError, shown

COMMANDS = (
    "encode",
    "decode",
    "info",
    "verify",
    "tokens",
    "models",
    "export",
    "train",
    "eval",
    "report",
)
EXIT_ERROR, EXIT_USAGE, EXIT_DAMAGED, EXIT_INTERRUPTED = 1, 2, 3, 130


class LazyGroup(click.Group):
    """Imports a command's module only when the command is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"pcodec.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pcodec")
def cli() -> None:
    """Neural speech codec: 16 kHz speech at 7.5 kbit/s.

    Exit codes: 0 success, 1 error, 2 wrong usage, 3 finished but an input was damaged,
    130 interrupted.

    Examples:

    \b
      pcodec encode in.wav out.pcx
      pcodec decode out.pcx out.wav
      pcodec encode --help
    """


def main() -> None:
    """Runs the command line. An error becomes one line and an exit code."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # A signal that nohup ignores stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.stdout, sys.stderr = _blocking(sys.stdout), _blocking(sys.stderr)
    try:
        result: Any = cli.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        code = result if isinstance(result, int) else 0
    except click.UsageError as error:
        click.UsageError(shown(error.format_message()), error.ctx).show()
        code = EXIT_USAGE
    except click.ClickException as error:
        error.show()
        code = EXIT_ERROR
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("pcodec: interrupted", err=True)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        discard_output()
        code = EXIT_ERROR
    except (PcodecError, OSError) as error:
        click.echo(f"pcodec: {error_line(error)}", err=True)
        code = EXIT_ERROR
    sys.exit(code)


def _blocking(stream: Any) -> Any:
    """Makes standard output or error print any file name, and block if it is non-blocking."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")  # file names can be any bytes
    if not hasattr(os, "get_blocking") or os.get_blocking(stream.fileno()):
        return stream
    from pcodec.cli.output import BlockingOutput

    file = io.BufferedWriter(BlockingOutput(stream.fileno(), "wb", closefd=False))
    return io.TextIOWrapper(file, stream.encoding, stream.errors, None, stream.line_buffering)


def discard_output() -> None:
    """Sends the rest of standard output to the null device, after its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def error_line(error: Exception) -> str:
    """An error as one line that names the file."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError):
        name = f"{shown(error.filename)}: " if error.filename else ""
        return f"{name}{error.strerror or error}"
    return " ".join(str(error).split())
