"""The listener: ``python examples/udp/receive.py call.sdp OUT``.

call.sdp is what send.py wrote; its address and port are where to listen. OUT is a WAV file that
is not there yet, or "-" for 16-bit mono samples on standard output, at the codec's rate. What was
said is heard --delay milliseconds after it came (and what the codec itself waits for). Lost
packets are concealed. It ends with the call, or when nothing has come for --timeout seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rtp import MAX_DATAGRAM, Packet, Session, clock_difference, read_packet

import pcodec
from pcodec.audio import Samples, Writer
from pcodec.codec import Codec

WINDOW = 10.0
"""Seconds: a packet that claims to be further from what is played is not believed."""
AGAIN = 1.0
"""Seconds of nothing but late packets, after which the receiver waits longer."""


class JitterBuffer:
    """Columns by their number, each kept until it is its turn.

    The first one is played ``delay`` seconds after it came, each other one a column later than
    the one before it. What is not there by then is lost. What comes twice, or after its turn,
    changes nothing.
    """

    def __init__(self, delay: float, column: float) -> None:
        """delay: seconds that the first column waits; column: seconds that one lasts."""
        self.delay, self.column = delay, column
        self.next: int | None = None
        """number of the column to be played next; None before the first one is played"""
        self.due: float | None = None
        """when that is to happen; None before anything came"""
        self._waiting: dict[int, bytes] = {}
        self._late = 0

    def put(self, number: int, payload: bytes, now: float) -> bool:
        """Takes a column that came; says whether it is of use."""
        if self.due is None:
            self.due = now + self.delay
        if number in self._waiting or (self.next is not None and number < self.next):
            return False
        self._waiting[number] = payload
        return True

    def adapt(self, newest: int, now: float) -> None:
        """Told the newest column of each packet: where the way got longer, waits longer."""
        if self.next is None or newest >= self.next:
            self._late = 0
            return
        self._late += 1
        if self._late * self.column >= AGAIN:
            self.due = now + (self.next - newest) * self.column + self.delay
            self._late = 0

    def take(self) -> tuple[int, bytes | None]:
        """The column whose turn it is, None if it is lost; something must have come."""
        assert self.due is not None
        number = min(self._waiting) if self.next is None else self.next
        self.next, self.due = number + 1, self.due + self.column
        return number, self._waiting.pop(number, None)


@dataclass
class Report:
    """What a receiver met."""

    columns: int = 0
    """that were played, the lost ones too"""
    lost: int = 0
    """columns that were not there when it was their turn"""
    packets: int = 0
    useless: int = 0
    """packets that brought nothing new: doubles, or late ones"""
    strange: int = 0
    """datagrams that are no packet of this call"""

    def __str__(self) -> str:
        return (
            f"{self.columns} columns, {self.lost} lost; {self.packets} packets,"
            f" {self.useless} double or late; {self.strange} strange datagrams"
        )


class Receiver:
    """A call from its first packet to its goodbye. Times are seconds of any one clock."""

    def __init__(self, codec: Codec, session: Session, delay: float) -> None:
        self.session, self.report, self.ended = session, Report(), False
        self._buffer = JitterBuffer(delay, session.column_samples / session.rate)
        self._decoder = codec.stream_decoder()
        self._source: int | None = None
        self._clock = 0
        """timestamp of column 0, the first one that came"""
        self._position: int | None = None
        """sample to be played next, counted from column 0, which may not be the first one"""
        self._end: int | None = None
        """where the call ends, counted likewise"""

    @property
    def due(self) -> float | None:
        """When there is something to play; None before anything came."""
        return self._buffer.due

    def receive(self, datagram: bytes, now: float) -> bool:
        """Takes a datagram that came; says whether it belongs to this call."""
        packet = read_packet(datagram)
        if packet is not None and self._source not in (None, packet.source):
            packet = None  # of somebody else
        mine = packet is not None and self._take(packet, now)
        self.report.strange += not mine
        return mine

    def _take(self, packet: Packet, now: float) -> bool:
        """Takes a packet of this call; False if it cannot be one."""
        if packet.goodbye:
            return self._source is not None and self._hear_goodbye(packet.blocks[0][0])
        if self._source is None:
            self._clock = packet.blocks[0][0]
        columns = [column for block in packet.blocks for column in self._columns(*block)]
        if not columns:
            return False
        self._source = packet.source
        self.report.packets += 1
        useful = [self._buffer.put(*column, now) for column in columns]
        self.report.useless += not any(useful)
        self._buffer.adapt(columns[-1][0], now)
        return True

    def _ahead(self, timestamp: int) -> int:
        """Samples from the column that is played next to a timestamp.

        Counted from there, for the clock of a long call starts again.
        """
        played = (self._buffer.next or 0) * self.session.column_samples
        return clock_difference(timestamp, self._clock + played)

    def _columns(self, timestamp: int, payload: bytes) -> list[tuple[int, bytes]]:
        """(number, payload) of each column of a block; none if it cannot be of this call."""
        s, ahead = self.session, self._ahead(timestamp)
        count, rest = divmod(len(payload), s.column_bytes)
        if rest or not 1 <= count <= s.columns or ahead % s.column_samples:
            return []
        if abs(ahead) > WINDOW * s.rate:
            return []
        first, size = (self._buffer.next or 0) + ahead // s.column_samples, s.column_bytes
        return [(first + k, payload[k * size : (k + 1) * size]) for k in range(count)]

    def _hear_goodbye(self, timestamp: int) -> bool:
        ahead = self._ahead(timestamp)
        if abs(ahead) <= WINDOW * self.session.rate:
            self._end = (self._buffer.next or 0) * self.session.column_samples + ahead
            return True
        return False

    def play(self, now: float) -> Iterator[Samples]:
        """The samples whose time has come, (n,) at the codec's rate."""
        size = self.session.column_samples
        while not self.ended and self.due is not None and now >= self.due:
            played = self._buffer.next
            if self._end is not None and played is not None and played * size >= self._end:
                yield from self.finish()
                return
            number, payload = self._buffer.take()
            self.report.columns += 1
            self.report.lost += payload is None
            if self._position is None:
                self._position = number * size
            yield self._cut(self._decoder.decode_packet(payload))

    def finish(self) -> Iterator[Samples]:
        """Ends the call; gives the samples that waited for the future."""
        if not self.ended:
            self.ended = True
            yield self._cut(self._decoder.finish())

    def _cut(self, samples: Samples) -> Samples:
        """What of the next samples lies before the end: the last column is seldom full."""
        position = self._position or 0
        if self._end is not None:
            samples = samples[: max(0, self._end - position)]
        self._position = position + len(samples)
        return samples


