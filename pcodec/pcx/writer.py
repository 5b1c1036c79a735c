"""`Writer` packs columns into blocks as they arrive; the output need not be seekable."""

from __future__ import annotations

import dataclasses
import io
import json
import zlib
from typing import Any, BinaryIO

import numpy as np

from pcodec.pcx.blocks import EntropyCoder, block
from pcodec.pcx.layout import END, MAX_PAYLOAD, RUN, Header
from pcodec.pcx.packing import Indices, pack


class Writer:
    """Writes a stream: the header at once, blocks as they fill, index and end in `finish`."""

    RUN_BLOCKS = 16
    """Most blocks of type C in one run of the index; a reader reads their heads one by one."""

    def __init__(self, out: BinaryIO, header: Header, entropy: EntropyCoder | None = None) -> None:
        """entropy: codes blocks in fewer bytes; given exactly if the header has an entropy id."""
        assert (header.entropy_id is None) == (entropy is None)
        self.out, self.header, self.entropy = out, header, entropy
        self.offset = 0
        self.columns = 0
        self.payload_bytes = 0
        """Bytes of all columns, without the container."""
        self.indices_crc = 0
        self.runs: list[tuple[int, int, int, int]] = []
        self._run_kind = b""
        self.waiting = np.zeros((0, header.rows), np.uint16)
        self._write(header.to_bytes())

    def _write(self, data: bytes) -> None:
        self.out.write(data)
        self.offset += len(data)

    def write(self, columns: Indices) -> None:
        """Adds indices (columns, rows); writes all blocks that are full."""
        self.waiting = np.concatenate([self.waiting, columns])
        size = self.header.block_columns
        full = len(self.waiting) // size * size
        self._write_blocks([self.waiting[start : start + size] for start in range(0, full, size)])
        self.waiting = self.waiting[full:]
        if full:
            self.out.flush()  # so that the reader of a pipe gets each block at once

    def _write_blocks(self, blocks: list[Indices]) -> None:
        coded = [b""] * len(blocks) if self.entropy is None else self.entropy.compress(blocks)
        for columns, payload in zip(blocks, coded, strict=True):
            plain = pack(columns, self.header.bits)
            smaller = 0 < len(payload) < len(plain)
            self._write_block(b"C" if smaller else b"A", payload if smaller else plain, columns)

    def _write_block(self, kind: bytes, payload: bytes, columns: Indices) -> None:
        goes_on = self.runs and self.runs[-1][3] == len(columns) and self._run_kind == kind
        if goes_on and (kind == b"A" or self.runs[-1][2] < self.RUN_BLOCKS):
            offset, first, blocks, _ = self.runs.pop()
            self.runs.append((offset, first, blocks + 1, len(columns)))
        else:
            self.runs.append((self.offset, self.columns, 1, len(columns)))
        self._run_kind = kind
        self._write(block(kind, payload, self.columns, len(columns)))
        self.indices_crc = zlib.crc32(payload, self.indices_crc)
        self.payload_bytes += len(payload)
        self.columns += len(columns)

    def tag(self, tags: dict[str, Any]) -> None:
        """Writes tags; they replace earlier tags of the same names."""
        self._write(block(b"t", json.dumps(tags, separators=(",", ":")).encode()))

    def finish(self, samples: int, tags: dict[str, Any] | None = None) -> None:
        """Ends the stream. samples: its length, put into the header too if ``out`` can seek."""
        if len(self.waiting):
            self._write_blocks([self.waiting])
            self.waiting = self.waiting[:0]
        if tags:
            self.tag(tags)
        index_offset = self.offset if self.runs else 0
        runs = np.array(self.runs, RUN).tobytes()
        whole = MAX_PAYLOAD // RUN.itemsize * RUN.itemsize
        for start in range(0, len(runs), whole):
            self._write(block(b"I", runs[start : start + whole]))
        end = {"columns": self.columns, "samples": samples, "indices_crc": self.indices_crc}
        self._write(block(b"Z", END.build({**end, "index_offset": index_offset})))
        if self.header.samples is None and self.out.seekable():
            self.out.seek(-self.offset, io.SEEK_CUR)
            self.out.write(dataclasses.replace(self.header, samples=samples).to_bytes())
            self.out.seek(0, io.SEEK_END)
        self.out.flush()
