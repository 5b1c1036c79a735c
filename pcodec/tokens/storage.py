"""Local and remote files: paths, and URIs of the file systems that pyarrow supports.

A URI is "s3://bucket/name", "gs://bucket/name" or, for any file system of fsspec, such as
"fsspec+memory://name". The name after the bucket has no escapes.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from pcodec.files import replace_file

OBJECT_STORES = ("s3", "gcs", "abfs")
"""File systems in which a file appears only when complete, and which have no folders."""


def is_remote(location: str) -> bool:
    """Whether a location is a URI."""
    return "://" in location


@cache
def _filesystem(root: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    try:
        return cast(tuple[Any, str], FileSystem.from_uri(root))
    except ValueError as error:  # an unknown scheme
        raise OSError(f"{root}: {error}") from error


def _resolve(uri: str) -> tuple[Any, str]:
    """A file system, and a name in it."""
    scheme, _, rest = uri.partition("://")
    bucket, _, name = rest.partition("/")
    filesystem, base = _filesystem(f"{scheme}://{bucket}/")
    return filesystem, f"{base.rstrip('/')}/{name}".rstrip("/")


def folder_of(location: str) -> str:
    """The folder of a file."""
    return location.rpartition("/")[0] if is_remote(location) else str(Path(location).parent)


def name_of(location: str) -> str:
    """The last part of a location."""
    return location.rpartition("/")[2] if is_remote(location) else Path(location).name


def join(folder: str, name: str) -> str:
    """The location of a file; ``name`` may be relative to the folder, or absolute."""
    if is_remote(name) or not is_remote(folder):
        return name if is_remote(name) else str(Path(folder, name))
    return name if name.startswith("/") else f"{folder.rstrip('/')}/{name}"


def open_file(location: str) -> BinaryIO:
    """Opens a file for reading, seekable."""
    if not is_remote(location):
        return Path(location).open("rb")
    filesystem, name = _resolve(location)
    return cast(BinaryIO, filesystem.open_input_file(name))


def list_folder(location: str) -> list[str] | None:
    """The names of all files below a folder, sorted, with "/" as separator; None for a file.

    FileNotFoundError if there is neither.
    """
    if is_remote(location):
        from pyarrow.fs import FileSelector, FileType

        filesystem, base = _resolve(location)
        (about,) = filesystem.get_file_info([base])
        if about.type == FileType.NotFound:
            raise FileNotFoundError(2, "No such file or folder", location)
        if about.type == FileType.File:
            return None
        infos = filesystem.get_file_info(FileSelector(base, recursive=True))
        files = [info.path for info in infos if info.type == FileType.File]
        names = [path.removeprefix(base).lstrip("/") for path in files]
    else:
        path = Path(location)
        path.stat()  # raises FileNotFoundError
        if not path.is_dir():
            return None
        names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
    return sorted(names, key=lambda name: name.split("/"))


def make_folder(location: str) -> None:
    """Makes a folder unless it exists."""
    if not is_remote(location):
        Path(location).mkdir(parents=True, exist_ok=True)
        return
    filesystem, name = _resolve(location)
    if filesystem.type_name not in OBJECT_STORES:
        filesystem.create_dir(name, recursive=True)


def write_file(location: str, data: bytes) -> None:
    """Writes a whole file, atomically."""
    if not is_remote(location):
        replace_file(Path(location), data)
        return
    filesystem, name = _resolve(location)
    part = name if filesystem.type_name in OBJECT_STORES else f"{name}.part"
    with filesystem.open_output_stream(part) as file:
        file.write(data)
    if part != name:
        filesystem.move(part, name)


def absolute(location: str) -> str:
    """A location that is valid in every process."""
    return location if is_remote(location) else os.path.abspath(location)  # noqa: PTH100
