"""Every sample of a source is read, or what is missing is told; by name and through a pipe."""

import io
import os
import threading

import numpy as np
import pytest
import soundfile
from containers import (
    CONTAINERS,
    RATE,
    UNKNOWN,
    chunk,
    coded,
    id3,
    loud_then_silent,
    ogg_flac,
    put,
    tone,
    unknown_flac,
    variable_mp3,
    with_size,
    without_xing,
)

from pcodec import AudioError
from pcodec.audio import Reader

WAYS = ("name", "pipe")
SPEECH = 0.3 * np.random.default_rng(0).standard_normal(8000).clip(-3, 3)


class Heard:
    """What a reader makes of a source."""

    def __init__(self, data, way, tmp_path, name="in.bin", block=16.0, **how):
        path = tmp_path / name
        path.write_bytes(data)
        source, writer = path, None
        if way == "pipe":
            read_end, write_end = os.pipe()
            source = os.fdopen(read_end, "rb", buffering=0)
            writer = threading.Thread(target=write_all, args=(write_end, bytes(data)), daemon=True)
            writer.start()
        reader = Reader(source, **how)
        try:
            self.samples = np.concatenate([np.zeros(0, np.float32), *reader.blocks(block)])
        finally:
            reader.close()
        self.rate, self.frames = reader.rate, reader.frames
        self.missing, self.damages, self.remarks = (
            reader.missing_frames,
            reader.damages,
            reader.remarks,
        )

    def is_whole(self, x, tolerance=1e-4):
        assert len(self.samples) == len(x)
        assert np.abs(self.samples - x).max(initial=0.0) < tolerance
        return not self.damages and not self.missing


def write_all(descriptor, data):
    with os.fdopen(descriptor, "wb", buffering=0) as out:
        for i in range(0, len(data), 5000):  # as it comes, not as it is cut into samples
            try:
                out.write(data[i : i + 5000])
            except BrokenPipeError:
                return


@pytest.fixture(params=WAYS)
def hear(request, tmp_path):
    return lambda data, **how: Heard(data, request.param, tmp_path, **how)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "8"])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_samples_are_those_that_libsndfile_reads(hear, kind, subtype):
    if subtype == "8":
        subtype = "PCM_S8" if kind in ("AIFF", "AU", "CAF") else "PCM_U8"
    for channels in (1, 3):
        x = np.stack([np.roll(SPEECH, i) for i in range(channels)], 1)
        data = coded(x, kind, subtype)
        known = bytes(data).replace(b"BW64", b"RF64")
        wanted, _ = soundfile.read(io.BytesIO(known), dtype="float32", always_2d=True)
        assert hear(data).is_whole(wanted.mean(1), 1e-6)


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "CAF"])
def test_bytes_come_in_either_order(hear, kind, endian):
    for subtype in ("PCM_16", "PCM_24", "FLOAT"):
        if soundfile.check_format(kind, subtype, endian):
            data = coded(SPEECH / 4, kind, subtype, endian=endian)
            assert hear(data).is_whole(SPEECH / 4)


