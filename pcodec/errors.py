"""The errors and warnings of pcodec, as one tree."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from typing_extensions import Self


def shown(name: object) -> str:
    """A name, such as that of a file, in one line, with unprintable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


class PcodecError(Exception):
    """Base of all errors that pcodec raises on purpose; the message is one line."""

    names_file = False
    """Whether the message starts with the name of a file."""

    @classmethod
    def of_file(cls, name: Path | str, text: str) -> Self:
        """An error whose message starts with the name of its file."""
        error = cls(f"{shown(name)}: {text}")
        error.names_file = True
        return error


def needs_extra(what: str, extra: str, error: ImportError) -> PcodecError:
    """The error of a command whose optional packages are not installed."""
    constraints = "-c constraints.txt " if extra == "train" else ""
    return PcodecError(
        f"{what} needs more packages ({error}): in a clone of pcodec,"
        f" pip install {constraints}'.[{extra}]'"
    )


class AudioError(PcodecError):
    """The audio cannot be read or written."""


class AudioWarning(UserWarning):
    """Samples are lost: clipped, not finite, or in channels that cancel out."""


class FormatError(PcodecError):
    """The bytes are not a .pcx stream, or a damaged one."""


class TruncatedError(FormatError):
    """The stream ends before it should."""


class ChecksumError(FormatError):
    """The bytes do not match their checksum."""


class VersionError(FormatError):
    """The stream has a version or features that this reader does not know."""


class ModelMismatchError(PcodecError):
    """The stream was made with a model that is not installed."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most similar to an unknown one; None if no word is similar."""
    return next(iter(difflib.get_close_matches(word, list(known), 1)), None)
