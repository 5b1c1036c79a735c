"""Inputs and outputs of commands: standard streams, and files that appear only when complete."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from pcodec.cli import error_line
from pcodec.errors import PcodecError, shown

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

STREAM = Path("-")


class OutputExistsError(PcodecError):
    """The output exists, and replacing it was not asked for."""


@cache
def umask() -> int:
    """The umask of the process: permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def name_of(source: Path) -> str:
    """The name of an input in messages."""
    return "standard input" if source == STREAM else shown(source)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Puts the name of a file before the text of any error."""
    name = name_of(path)
    try:
        yield
    except (PcodecError, OSError) as error:
        known = error.names_file if isinstance(error, PcodecError) else error.filename
        if known or isinstance(error, BrokenPipeError):
            raise
        kind = type(error) if isinstance(error, PcodecError) else PcodecError
        text = error_line(error)
        raise kind.of_file(name, text.removeprefix(f"{name}: ")) from error


def unbuffered_stdin() -> BinaryIO:
    """Standard input without a buffer: a read returns what has arrived."""
    if sys.stdin is None:
        raise PcodecError.of_file("standard input", "closed")
    return cast(BinaryIO, BlockingStdin(os.dup(sys.stdin.fileno()), "rb"))


class BlockingStdin(io.FileIO):
    """Standard input whose `read` waits for data even if the descriptor is non-blocking."""

    def read(self, size: int | None = -1) -> bytes:
        while (data := super().read(size)) is None:
            select.select([self], [], [])
        return data


class BlockingOutput(io.FileIO):
    """An output whose `write` takes all bytes, and waits even if the descriptor is non-blocking.

    An output that appends (O_APPEND) counts as not seekable: its earlier bytes cannot be changed.
    """

    def seekable(self) -> bool:
        appends = fcntl is not None and fcntl.fcntl(self, fcntl.F_GETFL) & os.O_APPEND
        return super().seekable() and not appends

    def write(self, data: Any) -> int:
        """Writes all bytes. On a full disk that is an error, not a short count."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while len(rest):
            written = super().write(rest)
            if written is None:
                select.select([], [self], [])
            rest = rest[written or 0 :]
        return size


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[BinaryIO]:
    """A file, or standard input."""
    if path == STREAM:
        with unbuffered_stdin() as stdin:
            yield stdin
        return
    if path.is_dir():
        raise PcodecError.of_file(path, "is a folder; give -r and -d DIR")
    with path.open("rb") as file:
        yield file


@contextlib.contextmanager
def open_output(
    path: Path, source: Path, force: bool, keep_times: bool = False
) -> Iterator[BinaryIO]:
    """A file that appears under its name only when all has been written, or standard output.

    keep_times: whether the file gets the access and modification times of the source.
    """
    if path == STREAM:
        if sys.stdout is None:
            raise PcodecError.of_file("standard output", "closed")
        if sys.stdout.isatty():
            raise _terminal()
        sys.stdout.flush()
        with named(Path("standard output")):
            yield cast(BinaryIO, BlockingOutput(sys.stdout.fileno(), "wb", closefd=False))
        return
    if path.exists() and not path.is_file():  # a device or a pipe, which has no other name
        with named(path), BlockingOutput(path, "wb") as file:
            if file.isatty():
                raise _terminal()
            yield cast(BinaryIO, file)
        return
    path = Path(os.path.realpath(path))  # a symbolic link stays, its target is replaced
    if path.exists():
        if source != STREAM and source.exists() and path.samefile(source):
            raise click.UsageError(f"{path}: input and output are the same file")
        if not force:
            raise _exists(path)
    try:
        handle, name = tempfile.mkstemp(".part", ".pcodec-", path.parent)
    except OSError as error:
        raise PcodecError.of_file(path, error.strerror or str(error)) from error
    part = Path(name)
    try:
        with named(path), os.fdopen(handle, "w+b") as part_file:
            yield part_file
            part_file.flush()
            os.fsync(part_file.fileno())
        part.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~umask())
        if keep_times and source != STREAM and source.is_file():
            about = source.stat()
            os.utime(part, ns=(about.st_atime_ns, about.st_mtime_ns))
        with named(path):
            _put(part, path, force)
    finally:
        part.unlink(missing_ok=True)


def _put(part: Path, path: Path, force: bool) -> None:
    """Renames a finished file to ``path``; without ``force`` it never replaces another one."""
    if not force:
        try:
            path.hardlink_to(part)
            return
        except FileExistsError:
            raise _exists(path) from None
        except OSError:  # a file system without links
            if path.exists():
                raise _exists(path) from None
    part.replace(path)


def _terminal() -> click.UsageError:
    return click.UsageError("binary data is not written to a terminal; name an output file")


def _exists(path: Path) -> OutputExistsError:
    return OutputExistsError.of_file(path, "exists; -f replaces it")


def remove_source(source: Path, output: Path, before: os.stat_result) -> None:
    """Removes an input whose output is complete. before: its stat before it was read."""
    now = source.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    ):
        raise PcodecError.of_file(source, "changed while it was read, and is kept")
    with contextlib.suppress(PermissionError):  # Windows opens no folders
        folder = os.open(output.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # so that no power failure loses both files
        finally:
            os.close(folder)
    source.unlink()