@pytest.mark.parametrize("size", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_a_stream_whose_size_is_not_known_is_read_to_its_end(hear, kind, subtype, size):
    if kind in ("W64", "CAF", "RF64", "BW64"):
        size = {0xFFFFFFDA: 2**64 - 100, 0x7FFFFFFF: 2**63 - 100}.get(size, size)
    x = 0.9 * SPEECH / np.abs(SPEECH).max()
    data = coded(x, kind, subtype)
    heard = hear(with_size(data, size))
    assert heard.is_whole(hear(data).samples)
    assert heard.rate == RATE


@pytest.mark.parametrize("kind", ["RF64", "BW64"])
def test_a_long_wav_that_has_not_noted_its_sizes_is_read_to_its_end(hear, kind):
    data = coded(SPEECH, kind)
    without_ds64 = data[:12] + data[data.index(b"fmt ") :]
    assert hear(without_ds64).is_whole(SPEECH)


def test_a_size_of_zero_in_a_file_is_remarked(tmp_path):
    data = with_size(coded(SPEECH), 0)
    assert "states no samples" in Heard(data, "name", tmp_path).remarks[0]
    assert not Heard(data, "pipe", tmp_path).remarks
    assert not Heard(coded(SPEECH), "name", tmp_path).remarks


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_file_without_samples_is_empty_and_whole(hear, kind):
    heard = hear(coded(np.zeros(0), kind))
    assert heard.is_whole(np.zeros(0)) and not heard.remarks


def test_an_empty_file_may_have_chunks_behind_its_samples(hear):
    heard = hear(coded(np.zeros(0)) + chunk() + chunk(b"cue ", bytes(4)))
    assert heard.is_whole(np.zeros(0)) and not heard.remarks


@pytest.mark.parametrize("kind", CONTAINERS)
def test_what_is_missing_is_told(hear, kind):
    data = coded(SPEECH, kind)
    heard = hear(data[:-1001])
    assert len(heard.samples) == len(SPEECH) - 501 and heard.missing == 501
    assert heard.damages == ["cut off: 501 frames are missing"]


@pytest.mark.parametrize("more", [1, 999, 4000])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_bytes_beyond_the_size_that_is_stated_are_told(hear, kind, more):
    data = with_size(coded(SPEECH, kind), 2 * (len(SPEECH) - more))
    heard = hear(data)
    assert len(heard.samples) == len(SPEECH) - more and not heard.missing
    (text,) = heard.damages
    assert text.startswith(f"{2 * more} bytes follow") and "--ignore-length" in text
    assert hear(data, ignore_length=True).is_whole(SPEECH)


def test_a_second_file_behind_the_first_one_is_told(hear):
    for kind in ("WAV", "AIFF", "W64"):
        data = coded(SPEECH, kind)
        heard = hear(data + data)
        assert len(heard.samples) == len(SPEECH)
        assert heard.damages[0].startswith(f"{len(data)} bytes follow")


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize(("kind", "order"), [("WAV", "little"), ("AIFF", "big")])
def test_chunks_behind_the_samples_are_none_and_no_damage(hear, kind, order, pad):
    for frames in (800, 801):  # of three bytes
        data = coded(SPEECH[:frames], kind, "PCM_24")
        if frames % 2 and not pad:
            del data[-1]
            if kind == "AIFF":  # where libsndfile counts the padding
                put(data, data.index(b"SSND") + 4, 3 * frames + 8, 4, order)
        tail = chunk(b"LIST", b"odd", order, pad) + chunk(b"id3 ", bytes(99), order)
        assert hear(data + tail).is_whole(SPEECH[:frames])


@pytest.mark.parametrize("pad", [True, False])
def test_chunks_before_the_samples_may_be_odd_and_large(hear, pad):
    data = coded(SPEECH)
    for body in (b"x", b"odd", bytes(70001), bytes(range(256)) * 300 + b"\1"):
        more = data[:36] + chunk(b"note", body, pad=pad) + data[36:]
        assert hear(more).is_whole(SPEECH)


def test_a_wav_of_24_bits_in_32_is_read(hear):
    frames = np.round(SPEECH * 2**23).astype("<i4") << 8
    guid = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    shape = (0xFFFE).to_bytes(2, "little") + b"\1\0" + RATE.to_bytes(4, "little")
    shape += (4 * RATE).to_bytes(4, "little") + b"\4\0\x20\0\x16\0\x18\0\4\0\0\0" + guid
    body = b"WAVE" + chunk(b"fmt ", shape) + chunk(b"data", frames.tobytes())
    assert hear(b"RIFF" + len(body).to_bytes(4, "little") + body).is_whole(SPEECH)


@pytest.mark.parametrize("kind", [*CONTAINERS, "FLAC", "MP3", "OGG"])
def test_a_tag_before_the_file_costs_nothing(hear, kind):
    data = coded(SPEECH, kind)
    plain = hear(data)
    for tag in (id3(1000), id3(127) + id3(3)):
        heard = hear(tag + data)
        assert len(heard.samples) == len(SPEECH)
        assert heard.is_whole(plain.samples)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16"), ("MP3", None)]
)
@pytest.mark.parametrize("links", [2, 3])
def test_all_links_of_a_chain_are_read(hear, kind, subtype, links):
    data = [coded(x, kind, subtype) for x in (tone(0.5), tone(1.0), tone(0.25))][:links]
    alone = np.concatenate([hear(link).samples for link in data])
    heard = hear(b"".join(data))
    assert len(alone) == RATE * (1.5, 1.75)[links - 2]
    assert heard.is_whole(alone)


