"""The example of docs/howto/network.md: real sockets on the loopback, time made by the test."""

import heapq
import importlib
import itertools
import random
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
UDP = ROOT / "examples" / "udp"
sys.path.insert(0, str(UDP))
try:
    rtp, send, receive = map(importlib.import_module, ("rtp", "send", "receive"))
finally:
    sys.path.remove(str(UDP))

COLUMN = 512
SECONDS = COLUMN / 16000
DELAY = 0.1


@pytest.fixture(scope="module")
def said(speech):
    """Two seconds of speech that do not fill their last column."""
    return speech[8000:40100]


@pytest.fixture(scope="module")
def tokens(codec, said):
    return codec.to_tokens(said)


@pytest.fixture(scope="module")
def offline(codec, said, tokens):
    return codec.from_tokens(tokens)[: len(said)]


def session_of(codec, columns=1, repeat=0, port=5004):
    return rtp.Session.of(codec, "127.0.0.1", port, columns, repeat)


def sent(codec, said, columns=1, repeat=0):
    """(second of the call, datagram) of all that send.py sends."""
    sender = rtp.Sender(session_of(codec, columns, repeat))
    blocks = (said[k : k + COLUMN] for k in range(0, len(said), COLUMN))
    packets = [(at / 16000, data) for at, data in send.packets(codec, blocks, sender)]
    return packets + packets[-1:] * (send.GOODBYES - 1)


class Relay:
    """Carries datagrams over loopback sockets to a receiver, and harms them on the way.

    ``way`` is given the number of a datagram and says after which seconds it arrives: never, once
    or often. The time of the call is that of the test, so that a busy machine loses nothing.
    """

    def __init__(self, way):
        self.way = way

    def carry(self, packets, receiver):
        """What the receiver plays."""
        played = []
        arrivals = [
            (at + delay, k, data) for k, (at, data) in enumerate(packets) for delay in self.way(k)
        ]
        heapq.heapify(arrivals)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as arriving,
        ):
            arriving.bind(("127.0.0.1", 0))
            arriving.settimeout(30)
            while arrivals:
                now, _, data = heapq.heappop(arrivals)
                played += self.until(now, receiver)
                out.sendto(data, arriving.getsockname())
                receiver.receive(arriving.recv(2048), now)
        played += self.until(now + 10, receiver)
        return np.concatenate([np.zeros(0, np.float32), *played, *receiver.finish()])

    @staticmethod
    def until(now, receiver):
        while receiver.due is not None and receiver.due <= now and not receiver.ended:
            yield from receiver.play(receiver.due)


def at_once(_):
    return [0.0]


def without(*lost):
    return lambda k: [] if k in lost else [0.0]


def with_losses(codec, tokens, lost):
    """What offline decoding gives when these columns are lost."""
    lost = set(lost)
    with codec.stream_decoder() as decoder:
        parts = [
            decoder.conceal(1) if k in lost else decoder.push(tokens[k : k + 1])
            for k in range(len(tokens))
        ]
        return np.concatenate([*parts, decoder.finish()])


def call(codec, said, way, columns=1, repeat=0, delay=DELAY):
    """What is heard, and the receiver's report."""
    receiver = receive.Receiver(codec, session_of(codec, columns, repeat), delay)
    heard = Relay(way).carry(sent(codec, said, columns, repeat), receiver)
    assert receiver.ended
    return heard, receiver.report


def test_over_a_good_network_the_offline_decode_is_heard(codec, said, offline, tokens):
    heard, report = call(codec, said, at_once)
    assert np.array_equal(heard, offline)
    assert report == receive.Report(columns=len(tokens), packets=len(tokens))


def test_jitter_reordering_and_doubles_within_the_delay_change_nothing(codec, said, offline):
    r = random.Random(1)
    doubles = set(r.sample(range(60), 20))
    # Half of the packets are overtaken by the two that follow.
    ways = [[r.choice((0.0, 0.07)) for _ in range(1 + (k in doubles))] for k in range(100)]
    heard, report = call(codec, said, lambda k: ways[k])
    assert np.array_equal(heard, offline)
    assert report.lost == report.strange == 0 and report.useless == 20


