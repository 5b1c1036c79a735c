"""Reads and writes the tokens of .pcx streams without decoding audio.

Reading needs no model, unless the stream has blocks of type C.
"""

from __future__ import annotations

import io
import operator
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, overload

import numpy as np

from pcodec import models
from pcodec.errors import FormatError, ModelMismatchError, PcodecError
from pcodec.files import replace_file
from pcodec.pcx.blocks import Piece, grid
from pcodec.pcx.chain import Chain
from pcodec.pcx.compact import entropy_model
from pcodec.pcx.layout import Header
from pcodec.pcx.packing import Indices
from pcodec.pcx.writer import Writer

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"
Masked: TypeAlias = "np.ma.MaskedArray[Any, np.dtype[np.uint16]]"


@overload
def read_tokens(source: Source, on_error: Literal["stop"] = "stop") -> Indices: ...
@overload
def read_tokens(source: Source, on_error: Literal["mask"]) -> Masked: ...
def read_tokens(source: Source, on_error: Literal["stop", "mask"] = "stop") -> Indices | Masked:
    """The tokens of a .pcx file, uint16 (columns, rows), without decoding its audio.

    source: the file's path, its bytes, or a file that is open for reading. on_error: for a
    damaged file, "stop" raises FormatError; "mask" returns a masked array whose lost columns are
    masked and hold zeros, and `Codec.from_tokens` conceals them. FormatError or a subclass if it
    is not a .pcx file. The columns of concatenated streams follow one another;
    ModelMismatchError if they are of different models.

        tokens = pcodec.read_tokens("talk.pcx")
        wav = pcodec.load().from_tokens(tokens)
    """
    if on_error not in ("stop", "mask"):
        raise ValueError(f"on_error {on_error!r}: 'stop' or 'mask'")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            with path.open("rb") as file:
                return _read(file, on_error)
        except PcodecError as error:
            raise type(error).of_file(path, str(error)) from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    return _read(source, on_error)


def _read(file: BinaryIO, on_error: str) -> Indices | Masked:
    chain, pieces = parse(file)
    if on_error == "stop":
        check_whole(chain)
    tokens = grid(pieces, chain.known_header.rows)
    lost = tokens < 0
    tokens[lost] = 0
    columns: Indices = tokens.astype(np.uint16)
    return columns if on_error == "stop" else np.ma.MaskedArray(columns, lost)


def parse(file: BinaryIO) -> tuple[Chain, list[Piece]]:
    """Reads a file to its end; returns its chain, with header and faults, and its columns.

    ModelMismatchError if it holds streams of different models.
    """
    chain, columns = Chain(entropy=entropy_model), list[Piece]()
    for parser, pieces in chain.read(file):
        columns += pieces
        if parser.header is not None and _model_of(parser.header) != _model_of(chain.known_header):
            raise ModelMismatchError(
                f"holds streams of two models, {chain.known_header.bitstream_id.hex()} and"
                f" {parser.header.bitstream_id.hex()}, whose tokens cannot be joined"
            )
    return chain, columns


def _model_of(header: Header) -> tuple[object, ...]:
    """The part of a header that tokens must share to be joined."""
    return header.bitstream_id, *(getattr(header, name) for name in models.GEOMETRY)


def check_whole(chain: Chain) -> None:
    """FormatError if a chain that was read to its end has any fault."""
    if not chain.faults:
        return
    fault = chain.faults[0]
    lost = f"{chain.lost_columns} columns are lost" if chain.lost_columns else "damaged"
    raise FormatError(f"{lost}, at {fault.start:.2f} s: {fault.reason}")


def write_tokens(
    target: str | os.PathLike[str] | BinaryIO,
    tokens: Indices,
    length: int | None = None,
    model: str | None = None,
) -> None:
    """Writes tokens (columns, rows) as a .pcx file, which `pcodec decode` turns into sound.

    target: a path, whose file is replaced once all is written, or a file open for writing.
    length: samples of audio at the codec's rate; None for all that the columns hold.
    model: name or folder of the model that made the tokens; None for the shipped one.
    ValueError if a token is not in the codebook, the shape is not the model's, or the columns
    hold fewer samples than ``length``.

        pcodec.write_tokens("talk.pcx", codec.to_tokens(wav), len(wav))
    """
    chosen = models.find(model)
    config = chosen.config
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.shape[1] != config.rows:
        raise ValueError(f"tokens of shape {tokens.shape}, not (columns, {config.rows})")
    held = len(tokens) * config.column_samples
    length = held if length is None else operator.index(length)
    if not 0 <= length <= held:
        raise ValueError(f"{length} samples: {len(tokens)} columns hold {held}")
    out = io.BytesIO()
    writer = Writer(out, chosen.header(config.sample_rate))
    writer.write(tokens)
    writer.finish(length, {"source_frames": length})
    if isinstance(target, (str, os.PathLike)):
        replace_file(Path(target), out.getvalue())
    else:
        target.write(out.getvalue())