def listen(sock: socket.socket, receiver: Receiver, timeout: float) -> Iterator[Samples]:
    """Samples as their time comes, until the call ends or nothing came for so many seconds."""
    sock.setblocking(False)
    heard: float | None = None
    while not receiver.ended:
        times = [receiver.due] if receiver.due is not None else []
        times += [heard + timeout] if heard is not None else []
        wait = max(0.0, min(times) - time.monotonic()) if times else None
        select.select([sock], [], [], wait)
        now = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            for _ in range(1000):  # whoever floods this port must not stop the sound
                if receiver.receive(sock.recv(MAX_DATAGRAM + 1), now):
                    heard = now
        yield from receiver.play(now)
        if heard is not None and now >= heard + timeout:
            yield from receiver.finish()


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("sdp", type=Path, help="the session's description")
    parser.add_argument("out", metavar="OUT", help='new WAV file, or "-"')
    parser.add_argument("--delay", type=float, default=100.0, help="milliseconds")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds")
    parser.add_argument("--model", help="name or folder of the model")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    codec = pcodec.load(arguments.model)
    session = Session.read(arguments.sdp.read_text(), codec)
    receiver = Receiver(codec, session, arguments.delay / 1000)
    raw = "s16le" if arguments.out == "-" else None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.ExitStack() as stack:
        sock.bind((session.host, session.port))
        out = sys.stdout.buffer if raw else stack.enter_context(Path(arguments.out).open("xb"))
        writer = stack.enter_context(Writer(out, session.rate, raw=raw))
        print(f"listening on {session.host}:{session.port}", file=sys.stderr, flush=True)
        try:
            for samples in listen(sock, receiver, arguments.timeout):
                writer.write(samples)
        except KeyboardInterrupt:
            for samples in receiver.finish():
                writer.write(samples)
    print(receiver.report, file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (pcodec.PcodecError, ValueError, OSError) as error:
        sys.exit(f"receive.py: {error}")
