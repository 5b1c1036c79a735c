"""The bytes of a .pcx stream, version 1: its header, and the heads of its blocks."""

from __future__ import annotations

import dataclasses
import zlib

import construct as c
import numpy as np

from pcodec.errors import ChecksumError, FormatError, TruncatedError, VersionError
from pcodec.pcx.packing import column_bytes

MAGIC = b"\x89PCX\r\n\x1a\n"
SYNC = b"\xf5\xb2"
END_MARK = b"PCXZ"
UNKNOWN = (1 << 64) - 1
LENGTH_UNKNOWN = 1
"""Header flag: the length was not known when the header was written."""

HEADER = c.Struct(
    "magic" / c.Bytes(8),
    "version" / c.Int8ul,
    "flags" / c.Int8ul,
    "header_bytes" / c.Int16ul,
    "source_rate" / c.Int32ul,
    "sample_rate" / c.Int32ul,
    "hop" / c.Int16ul,
    "mel_bands" / c.Int16ul,
    "channels" / c.Int8ul,
    "patch_bands" / c.Int8ul,
    "patch_frames" / c.Int8ul,
    "bits" / c.Int8ul,
    "samples" / c.Int64ul,
    "bitstream_id" / c.Bytes(16),
    "block_columns" / c.Int16ul,
    "phase_rows" / c.Int16ul,
    "serial" / c.Int32ul,
    "crc" / c.Int32ul,
)
ENTROPY = c.Struct("id" / c.Bytes(16), "crc" / c.Int32ul)
"""Second part of the header in version 1.1, for streams with blocks of type C."""
HEAD = c.Struct(
    "sync" / c.Const(SYNC),
    "type" / c.Bytes(1),
    "flags" / c.Int8ul,
    "first_column" / c.Int32ul,
    "columns" / c.Int8ul,
    "length" / c.Int24ul,
    "crc" / c.Int16ul,
)
# The frame index is an array of runs: consecutive blocks of equal type and columns (for NumPy).
RUN = np.dtype([("offset", "<u8"), ("first_column", "<u4"), ("blocks", "<u4"), ("columns", "u1")])
END = c.Struct(
    "columns" / c.Int64ul,
    "samples" / c.Int64ul,
    "indices_crc" / c.Int32ul,
    "index_offset" / c.Int64ul,
    "mark" / c.Const(END_MARK),
)
HEADER_BYTES, HEAD_BYTES, END_BYTES = (x.sizeof() for x in (HEADER, HEAD, END))
ENTROPY_BYTES = ENTROPY.sizeof()
OVERHEAD = HEAD_BYTES + 4
"""Bytes of a block besides its payload."""
MAX_HEADER, MAX_PAYLOAD, MAX_RATE = 4096, 0xFFFF, 768_000
"""Limits of this writer: header in bytes, payload in bytes, sample rate in Hz."""

