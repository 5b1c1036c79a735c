"""What is written comes back: rounded by one rule, at a rate that its type has, or not at all."""

import io
import os
import threading

import numpy as np
import pytest
import soundfile

from pcodec import AudioError
from pcodec.audio import Writer
from pcodec.audio.formats import AUDIO_SUFFIXES, RATES
from pcodec.audio.pcm import to_integers

RATE = 16000
QUIET = np.array([0.0, 0.49, -0.49, 0.51, -0.51, 1.4, -1.6, 100.0], np.float32)
"""In units of a 16-bit number."""
ROUNDED = [0, 0, 0, 1, -1, 1, -2, 100]


def written(path, x, kind="WAV", subtype=None, rate=RATE, **how):
    """A file of samples; gives its writer."""
    with path.open("w+b") as file, Writer(file, rate, kind, subtype, **how) as writer:
        for part in np.array_split(np.asarray(x, np.float32), 3):
            writer.write(part)
    return writer


def piped(x, kind="WAV", subtype=None, **how):
    """The bytes that come out of a pipe."""
    read_end, write_end = os.pipe()
    got = []

    def read():
        with os.fdopen(read_end, "rb") as pipe:
            got.append(pipe.read())

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(write_end, "wb") as file, Writer(file, RATE, kind, subtype, **how) as writer:
        writer.write(np.asarray(x, np.float32))
    reader.join()
    return got[0]


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "AU", "CAF", "W64", "RF64"])
def test_every_file_of_16_bits_holds_the_nearest_numbers(tmp_path, kind):
    written(tmp_path / "x", QUIET / 32768, kind, "PCM_16")
    assert soundfile.read(tmp_path / "x", dtype="int16")[0].tolist() == ROUNDED


def test_streams_hold_the_same_numbers_as_files():
    assert np.frombuffer(piped(QUIET / 32768)[44:], "<i2").tolist() == ROUNDED
    assert np.frombuffer(piped(QUIET / 32768, raw="s16le"), "<i2").tolist() == ROUNDED
    flac = soundfile.read(io.BytesIO(piped(QUIET / 32768, "FLAC")), dtype="int16")[0]
    assert flac.tolist() == ROUNDED


def test_integers_that_were_read_come_out_as_they_were(tmp_path):
    integers = np.concatenate([[-32768, 32767], np.arange(-32768, 32768, 97)])
    x = (integers / 32768).astype(np.float32)
    written(tmp_path / "x.wav", x)
    assert np.array_equal(soundfile.read(tmp_path / "x.wav", dtype="int16")[0], integers)
    assert np.array_equal(np.frombuffer(piped(x)[44:], "<i2"), integers)
    assert to_integers(np.array([-9.0, 9.0]), 16).tolist() == [-32768, 32767]


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_24", 24), ("PCM_32", 32)])
def test_files_of_other_widths_hold_the_nearest_numbers_too(tmp_path, subtype, bits):
    x = QUIET / 2 ** (bits - 1)
    written(tmp_path / "x.wav", x, "WAV", subtype)
    samples, _ = soundfile.read(tmp_path / "x.wav")
    assert (samples * 2 ** (bits - 1)).tolist() == ROUNDED


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_U8", "PCM_24", "ULAW", "ALAW", "IMA_ADPCM"])
def test_silence_is_silence(tmp_path, subtype):
    """Of a decoder it has a floor, below half of the smallest number."""
    floor = np.random.default_rng(0).uniform(-0.4, 0.4, 3000) / 2 ** (23 if "24" in subtype else 15)
    written(tmp_path / "x.wav", floor, "WAV", subtype)
    # A-law has no 0.
    assert np.abs(soundfile.read(tmp_path / "x.wav")[0]).max() <= (3e-4 if "A" in subtype[0] else 0)


