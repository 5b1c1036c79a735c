"""Progress bars, and the line about a finished file."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from pcodec.errors import shown


class Progress:
    """A progress bar in seconds of audio, on stderr if that is a terminal.

    Files that are processed in parallel share one bar, and `stopped` interrupts them all. The
    time left is estimated from the sizes of the files, as their durations are not known yet.
    """

    def __init__(
        self, name: str, seconds: float | None, quiet: bool, files: Sequence[Path] = ()
    ) -> None:
        self.stopped = False
        self._lock, self._done = threading.Lock(), 0
        self._many = len(files) > 1
        self._bar: Any = None
        if not quiet and sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm  # loads slowly

            layout = "{desc}: {n:.1f}/{total_fmt} s {bar:20} [{elapsed}, {rate_fmt} real time]"
            if self._many:
                layout = "{desc}: {postfix[0]}/{postfix[1]} files, {postfix[2]}, {n:.0f} s of audio"
                layout += " [{elapsed}<{postfix[3]}, {rate_fmt} real time]"
            self._bar = tqdm(
                desc=name,
                total=None if seconds is None else round(seconds, 2),
                unit="s",
                bar_format=layout,
                postfix=[0, len(files), "? files/s", "?"] if self._many else None,
                leave=False,
            )
        self._started, self._bytes = time.perf_counter(), 0
        self._sizes = {file: _size(file) for file in files} if self._bar is not None else {}

    def update(self, seconds: float) -> None:
        """Adds seconds of finished audio; KeyboardInterrupt if `stopped` is set."""
        if self.stopped:
            raise KeyboardInterrupt
        if self._bar is not None:
            with self._lock:
                self._bar.update(seconds)

    def next_file(self, file: Path) -> None:
        """Counts a finished file."""
        if not self._many or self._bar is None:
            return
        with self._lock:
            self._done += 1
            self._bytes += self._sizes[file]
            took = time.perf_counter() - self._started
            share = self._bytes / max(1, sum(self._sizes.values()))
            eta = self._bar.format_interval(took / share - took) if share else "?"
            self._bar.postfix[0] = self._done
            self._bar.postfix[2:] = f"{self._done / took:.1f} files/s", eta

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _size(file: Path) -> int:
    """Size of a file in bytes; 0 if it is not known."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def progress(
    name: Path, seconds: float | None, quiet: bool, shared: Progress | None
) -> Iterator[Progress]:
    """The shared bar if there is one, else a bar of the file's own."""
    if shared is not None:
        yield shared
        return
    with contextlib.closing(Progress(name.name, seconds, quiet)) as bar:
        yield bar


def summary(target: Path, seconds: float, started: float) -> None:
    """Prints duration and speed of a finished file."""
    took = time.perf_counter() - started
    click.echo(
        f"{shown(target)}: {seconds:.2f} s at {seconds / took:.0f} times real time", err=True
    )
