"""Columns in RTP packets, as docs/rtp.md says it. Reads and writes bytes; opens no socket."""

from __future__ import annotations

import re
import secrets
import struct
import time
from dataclasses import dataclass
from typing import NamedTuple

from pcodec.codec import Codec
from pcodec.pcx.packing import column_bytes

PAYLOAD, REDUNDANT = 96, 97
"""Payload types. Both are dynamic: the session's description says what they mean."""
HEAD = struct.Struct("!BBHII")
VERSION, MARKER, MORE = 2 << 6, 1 << 7, 1 << 7
REPORT, BYE = 200, 203
RTCP = struct.Struct("!BBHIQIIIBBHI")
"""A sender report of no reception, and a goodbye."""
MAX_OFFSET, MAX_BLOCK = (1 << 14) - 1, (1 << 10) - 1
"""What RFC 2198 has room for: samples, bytes."""
MAX_DATAGRAM = 1200
"""Bytes that pass nearly every network in one piece."""


@dataclass(frozen=True)
class Session:
    """What sender and receiver agree on."""

    host: str
    port: int
    bitstream_id: bytes
    rate: int
    """Hz: the codec's rate, and the clock's"""
    column_samples: int
    column_bytes: int
    columns: int = 1
    """columns of a packet, and of each repetition in it"""
    repeat: int = 0
    """packets before it that a packet repeats"""

    def __post_init__(self) -> None:
        """ValueError if its packets cannot be."""
        if self.columns < 1 or self.repeat < 0:
            raise ValueError("a packet holds at least 1 column and repeats at least 0 packets")
        size = self.columns * self.column_bytes
        whole = HEAD.size + (1 + self.repeat) * size + (4 * self.repeat + 1) * (self.repeat > 0)
        far = self.repeat * self.columns * self.column_samples > MAX_OFFSET
        if whole > MAX_DATAGRAM or (self.repeat and (far or size > MAX_BLOCK)):
            what = f"{self.columns} columns and {self.repeat} packets repeated"
            raise ValueError(f"{what} are too much for a packet")

    @classmethod
    def of(cls, codec: Codec, host: str, port: int, columns: int, repeat: int) -> Session:
        """A session that sends what a codec makes."""
        c = codec.config
        sizes = c.sample_rate, c.column_samples, column_bytes(c.rows, c.bits)
        return cls(host, port, codec.model.bitstream_id, *sizes, columns, repeat)

    def description(self) -> str:
        """The session as SDP (RFC 8866)."""
        types = f"{REDUNDANT} {PAYLOAD}" if self.repeat else f"{PAYLOAD}"
        lines = ["v=0", f"o=- 0 0 IN IP4 {self.host}", "s=pcodec", f"c=IN IP4 {self.host}", "t=0 0"]
        lines += [f"m=audio {self.port} RTP/AVP {types}"]
        lines += [f"a=rtpmap:{PAYLOAD} PCODEC/{self.rate}"]
        lines += [f"a=fmtp:{PAYLOAD} bitstream-id={self.bitstream_id.hex()}"]
        if self.repeat:
            lines += [f"a=rtpmap:{REDUNDANT} red/{self.rate}"]
            lines += [f"a=fmtp:{REDUNDANT} " + "/".join([str(PAYLOAD)] * (1 + self.repeat))]
        milliseconds = self.columns * self.column_samples * 1000 / self.rate
        lines += [f"a=ptime:{milliseconds:g}", "a=rtcp-mux", "a=rtcp-rsize", "a=sendonly"]
        return "\r\n".join(lines) + "\r\n"

    @classmethod
    def read(cls, description: str, codec: Codec) -> Session:
        """The session of a description; ValueError if this codec cannot take part in it."""

        def field(pattern: str) -> str:
            found = re.search(rf"^{pattern}\s*$", description, re.MULTILINE)
            if found is None:
                line = re.split(r"[: ]", pattern)[0]
                raise ValueError(f"the description has no line {line}... as docs/rtp.md has it")
            return found[1]

        model = field(rf"a=fmtp:{PAYLOAD} bitstream-id=([0-9a-f]{{32}})")
        if model != codec.model.bitstream_id.hex():
            have = f"{codec.model.name} ({codec.model.bitstream_id.hex()})"
            raise ValueError(f"the sender's model is {model}; here it is {have}")
        rate = codec.config.sample_rate
        field(rf"a=rtpmap:{PAYLOAD} (PCODEC/{rate})")
        column = codec.config.column_samples / rate
        columns = max(1, round(float(field(r"a=ptime:([\d.]+)")) / 1000 / column))
        repeated = re.search(rf"^a=fmtp:{REDUNDANT} ([\d/]+)", description, re.MULTILINE)
        repeat = repeated[1].count("/") if repeated else 0
        host, port = field(r"c=IN IP4 ([\d.]+)"), int(field(r"m=audio (\d+) RTP/AVP [\d ]+"))
        return cls.of(codec, host, port, columns, repeat)