def test_all_links_of_flac_in_ogg_are_read(hear):
    links = [ogg_flac(x, serial) for serial, x in enumerate((SPEECH, SPEECH[:3000]), 1)]
    assert hear(b"".join(links)).is_whole(np.concatenate([SPEECH, SPEECH[:3000]]))


def test_links_may_differ_in_rate_and_channels(hear):
    for kind in ("OGG", "FLAC"):
        second = coded(tone(1.0, 32000, channels=2), kind, rate=32000)
        heard = hear(coded(tone(), kind) + second)
        assert heard.rate == RATE
        assert len(heard.samples) == 2 * RATE and not heard.damages
        assert 0.19 < np.std(heard.samples[RATE:]) < 0.23


def test_an_mp3_is_read_whole_however_little_its_header_says(hear):
    x = loud_then_silent(4.0)
    whole = variable_mp3(x)
    assert len(hear(whole).samples) == len(x)
    # Without a header nothing says where the encoder's delay ends.
    assert len(x) <= len(hear(without_xing(whole)).samples) < len(x) + 3000
    assert len(hear(whole + without_xing(whole)).samples) >= 2 * len(x)
    assert len(hear(whole + id3() + whole).samples) == 2 * len(x)
    assert len(hear(whole + b"TAG" + bytes(125)).samples) == len(x)


