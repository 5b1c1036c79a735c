"""The job of turning a corpus into shards of tokens, which can be resumed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from pcodec import models
from pcodec.errors import PcodecError
from pcodec.tokens import storage
from pcodec.tokens.formats import FORMATS, Facts
from pcodec.tokens.rows import Row
from pcodec.tokens.sources import Part, find_parts


class Output(NamedTuple):
    """Folder, name and format of the shards."""

    folder: str
    stem: str
    format: str

    @property
    def suffix(self) -> str:
        return FORMATS[self.format][0]

    def shard(self, number: int | str, count: int | str) -> str:
        return f"{self.stem}-{number:0>5}-of-{count:0>5}{self.suffix}"

    def has(self, location: str) -> bool:
        """Whether a location is a shard of this output."""
        name = storage.name_of(location)
        pattern = rf"{re.escape(self.stem)}-\d{{5,}}-of-\d{{5,}}{re.escape(self.suffix)}"
        here = location == storage.join(self.folder, name)
        return here and re.fullmatch(pattern, name) is not None


class Job(NamedTuple):
    """What every process needs to write a shard."""

    output: Output
    facts: Facts
    shards: int

    def write(self, number: int, rows: Sequence[Row]) -> None:
        """Writes a shard, atomically."""
        data = FORMATS[self.output.format][1](rows, self.facts, number)
        name = self.output.shard(number, self.shards)
        storage.write_file(storage.join(self.output.folder, name), data)


class Step(NamedTuple):
    """Progress since the last step."""

    shards: float
    clips: int
    failed: int
    """Clips with an error."""
    seconds: float
    """Seconds of audio."""


def start(
    data: Sequence[str], output: Output, model: str | None, shard_clips: int
) -> tuple[Job, dict[int, Part]]:
    """A job, and the parts that are not done yet, by number of their shard.

    PcodecError if there is nothing to do, or the output folder holds another job. OSError and
    AudioError as in `find_parts`.
    """
    chosen = models.find(model)
    c = chosen.config
    name, stream = chosen.name, chosen.bitstream_id.hex()
    facts = Facts(name, stream, c.sample_rate, c.rows, c.codebook_entries)
    parts = find_parts(data, shard_clips, output.has)
    if not parts:
        raise PcodecError(f"{', '.join(data)}: no audio, .pcx, tar or Parquet files found")
    encoder = (chosen.folder / "encoder.safetensors").read_bytes()
    about = {
        **facts._asdict(),
        "encoder": hashlib.sha256(encoder).hexdigest()[:16],
        "format": output.format,
        "shards": len(parts),
        "clips": hashlib.sha256(json.dumps([part.key for part in parts]).encode()).hexdigest()[:16],
    }
    job = Job(output, facts, len(parts))
    done = _resume(output, json.dumps(about, indent=1).encode() + b"\n")
    todo = {i: part for i, part in enumerate(parts) if output.shard(i, len(parts)) not in done}
    return job, todo


def _resume(output: Output, about: bytes) -> set[str]:
    """The shards that exist already; PcodecError if another job made them."""
    storage.make_folder(output.folder)
    try:
        there = storage.list_folder(output.folder) or []
    except FileNotFoundError:  # an object store has no folders
        there = []
    shards = {name for name in there if output.has(storage.join(output.folder, name))}
    note = f".{output.stem}.json"
    location = storage.join(output.folder, note)
    if note in there:
        with storage.open_file(location) as file:
            known = file.read()
        if known != about:
            raise PcodecError.of_file(
                storage.join(output.folder, output.stem),
                "holds tokens of other clips, another model or format; give -o another name",
            )
    elif shards:
        raise PcodecError.of_file(
            storage.join(output.folder, min(shards)), "exists; give -o another name"
        )
    else:
        storage.write_file(location, about)
    return shards