class Sender:
    """Makes packets of columns. Sequence, timestamp and source start at random (RFC 3550)."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.source = secrets.randbits(32)
        self.sequence, self.start = secrets.randbits(16), secrets.randbits(32)
        self.columns = self.packets = self.octets = 0
        self._before: list[tuple[int, bytes]] = []

    def packet(self, payload: bytes) -> bytes:
        """The packet of the next columns, with those of the packets before it if so agreed."""
        s, body = self.session, payload
        if s.repeat:
            heads = b""
            for first, old in self._before:
                offset = (self.columns - first) * s.column_samples
                heads += struct.pack("!I", (MORE | PAYLOAD) << 24 | offset << 10 | len(old))
            body = heads + bytes([PAYLOAD]) + b"".join(old for _, old in self._before) + payload
            self._before = [*self._before, (self.columns, payload)][-s.repeat :]
        kind = (REDUNDANT if s.repeat else PAYLOAD) | (0 if self.packets else MARKER)
        timestamp = (self.start + self.columns * s.column_samples) % 2**32
        head = HEAD.pack(VERSION, kind, self.sequence, timestamp, self.source)
        self.sequence = (self.sequence + 1) % 2**16
        self.columns += len(payload) // s.column_bytes
        self.packets += 1
        self.octets += len(body)
        return head + body

    def end(self, samples: int) -> bytes:
        """The last word: how many samples there were in all, and goodbye."""
        clock = (self.start + samples) % 2**32
        since_1900 = round((time.time() + 2_208_988_800) * 2**32) % 2**64
        counts = self.packets % 2**32, self.octets % 2**32
        report = VERSION, REPORT, 6, self.source, since_1900, clock, *counts
        return RTCP.pack(*report, VERSION | 1, BYE, 1, self.source)


class Packet(NamedTuple):
    """What came in a packet."""

    source: int
    sequence: int
    blocks: list[tuple[int, bytes]]
    """(timestamp, payload), the packet's own one last; (timestamp of the end, b"") in a goodbye"""
    goodbye: bool = False


def read_packet(data: bytes) -> Packet | None:
    """The packet of a datagram; None if it is none that docs/rtp.md has."""
    if len(data) == RTCP.size:
        version, kind, _, source, _, clock, _, _, _, last, _, _ = RTCP.unpack(data)
        if version == VERSION and (kind, last) == (REPORT, BYE):
            return Packet(source, 0, [(clock, b"")], goodbye=True)
    if len(data) < HEAD.size:
        return None
    version, kind, sequence, timestamp, source = HEAD.unpack_from(data)
    body = data[HEAD.size :]
    kind &= ~MARKER
    if version != VERSION or kind not in (PAYLOAD, REDUNDANT):
        return None
    if kind == PAYLOAD:
        return Packet(source, sequence, [(timestamp, body)])
    heads, blocks = [], []
    while len(body) >= 4 and body[0] & MORE:
        (head,) = struct.unpack_from("!I", body)
        heads.append((head >> 24 & 0x7F, head >> 10 & MAX_OFFSET, head & MAX_BLOCK))
        body = body[4:]
    if not body or body[0] != PAYLOAD or any(kind != PAYLOAD for kind, _, _ in heads):
        return None
    body = body[1:]
    for _, offset, size in heads:
        blocks.append(((timestamp - offset) % 2**32, body[:size]))
        body = body[size:]
    return Packet(source, sequence, [*blocks, (timestamp, body)])


def clock_difference(later: int, earlier: int) -> int:
    """Samples from one timestamp to another; the clock starts again after 2^32."""
    return (later - earlier + 2**31) % 2**32 - 2**31