def test_lost_packets_are_concealed_in_their_place_and_the_length_stays(
    codec, said, offline, tokens
):
    lost = sorted(random.Random(2).sample(range(10, 60), 8))
    heard, report = call(codec, said, without(*lost))
    assert report.lost == len(lost)
    assert len(heard) == len(said)
    assert np.array_equal(heard, with_losses(codec, tokens, lost)[: len(said)])
    before = (lost[0] - 2) * COLUMN  # the decoder looks ahead
    assert np.array_equal(heard[:before], offline[:before])
    assert not np.array_equal(heard, offline)


def test_packets_that_come_after_their_turn_are_as_good_as_lost(codec, said):
    late = (12, 13, 30)
    heard, report = call(codec, said, lambda k: [DELAY + 0.05] if k in late else [0.0])
    assert report.lost == report.useless == 3
    assert np.array_equal(heard, call(codec, said, without(*late))[0])


def test_a_loss_in_the_last_packet_keeps_the_end_where_it_was(codec, said, tokens):
    last = len(tokens) - 1
    heard, report = call(codec, said, without(last, last + 1, last + 2))  # two goodbyes too
    assert report.lost == 1 and len(heard) == len(said)


def test_a_call_is_heard_from_the_first_packet_that_comes(codec, said, tokens):
    heard, report = call(codec, said, without(0, 1, 2))
    assert report.lost == 0 and report.columns == len(tokens) - 3
    assert len(heard) == len(said) - 3 * COLUMN


def test_a_first_packet_that_is_overtaken_is_still_heard_first(codec, said, offline):
    heard, report = call(codec, said, lambda k: [0.07] if k == 0 else [0.0])
    assert np.array_equal(heard, offline) and report.lost == 0


def test_a_packet_of_several_columns_loses_them_together(codec, said, tokens):
    heard, report = call(codec, said, without(5), columns=3)
    assert report.lost == 3
    assert np.array_equal(heard, with_losses(codec, tokens, (15, 16, 17))[: len(said)])


def test_what_the_next_packets_repeat_is_not_lost(codec, said, offline, tokens):
    lost = (5, 9, 20, 31, 33)
    heard, report = call(codec, said, without(*lost), repeat=1)
    assert report.lost == 0 and np.array_equal(heard, offline)
    heard, report = call(codec, said, without(20, 21), repeat=1)
    assert np.array_equal(heard, with_losses(codec, tokens, [20])[: len(said)])
    # Of two packets of 64 ms the repetition of the first comes 128 ms after it.
    for delay, lost in ((0.1, 1), (0.13, 0)):
        heard, report = call(codec, said, without(4, 5), columns=2, repeat=2, delay=delay)
        assert report.lost == lost and np.array_equal(heard, offline) == (lost == 0)


def test_a_way_that_gets_longer_is_followed_after_a_second(codec, speech):
    said = speech[: 143 * COLUMN]
    heard, report = call(codec, said, lambda k: [0.0 if k < 20 else 0.3])
    assert len(heard) == len(said)
    # 200 ms too late, and a second until that is believed.
    assert 32 <= report.lost < 50


def test_the_clock_and_the_numbers_may_start_again(codec, said, offline, monkeypatch):
    monkeypatch.setattr(rtp.secrets, "randbits", lambda bits: (1 << bits) - 10)
    heard, report = call(codec, said, at_once)
    assert np.array_equal(heard, offline) and report.lost == report.strange == 0


