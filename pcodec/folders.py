"""The user's own folders, as the XDG base directory specification places them."""

from __future__ import annotations

import os
from pathlib import Path

from pcodec.errors import PcodecError


def cache_folder() -> Path:
    """The cache, which may be deleted at any time: $XDG_CACHE_HOME/pcodec or ~/.cache/pcodec."""
    return _folder("XDG_CACHE_HOME", ".cache")


def data_folder() -> Path:
    """The data, such as installed models: $XDG_DATA_HOME/pcodec or ~/.local/share/pcodec."""
    return _folder("XDG_DATA_HOME", ".local/share")


def _folder(variable: str, below_home: str) -> Path:
    value = Path(os.environ.get(variable, ""))
    if value.is_absolute():  # the specification says to ignore relative paths
        return value / "pcodec"
    try:
        return Path.home() / below_home / "pcodec"
    except RuntimeError as error:
        raise PcodecError(f"there is no home folder; set {variable}") from error
