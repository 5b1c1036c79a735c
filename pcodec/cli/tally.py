"""Counts the files of a command by status; prints the counts as a line, the files as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from pcodec.cli import EXIT_DAMAGED, EXIT_ERROR, error_line
from pcodec.errors import shown

STATUSES = ("done", "there already", "passed over", "damaged", "failed")
MAX_NAMED = 5
"""How many files that are passed over a message names."""


class Tally:
    """Counts files by status; with ``as_json`` also prints each as a line of JSON."""

    def __init__(self, as_json: bool) -> None:
        self.counts = dict.fromkeys(STATUSES, 0)
        self._as_json, self._seconds, self._started = as_json, 0.0, time.perf_counter()

    @property
    def code(self) -> int:
        """The exit code of the command."""
        if self.counts["failed"]:
            return EXIT_ERROR
        return EXIT_DAMAGED if self.counts["damaged"] else 0

    def add(
        self,
        status: str,
        file: Path | str,
        output: Path | None = None,
        seconds: float | None = None,
        messages: Sequence[str] = (),
    ) -> None:
        """Counts and prints a file. seconds: of audio. messages: what is wrong with the file."""
        self.count(status, seconds or 0.0)
        self._print(
            file=str(file),
            output=None if output is None else str(output),
            status=status.replace(" ", "_"),
            seconds=None if seconds is None else round(seconds, 6),
            messages=list(messages),
        )

    def count(self, status: str, seconds: float) -> None:
        """Counts a file with some seconds of audio, and prints nothing."""
        self.counts[status] += 1
        self._seconds += seconds

    def add_unreadable(self, errors: Iterable[OSError]) -> None:
        """Counts folders that could not be listed as failed files."""
        for error in errors:
            click.echo(f"pcodec: {error_line(error)}", err=True)
            self.add("failed", str(error.filename), messages=[error_line(error)])

    def add_passed_over(self, files: Sequence[Path], quiet: bool) -> None:
        """Counts files in folders whose type the command does not read."""
        for file in files:
            self.add("passed over", file)
        if files and not quiet:
            what = "1 file" if len(files) == 1 else f"{len(files)} files"
            more = f", and {len(files) - MAX_NAMED} more (--json names all)"
            names = ", ".join(map(shown, files[:MAX_NAMED])) + more * (len(files) > MAX_NAMED)
            click.echo(f"pcodec: {what} passed over: {names}", err=True)

    def finish(self, show: bool) -> int:
        """Prints the counts if ``show``, and the summary of --json. Returns the exit code."""
        if self._as_json:
            counts = {status.replace(" ", "_"): count for status, count in self.counts.items()}
            took = time.perf_counter() - self._started
            self._print(
                summary={**counts, "seconds": round(self._seconds, 6), "elapsed": round(took, 3)}
            )
        if show:
            parts = [f"{n} {status}" for status, n in self.counts.items() if n or status == "done"]
            click.echo(", ".join(parts), err=True)
        return self.code

    def _print(self, **what: Any) -> None:
        if self._as_json:
            click.echo(json.dumps(what))
