"""Folders of a person's own, where the XDG base directory specification has them."""

from __future__ import annotations

import os
from pathlib import Path

from pcodec.errors import PcodecError


def cache_folder() -> Path:
    """What may be deleted at any time: $XDG_CACHE_HOME/pcodec, else ~/.cache/pcodec."""
    return _folder("XDG_CACHE_HOME", ".cache")


def data_folder() -> Path:
    """What a person has installed: $XDG_DATA_HOME/pcodec, else ~/.local/share/pcodec."""
    return _folder("XDG_DATA_HOME", ".local/share")


def _folder(variable: str, below_home: str) -> Path:
    value = Path(os.environ.get(variable, ""))
    if value.is_absolute():  # the specification has others ignored
        return value / "pcodec"
    try:
        return Path.home() / below_home / "pcodec"
    except RuntimeError as error:
        raise PcodecError(f"there is no home folder; set {variable}") from error