@pytest.mark.parametrize(
    ("kind", "subtype", "rate", "next_rate"),
    [
        *(("OGG", "OPUS", *rates) for rates in ((44100, 48000), (22050, 24000), (11025, 12000))),
        *(("OGG", "OPUS", *rates) for rates in ((4000, 8000), (96000, 48000), (16000, 16000))),
        *(("MP3", None, *rates) for rates in ((96000, 48000), (12345, 16000), (44100, 44100))),
        *(("OGG", "VORBIS", *rates) for rates in ((44100, 44100), (384000, 200000))),
        *(("FLAC", None, *rates) for rates in ((44100, 44100), (768000, 655350))),
    ],
)
def test_a_rate_that_a_type_lacks_becomes_the_next_one(tmp_path, kind, subtype, rate, next_rate):
    x = 0.3 * np.sin(2 * np.pi * 300 * np.arange(rate // 2) / rate)
    writer = written(tmp_path / "x", x, kind, subtype, rate)
    about = soundfile.info(tmp_path / "x")
    assert writer.rate == about.samplerate == next_rate
    assert about.frames == -(-len(x) * next_rate // rate)
    samples, _ = soundfile.read(tmp_path / "x")
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert abs(spectrum.argmax() / about.frames * next_rate - 300) < 5


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
@pytest.mark.parametrize("rate", [1000, 11025, 44100, 192000, 768000])
def test_every_type_takes_every_rate(tmp_path, suffix, rate):
    subtype = "OPUS" if suffix == ".opus" else None
    writer = written(tmp_path / "x", np.zeros(2000), AUDIO_SUFFIXES[suffix], subtype, rate)
    about = soundfile.info(tmp_path / "x")
    assert about.samplerate == writer.rate and about.frames == -(-2000 * writer.rate // rate)


def test_the_rates_of_a_type_are_those_that_libsndfile_writes():
    for what, kind, subtype in (("MP3", "MP3", None), ("OPUS", "OGG", "OPUS")):
        for rate in range(7350, 49000, 525):
            try:
                soundfile.write(io.BytesIO(), np.zeros(100), rate, subtype, format=kind)
            except soundfile.LibsndfileError:
                assert rate not in RATES[what]
        for rate in RATES[what]:
            soundfile.write(io.BytesIO(), np.zeros(100), rate, subtype, format=kind)


@pytest.mark.parametrize(
    ("kind", "subtype", "width"),
    [
        ("WAV", None, 2),
        ("WAV", "DOUBLE", 8),
        ("AIFF", None, 2),
        ("AIFF", "PCM_24", 3),
        ("AU", None, 2),
    ],
)
def test_no_file_grows_beyond_what_its_sizes_can_say(tmp_path, kind, subtype, width):
    frames = (1 << 32) // width
    with (tmp_path / "x").open("w+b") as file:
        with pytest.raises(AudioError, match=r"4 GiB.*\.w64, \.rf64 or \.flac"):
            Writer(file, RATE, kind, subtype, frames=frames)
        assert not file.tell()
        with Writer(file, RATE, kind, subtype) as writer:
            writer.write(np.zeros(1000, np.float32))
            more = np.broadcast_to(np.float32(0), frames - 1000)  # which takes no memory
            with pytest.raises(AudioError, match="4 GiB"):
                writer.write(more)
    assert soundfile.info(tmp_path / "x").frames == 1000


@pytest.mark.parametrize("kind", ["W64", "RF64", "CAF", "FLAC", "OGG", "MP3"])
def test_types_without_such_a_limit_are_not_refused(tmp_path, kind):
    with (tmp_path / "x").open("w+b") as file, Writer(file, RATE, kind, frames=1 << 34) as writer:
        writer.write(np.zeros(1000, np.float32))


def test_a_limit_counts_what_is_written_and_not_what_comes(tmp_path):
    with (tmp_path / "x").open("w+b") as file:
        with pytest.raises(AudioError, match=r"is 0\.8 h of this sound"):
            Writer(file, 768000, "WAV", frames=1 << 33)
        with Writer(file, 768000, "FLAC", frames=1 << 33) as writer:
            writer.write(np.zeros(1000, np.float32))


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)])
def test_a_pipe_takes_any_type_whole(tmp_path, kind, subtype):
    x = 0.3 * np.sin(np.arange(20000) * 0.1)
    data = piped(x, kind, subtype)
    written(tmp_path / "x", x, kind, subtype)
    if kind == "FLAC":  # in Ogg, streams have numbers of their own
        assert data == (tmp_path / "x").read_bytes()
    assert soundfile.info(io.BytesIO(data)).frames == 20000


def test_what_stands_in_a_file_already_is_kept(tmp_path):
    """As standard output is after another program wrote to it."""
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(b"before")
        file.flush()
        with Writer(file, RATE) as writer:
            writer.write(np.zeros(100, np.float32))
    assert path.read_bytes()[:10] == b"beforeRIFF" and path.stat().st_size == 6 + 44 + 200
