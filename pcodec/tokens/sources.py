"""Finds the clips of a corpus, divided into parts; each part becomes one shard of tokens."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from pcodec.audio.clips import read_tsv
from pcodec.audio.formats import AUDIO_SUFFIXES
from pcodec.errors import AudioError, PcodecError
from pcodec.tokens import storage

PCX = ".pcx"
TARS = (".tar", ".tar.gz", ".tgz")
CUTS = (".jsonl", ".jsonl.gz")
PARQUET = ".parquet"
PARQUET_ROWS = 16
"""Rows with audio that are read into memory at a time."""


class Clip(NamedTuple):
    """A clip of a corpus: what is known about it, and where its audio or .pcx file is."""

    id: str
    path: str
    """Path as the corpus has it."""
    speaker: str | None = None
    location: str = ""
    """Full path or URI of the file."""
    data: bytes | None = None
    """Content of the file, instead of a location."""
    start: float = 0.0
    """Start within the file, seconds."""
    duration: float | None = None
    """Seconds; None for the rest of the file."""
    channels: tuple[int, ...] | None = None
    """Channels of the file, from 0, whose mean is taken; None for all."""
    error: str | None = None
    """Why there is no clip; None if there is."""

    @property
    def key(self) -> list[Any]:
        """Identity of the clip, independent of where the corpus lies."""
        return [self.id, self.path, self.speaker, self.start, self.duration, self.channels]


Progress: TypeAlias = "tuple[Clip, float]"
"""A clip, and the share of its part that is done after it."""


class ClipList(NamedTuple):
    """Clips that are files, or segments of files."""

    clips: tuple[Clip, ...]

    @property
    def key(self) -> list[Any]:
        return [clip.key for clip in self.clips]

    def __call__(self) -> Iterator[Progress]:
        for number, clip in enumerate(self.clips, 1):
            yield clip, number / len(self.clips)


class Tar(NamedTuple):
    """Clips in a tar file; names equal up to the first dot belong together (WebDataset)."""

    name: str
    location: str

    @property
    def key(self) -> list[Any]:
        return [self.name]

    def __call__(self) -> Iterator[Progress]:
        try:
            with storage.open_file(self.location) as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(0)
                with tarfile.open(fileobj=file, mode="r|*") as tar:
                    for clip in _tar_clips(tar):
                        yield clip, file.tell() / size
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            yield _broken(self.name, self.location, error), 1.0


class Parquet(NamedTuple):
    """Clips in the rows of a Parquet file, as Hugging Face's `datasets` writes them."""

    name: str
    location: str

    @property
    def key(self) -> list[Any]:
        return [self.name]

    def __call__(self) -> Iterator[Progress]:
        from pyarrow import ArrowException

        try:
            with storage.open_file(self.location) as file:
                yield from _parquet_clips(file, self.name, storage.folder_of(self.location))
        except (ArrowException, OSError, PcodecError) as error:
            yield _broken(self.name, self.location, error), 1.0


Part: TypeAlias = "ClipList | Tar | Parquet"


def find_parts(
    data: Sequence[str], shard_clips: int, leave_out: Callable[[str], bool]
) -> list[Part]:
    """Divides a corpus: files and lists by ``shard_clips``, then one part per tar or Parquet file.

    data: folders, files or lists, as paths or URIs. leave_out: whether to ignore the tar or
    Parquet file at a location. OSError if one of ``data`` does not exist, AudioError if one is not
    a list.
    """
    loose: list[Clip] = []
    parts: list[Part] = []
    for location in data:
        for item in _items(location):
            if isinstance(item, Clip):
                loose.append(item)
            elif not leave_out(item.location):
                parts.append(item)
    lists = [
        ClipList(tuple(loose[start : start + shard_clips]))
        for start in range(0, len(loose), shard_clips)
    ]
    return [*lists, *parts]


def _items(location: str) -> Iterator[Clip | Tar | Parquet]:
    """The clips and containers at a location, in order."""
    where = storage.absolute(location)
    names = storage.list_folder(where)
    if names is not None:
        for name in names:
            yield from _item(name, storage.join(where, name))
        return
    name = storage.name_of(where)
    found = list(_item(name, where))
    if found:
        yield from found
    elif name.lower().endswith(CUTS):
        yield from _cuts(where)
    else:
        yield from _list(where)


def _item(name: str, location: str) -> Iterator[Clip | Tar | Parquet]:
    """The clip or container that a file is, by its suffix; nothing for another suffix."""
    lower = name.lower()
    if lower.endswith((PCX, *AUDIO_SUFFIXES)):
        yield Clip(name, name, location=location)
    elif lower.endswith(TARS):
        yield Tar(name, location)
    elif lower.endswith(PARQUET):
        yield Parquet(name, location)


