"""Speech over UDP, to one listener: ``python examples/udp/send.py IN HOST:PORT --sdp call.sdp``.

IN is an audio file, sent at the pace of a microphone, or "-" for one: 16-bit mono samples at
--rate on standard input. The packets are RTP (docs/rtp.md); call.sdp tells the listener all
that it must know. Ctrl-C ends the call as the end of the file does.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from rtp import Sender, Session

import pcodec
from pcodec.audio import Reader, Resampler, Samples
from pcodec.codec import Codec
from pcodec.pcx.packing import pack

GOODBYES = 3
"""That many, for any of them may be lost."""


def speech(source: Path, rate: int, codec_rate: int) -> Iterator[Samples]:
    """Samples (n,) of a file or of standard input at the codec's rate, a column or less."""
    stdin = str(source) == "-"
    # Unbuffered, so that what was said is sent at once.
    reader = Reader(open(0, "rb", 0), (rate, "s16le")) if stdin else Reader(source)  # noqa: SIM115
    resampler = Resampler(reader.rate, codec_rate)
    for block in reader.blocks(512 / 16000):
        yield resampler(block)
    yield resampler(np.zeros(0, np.float32), last=True)
    reader.close()


def packets(codec: Codec, blocks: Iterable[Samples], sender: Sender) -> Iterator[tuple[int, bytes]]:
    """Samples -> datagrams, each with how many samples had been said when it could be made."""
    waiting = np.zeros((0, codec.config.rows), np.uint16)
    size, said = sender.session.columns, 0
    with codec.stream_encoder() as encoder:
        for block in blocks:
            said += len(block)
            waiting = np.concatenate([waiting, encoder.push(block)])
            while len(waiting) >= size:
                yield said, sender.packet(pack(waiting[:size], codec.config.bits))
                waiting = waiting[size:]
        waiting = np.concatenate([waiting, encoder.finish()])
    for start in range(0, len(waiting), size):
        yield said, sender.packet(pack(waiting[start : start + size], codec.config.bits))
    yield said, sender.end(said)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT as an IPv4 address and a number; ValueError or OSError if it is none."""
    host, _, port = text.partition(":")
    return socket.gethostbyname(host), int(port)


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("source", metavar="IN", type=Path, help='audio file, or "-"')
    parser.add_argument("to", metavar="HOST:PORT", type=address, help="of the listener")
    parser.add_argument("--sdp", type=Path, help="write the session's description here")
    parser.add_argument("--columns", type=int, default=1, help="columns of 32 ms a packet")
    parser.add_argument("--repeat", type=int, default=0, help="packets that each packet repeats")
    parser.add_argument("--rate", type=int, default=16000, help="Hz, of standard input")
    parser.add_argument("--model", help="name or folder of the model")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    codec = pcodec.load(arguments.model)
    host, port = arguments.to
    session = Session.of(codec, host, port, arguments.columns, arguments.repeat)
    if arguments.sdp:
        arguments.sdp.write_bytes(session.description().encode())
    sender, rate = Sender(session), codec.config.sample_rate
    blocks = speech(arguments.source, arguments.rate, rate)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        started, datagram = time.monotonic(), b""
        try:
            for said, datagram in packets(codec, blocks, sender):
                # A file is there at once; a microphone is never ahead of time.
                time.sleep(max(0.0, started + said / rate - time.monotonic()))
                sock.sendto(datagram, arguments.to)
        except KeyboardInterrupt:
            datagram = sender.end(sender.columns * session.column_samples)
        for _ in range(GOODBYES):
            sock.sendto(datagram, arguments.to)
            time.sleep(0.02)
    print(f"{sender.columns} columns in {sender.packets} packets", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (pcodec.PcodecError, ValueError, OSError) as error:
        sys.exit(f"send.py: {error}")
