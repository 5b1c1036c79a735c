"""Writing files so that nothing is ever half there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Writes a whole file at once: until it is on the disk, what was there before stays."""
    part = path.with_name(f".pcodec-{os.getpid()}-{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