def _list(location: str) -> Iterator[Clip]:
    """A tab-separated list with a column `path`, optionally `id` and `speaker`."""
    with (
        storage.open_file(location) as file,
        io.TextIOWrapper(file, "utf-8-sig", "replace", newline="") as text,
    ):
        rows = read_tsv(text, location)
    folder = storage.folder_of(location)
    for row in rows:
        path = row["path"]
        where = storage.join(folder, path)
        yield Clip(row.get("id") or path, path, row.get("speaker") or None, where)


def _cuts(location: str) -> Iterator[Clip]:
    """Lhotse's cuts or recordings, JSON lines; paths are relative to the current folder."""
    with storage.open_file(location) as file:
        lines: Iterable[bytes] = gzip.GzipFile(fileobj=file) if location.endswith(".gz") else file
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _cut_of(line, f"{location}: line {number}")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise AudioError(f"{location}: {error}") from error


def _cut_of(line: bytes, place: str) -> Clip:
    try:
        return _cut(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AudioError(f"{place}: not a cut or recording of Lhotse ({error!r})") from error


def _cut(cut: dict[str, Any]) -> Clip:
    speakers = [s["speaker"] for s in cut.get("supervisions", ()) if s.get("speaker")]
    clip = Clip(cut["id"], "", speakers[0] if speakers else None)
    recording = cut if "sources" in cut else cut.get("recording")
    if recording is None:
        kind = cut.get("type", "cut")
        return clip._replace(error=f"a {kind} without a recording of its own")
    if recording.get("transforms"):
        return clip._replace(error="the recording has transforms; save the transformed audio first")
    (source, *more) = recording["sources"]
    if more or source["type"] not in ("file", "url"):
        kinds = ", ".join(source["type"] for source in (source, *more))
        return clip._replace(
            error=f"the recording has sources {kinds}; only a single file can be read"
        )
    path = source["source"]
    clip = clip._replace(path=path, location=storage.absolute(path))
    chosen = cut.get("channel", source["channels"])
    channels = [chosen] if isinstance(chosen, int) else list(chosen)
    if channels != source["channels"]:
        places = tuple(source["channels"].index(channel) for channel in channels)
        clip = clip._replace(channels=places)
    start, duration = float(cut.get("start", 0.0)), float(cut["duration"])
    whole = start == 0 and duration == recording["duration"]
    return clip if whole else clip._replace(start=start, duration=duration)


def _tar_clips(tar: tarfile.TarFile) -> Iterator[Clip]:
    files = (member for member in tar if member.isfile())
    for key, group in itertools.groupby(files, lambda member: _tar_key(member.name)):
        audio: list[tuple[str, bytes]] = []
        about: dict[str, Any] = {}
        for member in group:
            file = tar.extractfile(member)
            if file is None or key is None:
                continue
            extension = member.name[len(key) :].lower()
            if extension == ".json":
                about = _json_object(file.read())
            elif extension.endswith((PCX, *AUDIO_SUFFIXES)):
                audio.append((member.name, file.read()))
        for name, data in audio:
            known = about.get("id", key) if len(audio) == 1 else name
            yield Clip(str(known), name, _speaker(about.get), data=data)


def _tar_key(name: str) -> str | None:
    """The key of a sample in WebDataset: the name up to the first dot of its last part."""
    match = re.fullmatch(r"((?:.*/)?[^./][^./]*)\.[^/]*", name)
    return match[1] if match else None


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _speaker(get: Callable[[str], Any]) -> str | None:
    for name in ("speaker", "speaker_id"):
        value = get(name)
        if value is not None and value != "":
            return str(value)
    return None


def _parquet_clips(file: Any, name: str, folder: str) -> Iterator[Progress]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file)
    schema = table.schema_arrow
    audio = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and {"bytes", "path"} <= {field.type.field(i).name for i in range(field.type.num_fields)}
    ]
    if not audio:
        raise AudioError("has no column of audio, a struct<bytes, path>")
    column = "audio" if "audio" in audio else audio[0]
    others = [other for other in ("id", "speaker", "speaker_id") if other in schema.names]
    total, number = table.metadata.num_rows, 0
    for batch in table.iter_batches(PARQUET_ROWS, columns=[column, *others]):
        for row in batch.to_pylist():
            number += 1
            yield _parquet_clip(row, column, f"{name}:{number - 1}", folder), number / total


def _parquet_clip(row: dict[str, Any], column: str, place: str, folder: str) -> Clip:
    audio = row[column] or {}
    path, data = audio.get("path") or place, audio.get("bytes")
    known = row.get("id")
    clip = Clip(path if known is None else str(known), path, _speaker(row.get))
    if data is not None:
        return clip._replace(data=data)
    if audio.get("path"):
        return clip._replace(location=storage.join(folder, path))
    return clip._replace(error="has no audio")


def _broken(name: str, location: str, error: Exception) -> Clip:
    """A clip with an error, for an unreadable container. Raises the error of a remote one."""
    if isinstance(error, OSError) and storage.is_remote(location):
        raise error
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Clip(name, name, error=" ".join(text.split()))