def test_what_is_no_packet_of_the_call_changes_nothing(codec, said, offline):
    r = random.Random(3)
    session = session_of(codec, columns=1, repeat=1)
    packets = sent(codec, said, repeat=1)
    start, body = packets[0][1][:12], packets[0][1][12:]
    source = start[8:]

    def packet(kind, timestamp, payload, source=source):
        head = struct.pack("!BBHI", 0x80, kind, 0, timestamp % 2**32)
        return head + source + payload

    clock = int.from_bytes(start[4:8], "big")
    strange = [
        packet(96, clock, b""),  # no column
        packet(96, clock, bytes(60)),  # more than agreed
        packet(96, clock, bytes(29)),
        packet(96, clock + 7, bytes(30)),  # between two columns
        packet(96, clock + COLUMN * 10**5, bytes(30)),  # an hour ahead
        packet(96, clock, bytes(30), bytes(4)),  # of somebody else
        packet(0, clock, bytes(30)),  # another kind of sound
        packet(97, clock, b"\xe0" * 50),  # heads that never end
        packet(97, clock, b"\x80\0\0\x1e" + bytes(31)),  # of another type
        rtp.Sender(session).end(0),  # somebody else's goodbye
        b"",
        b"\x80",
        *(r.randbytes(r.randrange(100)) for _ in range(2000)),
        *(start + r.randbytes(r.randrange(100)) for _ in range(2000)),
    ]
    receiver = receive.Receiver(codec, session, DELAY)
    assert body and not receiver.receive(strange[-1], 0.0) and receiver.due is None
    first = packets[0][1]
    assert receiver.receive(first, 0.0)
    assert [receiver.receive(data, 0.0) for data in strange] == [False] * len(strange)
    heard = Relay(lambda k: [0.0][: k > 0 or None]).carry(packets, receiver)
    assert np.array_equal(heard, offline)
    assert receiver.report.strange == len(strange) + 1


def test_a_sender_that_falls_silent_ends_the_call(codec, said):
    receiver = receive.Receiver(codec, session_of(codec), DELAY)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.bind(("127.0.0.1", 0))
        for _, data in sent(codec, said)[:3]:
            out.sendto(data, sock.getsockname())
        heard = np.concatenate(list(receive.listen(sock, receiver, timeout=0.3)))
    assert receiver.ended and len(heard) >= 3 * COLUMN


def test_a_call_in_which_nothing_came_is_silence_of_no_length(codec):
    receiver = receive.Receiver(codec, session_of(codec), DELAY)
    assert len(np.concatenate(list(receiver.finish()))) == 0 and receiver.ended
    assert list(receiver.finish()) == []


def test_a_packet_is_one_of_rtp(codec, tokens):
    sender = rtp.Sender(session_of(codec, repeat=1))
    payloads = [bytes([k]) * 30 for k in range(3)]
    first, second, third = map(sender.packet, payloads)
    for k, data in enumerate((first, second, third)):
        version, kind, sequence, timestamp, source = struct.unpack("!BBHII", data[:12])
        assert version == 0x80  # version 2, no padding, no extension, no further sources
        assert kind == (0x80 | 97 if k == 0 else 97)  # the marker begins the speech
        assert sequence == (sender.sequence - 3 + k) % 2**16
        assert timestamp == (sender.start + k * COLUMN) % 2**32
        assert source == sender.source
    assert first[12:] == bytes([96]) + payloads[0]
    # RFC 2198: more follow, type, 14 bits of offset, 10 of length; then the last one's type.
    head = (1 << 31 | 96 << 24 | COLUMN << 10 | 30).to_bytes(4, "big")
    assert second[12:] == head + bytes([96]) + payloads[0] + payloads[1]
    assert len(sender.end(700)) == 36 and sender.end(700)[1] == 200 and sender.end(700)[29] == 203


@pytest.mark.parametrize(("columns", "repeat"), [(0, 0), (1, -1), (40, 0), (35, 1), (16, 2)])
def test_packets_that_cannot_be_are_refused_before_anything_is_sent(codec, columns, repeat):
    with pytest.raises(ValueError, match="packet"):
        session_of(codec, columns, repeat)


@pytest.mark.parametrize(("columns", "repeat"), [(1, 0), (3, 0), (2, 2), (39, 0)])
def test_a_description_says_all_that_the_listener_must_know(codec, columns, repeat):
    session = session_of(codec, columns, repeat)
    assert rtp.Session.read(session.description(), codec) == session


