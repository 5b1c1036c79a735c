"""Clips to train on or to measure: a folder of audio, a tsv list, a file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from pcodec.audio.formats import AUDIO_SUFFIXES
from pcodec.errors import AudioError, nearest


def read_list(data: Path) -> list[tuple[Path, dict[str, str]]]:
    """(file, fields) of each clip of a folder, of a tsv list with a column `path`, or of a file.

    Without a list the only field is `path`, relative to the folder.
    """
    if data.suffix.lower() in AUDIO_SUFFIXES:
        return [(data, {"path": data.name})]
    if data.is_file():
        with data.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            # A list is UTF-8; the encoding of file names may differ.
            return [
                (data.parent / os.fsdecode(row["path"].encode()), row)
                for row in read_tsv(file, data)
            ]
    files = sorted(p for p in data.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
    return [(path, {"path": str(path.relative_to(data))}) for path in files]


def read_tsv(file: Iterable[str], name: Path | str) -> list[dict[str, str]]:
    """The rows of a tab-separated list, each with a `path`; AudioError if it is not one."""
    try:
        rows = list(csv.DictReader(file, delimiter="\t"))
    except csv.Error as error:
        raise AudioError(f"{name}: not a tab-separated list ({error})") from error
    if not rows or "path" not in rows[0]:
        raise AudioError(
            f"{name}: not a tab-separated list with a column 'path'{_but('path', rows)}"
        )
    for number, row in enumerate(rows, 2):
        if not row["path"]:
            raise AudioError(f"{name}: line {number} has no path")
    return rows


def _but(column: str, rows: list[dict[str, str]]) -> str:
    """The end of a message about a missing column: a similar name, probably a misspelling."""
    there = [name for name in (rows or [{}])[0] if name is not None]  # of surplus fields
    like = nearest(column, there)
    return f", but {like!r}" if like else ""


def find_clips(data: Path) -> list[tuple[Path, str]]:
    """(file, speaker) of each clip; without a column `speaker`, the folder is the speaker."""
    clips = read_list(data)
    rows = [row for _, row in clips]
    if rows and "speaker" not in rows[0] and (but := _but("speaker", rows)):
        raise AudioError(f"{data}: has no column 'speaker'{but}")
    return [(path, row.get("speaker") or str(path.parent)) for path, row in clips]
