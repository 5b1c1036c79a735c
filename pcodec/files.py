"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Writes a whole file: until all of it is on the disk, what was there before stays.

    OSError, with the file's name.
    """
    part = path.with_name(f".pcodec-{secrets.token_hex(4)}-{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path to write; it replaces the file when the context ends."""
    part = path.with_name(f"{path.name}.part")
    yield part
    part.replace(path)