def test_a_description_of_another_model_is_refused_by_both_names(codec):
    own = codec.model.bitstream_id.hex()
    text = session_of(codec).description().replace(own, "0" * 32)
    with pytest.raises(ValueError, match=f"{'0' * 32}; here it is speech16k .{own}"):
        rtp.Session.read(text, codec)
    with pytest.raises(ValueError, match="no line a=fmtp"):
        rtp.Session.read("v=0\r\n", codec)


def test_the_page_about_rtp_shows_what_is_sent(codec):
    page = (ROOT / "docs" / "rtp.md").read_text()
    (shown,) = re.findall(r"```sdp\n(.*?)```", page, re.DOTALL)
    shown = shown.replace("BITSTREAM-ID", codec.model.bitstream_id.hex())
    assert shown.split() == session_of(codec, repeat=1).description().split()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|", page, re.MULTILINE)
    assert len(rows) > 3
    for columns, repeat, size, kbits in rows:
        sender = rtp.Sender(session_of(codec, int(columns), int(repeat)))
        payload = bytes(int(columns) * sender.session.column_bytes)
        (*_, packet) = (sender.packet(payload) for _ in range(1 + int(repeat)))
        assert len(packet) + 28 == int(size)  # IPv4 and UDP
        rate = int(size) * 8 / (int(columns) * SECONDS) / 1000
        assert f"{rate:.1f}" == kbits


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def run(script, *arguments):
    return subprocess.Popen(
        [sys.executable, UDP / script, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )


def test_the_two_programs_carry_a_file(codec, said, tmp_path):
    # In real time. The delay is long, so that a busy machine seldom loses a packet.
    source, out, sdp = (tmp_path / name for name in ("in.wav", "out.wav", "call.sdp"))
    soundfile.write(source, said, 16000, "PCM_16")
    port = free_port()
    sdp.write_text(session_of(codec, 2, 1, port).description())
    listener = run("receive.py", sdp, out, "--delay", 1000, "--timeout", 60)
    options = ("--columns", 2, "--repeat", 1, "--sdp", tmp_path / "sent.sdp")
    assert listener.stderr.readline() == f"listening on 127.0.0.1:{port}\n"
    speaker = run("send.py", source, f"127.0.0.1:{port}", *options)
    assert speaker.communicate(timeout=120)[1] == "63 columns in 32 packets\n"
    assert speaker.returncode == 0
    _, report = listener.communicate(timeout=120)
    assert listener.returncode == 0, report
    assert sdp.read_bytes() == (tmp_path / "sent.sdp").read_bytes()
    heard, rate = soundfile.read(out, dtype="float32")
    assert rate == 16000 and len(heard) == len(said)
    if "63 columns, 0 lost" in report:
        written = soundfile.read(source, dtype="float32")[0]
        offline = codec.from_tokens(codec.to_tokens(written))[: len(said)]
        assert np.abs(heard - offline.clip(-1, 1)).max() < 2 / 32768


def test_a_description_or_an_output_that_cannot_be_used_is_one_line(tmp_path):
    sdp, out = tmp_path / "call.sdp", tmp_path / "out.wav"
    sdp.write_text("v=0\r\n")
    for arguments, text in (
        (("receive.py", sdp, out), "no line"),
        (("receive.py", tmp_path / "missing.sdp", out), "missing.sdp"),
        (("send.py", tmp_path / "missing.wav", "127.0.0.1:9"), "missing.wav"),
    ):
        process = run(*arguments)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 1 and text in error and len(error.splitlines()) == 1
    assert not out.exists()


def test_numbers_are_taken_in_their_turn_whatever_their_order():
    buffer = receive.JitterBuffer(delay=0.1, column=0.032)
    assert buffer.due is None
    for number in (2, 0, 1, 1):
        buffer.put(number, bytes([number]), now=5.0)
    assert buffer.due == 5.1
    assert [buffer.take() for _ in range(4)] == [(0, b"\0"), (1, b"\1"), (2, b"\2"), (3, None)]
    assert buffer.due == pytest.approx(5.1 + 4 * 0.032)
    assert not buffer.put(3, b"", now=6.0)
    assert list(itertools.islice((buffer.take()[0] for _ in range(2)), 2)) == [4, 5]
