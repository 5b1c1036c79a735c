"""What can go wrong, as one tree."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from typing_extensions import Self


def shown(name: object) -> str:
    """A name, such as a file's, in one line: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


class PcodecError(Exception):
    """Any error that pcodec raises on purpose; its text is one line for a person."""

    names_file = False
    """Whether the text already starts with the name of a file."""

    @classmethod
    def of_file(cls, name: Path | str, text: str) -> Self:
        """An error that names its file, and is given no other name."""
        error = cls(f"{shown(name)}: {text}")
        error.names_file = True
        return error


def needs_extra(what: str, extra: str, error: ImportError) -> PcodecError:
    """What to say where a package is missing that not everybody needs."""
    constraints = "-c constraints.txt " if extra == "train" else ""
    return PcodecError(
        f"{what} needs more packages ({error}): in a clone of pcodec,"
        f" pip install {constraints}'.[{extra}]'"
    )


class AudioError(PcodecError):
    """Audio that cannot be read or written."""


class AudioWarning(UserWarning):
    """Samples are lost: clipped, not finite, or in channels that cancel out."""


class FormatError(PcodecError):
    """Bytes that are no .pcx stream, or a broken one."""


class TruncatedError(FormatError):
    """The stream ends before it should."""


class ChecksumError(FormatError):
    """Bytes that do not match their checksum."""


class VersionError(FormatError):
    """A stream of a version, or with features, that this reader does not know."""


class ModelMismatchError(PcodecError):
    """A stream made with a model that is not installed."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that an unknown one is probably meant to be, None if nothing is like it."""
    return next(iter(difflib.get_close_matches(word, list(known), 1)), None)
