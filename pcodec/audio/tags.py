"""What audio files say of themselves in words: title, artist, ..., as libsndfile reads it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = (
    "title",
    "artist",
    "album",
    "tracknumber",
    "date",
    "genre",
    "comment",
    "copyright",
    "license",
)
"""As they are called here; libsndfile's "software" is left out, since it made that file alone."""
_ID3 = frozenset(NAMES) - {"copyright", "license"}
_HELD = {
    "WAV": frozenset(NAMES) - {"license"},
    "RF64": frozenset(NAMES) - {"license"},
    "FLAC": frozenset(NAMES),
    "OGG": frozenset(NAMES),
    "CAF": frozenset(NAMES),
    "AIFF": frozenset({"title", "artist", "comment"}),
    "MP3": _ID3,
}
"""What libsndfile writes into files of a format, so that it reads the same from them."""


def read_tags(path: Path) -> dict[str, str]:
    """The tags of a file; none if libsndfile cannot read it."""
    import soundfile

    if _is_bare_mp3(path):
        return {}
    with (
        contextlib.suppress(soundfile.SoundFileError, OSError, TypeError, ValueError),
        soundfile.SoundFile(os.fsencode(path)) as file,
    ):
        return {name: text for name in NAMES if (text := getattr(file, name))}
    return {}


def _is_bare_mp3(path: Path) -> bool:
    """Whether a file is an MP3 without tags; libsndfile complains of some on standard error."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(1) == b"\xff":
            file.seek(max(0, file.seek(0, os.SEEK_END) - 128))
            return file.read(3) != b"TAG"
    return False


def known_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Of what a stream's tags say, what an audio file could."""
    texts = {name: tags[name] for name in NAMES if isinstance(tags.get(name), str)}
    clean = {name: text.encode(errors="replace").decode() for name, text in texts.items()}
    return {name: text.replace("\0", " ") for name, text in clean.items() if text}


def write_tags(file: Any, format: str, tags: Mapping[str, str]) -> list[str]:
    """Gives a SoundFile tags before its first sample; returns the names of those it cannot hold."""
    lost = []
    for name, text in tags.items():
        # libsndfile takes what it writes into MP3 for Latin-1.
        if name in _HELD.get(format, ()) and (format != "MP3" or text.isascii()):
            setattr(file, name, text)
        else:
            lost.append(name)
    return lost