def test_an_mp3_that_was_cut_off_is_told(hear):
    whole = variable_mp3(loud_then_silent(4.0))
    heard = hear(whole[: len(whole) // 2])
    assert heard.missing > RATE and "cut off" in heard.damages[0]
    assert abs(len(heard.samples) + heard.missing - 4 * RATE) < 2000


def test_a_flac_stream_need_not_know_its_length(hear):
    for tail in (b"", b"TAG" + bytes(125)):
        heard = hear(unknown_flac(SPEECH) + tail)
        assert heard.is_whole(SPEECH)


@pytest.mark.parametrize("frames", [3000, 20000])
def test_a_flac_stream_that_states_a_wrong_length_is_told(hear, frames):
    flac = coded(SPEECH, "FLAC", "PCM_16")
    flac[22:26] = frames.to_bytes(4)
    heard = hear(flac)
    assert np.abs(heard.samples - SPEECH).max() < 1e-4
    assert len(heard.damages) == 1 and str(abs(frames - len(SPEECH))) in heard.damages[0]


def test_what_follows_a_flac_stream_and_is_none_is_told(hear):
    heard = hear(coded(SPEECH, "FLAC", "PCM_16") + b"no audio" * 500)
    assert np.abs(heard.samples - SPEECH).max() < 1e-4 and "no audio" in heard.damages[0]


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_packed_samples_are_read_whatever_size_is_stated(hear, subtype):
    data = coded(tone(), "WAV", subtype)
    wanted = hear(data).samples
    assert len(wanted) >= RATE
    for size in (0, 0xFFFFFFFF, 0x7FFFF000):
        heard = hear(with_size(data, size))
        assert len(heard.samples) >= RATE and np.array_equal(heard.samples[:RATE], wanted[:RATE])
    assert "bytes follow" in hear(with_size(data, 2048)).damages[0]
    assert "cut off" in hear(data[:-1000]).damages[0]


def test_a_channel_can_be_chosen(hear):
    x = np.stack([SPEECH, -SPEECH, np.roll(SPEECH, 5)], 1)
    for kind in ("WAV", "FLAC"):
        data = coded(x, kind, "PCM_16")
        for channel in range(3):
            assert hear(data, channel=channel).is_whole(x[:, channel])
    for channel in (3, 99):
        with pytest.raises(AudioError, match=f"3 channels.*no channel {channel + 1}"):
            hear(data, channel=channel)


@pytest.mark.parametrize("block", [0.01, 16.0])
def test_channels_that_cancel_out_are_remarked(hear, block):
    x = tone(2.0)
    for opposite, seconds in ((-x, "2.00 s"), (-0.9 * x, "2.00 s")):
        (text,) = hear(coded(np.stack([x, opposite], 1)), block=block).remarks
        assert seconds in text and "--channel" in text
    half = np.concatenate([x[:RATE], -x[RATE:]])
    assert "1.00 s" in hear(coded(np.stack([x, half], 1)), block=block).remarks[0]
    for other in (x, 0 * x, np.roll(x, 13), 0.5 * SPEECH[np.arange(len(x)) % 8000]):
        assert not hear(coded(np.stack([x, other], 1)), block=block).remarks


def test_samples_far_beyond_full_scale_are_counted(hear):
    x = tone() * 32768
    (text,) = hear(coded(x, "WAV", "FLOAT")).remarks
    assert text.startswith(f"{(np.abs(x) > 4).sum()} samples are clipped") and "32768" in text
    x = np.where(np.arange(100) % 10, 0.1, np.nan)
    assert hear(coded(x, "WAV", "FLOAT")).remarks == ["10 samples are NaN or infinite and become 0"]


def test_the_length_of_a_file_is_known_before_it_is_read(tmp_path):
    for kind in (*CONTAINERS, "FLAC", "OGG", "MP3"):
        path = tmp_path / kind
        for data, count in ((coded(tone(), kind), 1), (coded(tone(), kind) * 2, 2)):
            path.write_bytes(data)
            reader = Reader(path)
            assert reader.frames == (RATE if kind in CONTAINERS else count * RATE)
            reader.close()


def test_ogg_from_a_pipe_is_heard_before_it_ends():
    data = bytes(coded(np.tile(SPEECH, 20), "OGG", "VORBIS"))
    read_end, write_end = os.pipe()
    writing = threading.Event()

    def write():
        with os.fdopen(write_end, "wb", buffering=0) as out:
            out.write(data[: len(data) // 2])
            writing.wait(60)
            out.write(data[len(data) // 2 :])

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    reader = Reader(os.fdopen(read_end, "rb", buffering=0))
    blocks = reader.blocks(0.1)
    heard = len(next(blocks))
    assert heard and not writing.is_set()
    writing.set()
    heard += sum(map(len, blocks))
    assert heard == 20 * len(SPEECH)
    thread.join(60)
    reader.close()


class Huge(io.RawIOBase):
    """A stream of a head and then so many bytes, all 0 but the last frame, that takes no time."""

    def __init__(self, head, size, last):
        self.head, self.left, self.last, self.zeros = bytes(head), size - len(last), last, b""

    def read(self, size=-1):
        if self.head:
            data, self.head = self.head[:size], self.head[size:]
        elif size <= self.left:
            if len(self.zeros) != size:
                self.zeros = bytes(size)
            data = self.zeros
            self.left -= size
        else:
            data, self.left = bytes(self.left) + self.last, 0
            self.last = b""
        return data


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *(("WAV", size) for size in (0, 0x7FFFF000, 0xFFFFFFFF)),
        *(("AIFF", 0xFFFFFFFF), ("AU", 0xFFFFFFFF), ("RF64", 0), ("BW64", 0xFFFFFFFF)),
        *((kind, "known") for kind in ("RF64", "W64", "CAF")),
    ],
)
def test_streams_beyond_4_gib_are_read_to_their_end(kind, size):
    """Of many channels only one is looked at."""
    channels, frames = 1000, 1_080_000
    total = frames * channels * 4
    assert total > 1 << 32
    data = coded(np.full((1, channels), 0.5), kind, "FLOAT")
    head, last = data[: -4 * channels], data[-4 * channels :]
    size = total if size == "known" else size
    reader = Reader(Huge(with_size(data, size)[: len(head)], total, last), channel=0)
    for block in reader.blocks(2.0):
        end = block[-1]
    assert reader.taken == frames and end == 0.5 and not reader.damages
