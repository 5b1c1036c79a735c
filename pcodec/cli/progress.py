"""What a command says while it works."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from pcodec.errors import shown


class Progress:
    """A bar in seconds of audio, on stderr, if that is a terminal.

    Of many files done side by side all share one bar, and one word to stop.
    """

    def __init__(self, name: str, seconds: float | None, quiet: bool, files: int = 1) -> None:
        self.stopped = False
        self._lock, self._files, self._done = threading.Lock(), files, 0
        layout = "{desc}: {n:.1f}/{total_fmt} s {bar:20} [{elapsed}, {rate_fmt} real time]"
        if files > 1:
            layout = "{desc}: {postfix[0]}/{postfix[1]} files, {postfix[2]:.3f} h of audio"
            layout += " [{elapsed}, {rate_fmt} real time]"
        self._bar: Any = tqdm(
            desc=name,
            total=None if seconds is None else round(seconds, 2),
            unit="s",
            disable=quiet or sys.stderr is None or not sys.stderr.isatty(),
            bar_format=layout,
            postfix=[0, files, 0.0] if files > 1 else None,
            leave=False,
        )

    def update(self, seconds: float) -> None:
        """So much more is done; raises KeyboardInterrupt if all is to stop."""
        if self.stopped:
            raise KeyboardInterrupt
        with self._lock:
            self._bar.update(seconds)
            if self._files > 1 and not self._bar.disable:
                self._bar.postfix[2] = self._bar.n / 3600

    def next_file(self) -> None:
        """One more file is done."""
        with self._lock:
            self._done += 1
            if self._files > 1 and not self._bar.disable:
                self._bar.postfix[0] = self._done

    def close(self) -> None:
        self._bar.close()


@contextlib.contextmanager
def progress(
    name: Path, seconds: float | None, quiet: bool, shared: Progress | None
) -> Iterator[Progress]:
    """The bar of a file, or the one that many share."""
    if shared is not None:
        yield shared
        return
    with contextlib.closing(Progress(name.name, seconds, quiet)) as bar:
        yield bar


def summary(target: Path, seconds: float, started: float) -> None:
    """One line about a finished job."""
    took = time.perf_counter() - started
    click.echo(
        f"{shown(target)}: {seconds:.2f} s at {seconds / took:.0f} times real time", err=True
    )