KNOWN_STARTS = (
    (b"RIFF", "a WAV file"),
    (b"OggS", "an Ogg file"),
    (b"fLaC", "a FLAC file"),
    (b"ID3", "an MP3 file"),
    (b"\xff\xfb", "an MP3 file"),
    (b"\x0a", "a PC Paintbrush image"),
    (b"\x89PCX", "a .pcx stream damaged by text-mode or 7-bit transfer"),
)


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a stream. Rates in Hz; lengths in samples at the codec's rate."""

    source_rate: int
    bitstream_id: bytes
    sample_rate: int = 16000
    hop: int = 128
    mel_bands: int = 80
    patch_bands: int = 4
    patch_frames: int = 4
    phase_rows: int = 4
    bits: int = 10
    samples: int | None = None
    block_columns: int = 32
    serial: int = 0
    entropy_id: bytes | None = None
    """Id of the entropy model for blocks of type C; None if the stream has none."""

    @property
    def rows(self) -> int:
        """Indices per column: the mel patches, then the waveform of the low band."""
        return self.mel_rows + self.phase_rows

    @property
    def mel_rows(self) -> int:
        return self.mel_bands // self.patch_bands

    @property
    def column_samples(self) -> int:
        return self.hop * self.patch_frames

    @property
    def column_bytes(self) -> int:
        return column_bytes(self.rows, self.bits)

    @property
    def bit_rate(self) -> float:
        """Bit rate of the packed indices alone, bit/s."""
        return self.column_bytes * 8 * self.sample_rate / self.column_samples

    @property
    def version(self) -> int:
        """major << 4 | minor; the oldest version that this stream needs."""
        return 0x10 if self.entropy_id is None else 0x11

    def to_bytes(self) -> bytes:
        fields = dataclasses.asdict(self)
        unknown = self.samples is None
        fields.update(
            magic=MAGIC,
            version=self.version,
            flags=LENGTH_UNKNOWN if unknown else 0,
            header_bytes=HEADER_BYTES if self.entropy_id is None else HEADER_BYTES + ENTROPY_BYTES,
            channels=1,
            samples=UNKNOWN if unknown else self.samples,
            crc=0,
        )
        parts = [HEADER.build(fields)[:-4]]
        if self.entropy_id is not None:
            parts.append(self.entropy_id)
        return b"".join(part + zlib.crc32(part).to_bytes(4, "little") for part in parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> tuple[Header, int]:
        """The header and its length in bytes.

        Raises FormatError (not .pcx, or impossible values), TruncatedError, ChecksumError,
        VersionError.
        """
        if not data:
            raise FormatError("the file is empty")
        if data[:8] != MAGIC[: len(data)]:
            for start, what in KNOWN_STARTS:
                if data.startswith(start):
                    raise FormatError(f"not a .pcx speech stream: this looks like {what}")
            raise FormatError("not a .pcx speech stream")
        if len(data) < HEADER_BYTES:
            raise TruncatedError(f"the header is cut off after {len(data)} bytes")
        if zlib.crc32(data[:60]) != int.from_bytes(data[60:64], "little"):
            raise ChecksumError("the header is damaged: its checksum does not match")
        raw = HEADER.parse(data)
        if raw.version >> 4 != 1:
            version = f"{raw.version >> 4}.{raw.version & 15}"
            raise VersionError(f"format version {version}; this reader knows version 1")
        if raw.flags & ~LENGTH_UNKNOWN:
            raise VersionError("reserved bits of the header are set: a feature unknown here")
        if not HEADER_BYTES <= raw.header_bytes <= MAX_HEADER:
            raise FormatError(f"a header of {raw.header_bytes} bytes is not possible")
        unknown = bool(raw.flags & LENGTH_UNKNOWN)
        own = "samples", "entropy_id"
        header = cls(
            **{f.name: raw[f.name] for f in dataclasses.fields(cls) if f.name not in own},
            samples=None if unknown or raw.samples == UNKNOWN else raw.samples,
            entropy_id=_entropy_id(data[HEADER_BYTES : raw.header_bytes]),
        )
        sizes = [header.source_rate, header.sample_rate, header.hop, header.patch_bands]
        sizes += [header.patch_frames, header.mel_bands, header.block_columns]
        if raw.channels != 1 or not all(sizes) or header.mel_bands % header.patch_bands:
            raise FormatError("the header states an impossible geometry")
        try:
            largest = min(header.block_columns, 255) * header.column_bytes
        except ValueError as error:
            raise FormatError(f"the header states an impossible geometry: {error}") from None
        if largest > MAX_PAYLOAD:
            raise FormatError("the header states an impossible geometry: too large a block")
        if max(header.source_rate, header.sample_rate) > MAX_RATE:
            raise FormatError("the header states an impossible sample rate")
        return header, raw.header_bytes


def _entropy_id(rest: bytes) -> bytes | None:
    """The entropy id after the first `HEADER_BYTES` of a header; ChecksumError if damaged."""
    if len(rest) < ENTROPY_BYTES:
        return None
    raw = ENTROPY.parse(rest)
    if zlib.crc32(raw.id) != raw.crc:
        raise ChecksumError("the header is damaged: its second checksum does not match")
    named: bytes = raw.id
    return named
