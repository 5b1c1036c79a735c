"""Nothing is lost in silence on the command line: streams, signals, damage, and what is said."""

import array
import contextlib
import dataclasses
import fcntl
import importlib.util
import io
import json
import os
import resource
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SPEECH

import pcodec
from pcodec.cli import main
from pcodec.cli.output import BlockingOutput
from pcodec.cores import threads_for
from pcodec.pcx.parser import Parser

RATE = 16000
RUN = [sys.executable, "-m", "pcodec"]


def load_containers():
    path = Path(__file__).parents[1] / "audio" / "containers.py"
    spec = importlib.util.spec_from_file_location("containers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


containers = load_containers()


@pytest.fixture
def cases(tmp_path):
    """A folder of the small cases."""
    for name, data in containers.cases():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capfd):
    """Runs a command in this process; gives its exit code, output and messages."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments, input=None):
        monkeypatch.setattr(sys, "argv", ["pcodec", *map(str, arguments)])
        if input is not None:
            read_end, write_end = os.pipe()
            writer = threading.Thread(target=feed, args=(write_end, input), daemon=True)
            writer.start()
            monkeypatch.setattr(sys, "stdin", os.fdopen(read_end))
        with pytest.raises(SystemExit) as left:
            main()
        if input is not None:
            sys.stdin.close()
            writer.join()
        out, err = capfd.readouterr()
        return left.value.code, out, err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def feed(descriptor, data):
    with os.fdopen(descriptor, "wb", buffering=0) as out, contextlib.suppress(BrokenPipeError):
        out.write(bytes(data))


def duration(run, path):
    """Seconds of a .pcx file."""
    return json.loads(run("info", "--json", path)[1])["duration"]


@pytest.mark.parametrize(
    ("name", "seconds", "code", "text"),
    [
        ("size_0.wav", 1.0, 0, "states no samples"),
        ("stream.wav", 1.0, 0, ""),
        ("stream.rf64", 1.0, 0, None),
        ("stream.aiff", 1.0, 0, ""),
        ("more_than_stated.wav", 0.5, 3, "16000 bytes follow"),
        ("more_than_stated.aiff", 0.5, 3, "16000 bytes follow"),
        ("cut_off.wav", 0.624, 3, "cut off: 6022 frames are missing"),
        ("tail.wav", 1.0, 0, ""),
        ("id3.wav", 1.0, 0, ""),
        ("id3.flac", 1.0, 0, ""),
        ("unknown_length.flac", 1.0, 0, ""),
        ("chained.flac", 2.0, 0, ""),
        ("chained.ogg", 2.0, 0, ""),
        ("chained.opus", 2.0, 0, ""),
        ("chained_flac.oga", 2.0, 0, ""),
        ("chained.mp3", 2.0, 0, ""),
        ("float_in_int16_scale.wav", 1.0, 0, "samples are clipped"),
        ("opposite_channels.wav", 1.0, 0, "cancel each other out in 1.00 s"),
        ("empty.wav", 0.0, 0, ""),
        ("nothing.wav", None, 1, ""),
        ("phone.m4a", None, 1, "ffmpeg -i"),
        ("talk.webm", None, 1, "ffmpeg -i"),
    ],
)
def test_each_case_comes_out_as_it_should_by_name_and_through_a_pipe(
    run, cases, name, seconds, code, text
):
    data = (cases / name).read_bytes()
    for way, source, given in (("name", cases / name, None), ("pipe", "-", data)):
        out = cases / f"{way}.pcx"
        done, _, messages = run("encode", source, out, input=given)
        assert done == code, messages
        if text == "":
            assert not [line for line in messages.splitlines() if code == 0]
        elif text and (way, name) != ("pipe", "size_0.wav"):
            assert text in messages
        assert out.exists() == (seconds is not None)
        if seconds is not None:
            assert duration(run, out) == pytest.approx(seconds, abs=0.002)


def test_a_length_can_be_ignored_and_a_channel_chosen(run, cases):
    out = cases / "out.pcx"
    assert run("encode", "--ignore-length", cases / "more_than_stated.wav", out)[0] == 0
    assert duration(run, out) == 1.0
    for channel in ("1", "2"):
        code, _, messages = run(
            "encode", "-f", "--channel", channel, cases / "opposite_channels.wav", out
        )
        assert code == 0 and not messages
        assert np.abs(pcodec.decode(out.read_bytes())[0]).max() > 0.1
    for channel, code in (("3", 1), ("0", 2), ("left", 2), ("-1", 2)):
        done, _, messages = run("encode", "--channel", channel, cases / "opposite_channels.wav")
        assert done == code and ("2 channels" in messages) == (code == 1)
    assert run("encode", "--channel", "1", "-f", cases / "plain.wav", out)[0] == 0


@pytest.mark.parametrize("suffix", [".opus", ".mp3", ".ogg", ".wav", ".flac"])
def test_a_rate_that_the_output_lacks_becomes_the_next_one_and_is_told(run, cases, suffix):
    coded, out = cases / "out.pcx", cases / f"out{suffix}"
    assert run("encode", cases / "rate_44100.wav", coded)[0] == 0
    code, _, messages = run("decode", coded, out)
    assert code == 0
    about = soundfile.info(out)
    assert about.samplerate == (48000 if suffix == ".opus" else 44100)
    assert about.frames == about.samplerate
    assert ("at 48000 Hz" in messages) == (suffix == ".opus")


def test_silence_is_silence_in_every_output(run, cases):
    (cases / "silent.wav").write_bytes(containers.coded(np.zeros(RATE)))
    run("encode", cases / "silent.wav", cases / "silent.pcx")
    for name in ("a.wav", "a.flac", "a.raw"):
        raw = ["--raw"] if name == "a.raw" else []
        assert run("decode", *raw, cases / "silent.pcx", cases / name)[0] == 0
        data = (cases / name).read_bytes()
        if raw:
            heard = np.frombuffer(data, "<i2")
        else:
            heard, _ = soundfile.read(io.BytesIO(data), dtype="int16")
        # What the networks make of it has a floor of less than one step.
        assert np.abs(heard).max() <= 1 and np.mean(heard != 0) < 0.05


def test_all_16_bit_outputs_hold_the_same_numbers(run, coded_file, tmp_path):
    heard = []
    for name in ("a.wav", "a.flac", "a.aiff", "a.w64", "a.rf64", "a.au", "a.caf"):
        run("decode", "--subtype", "PCM_16", coded_file, tmp_path / name)
        heard.append(soundfile.read(tmp_path / name, dtype="int16")[0])
    run("decode", "--raw", coded_file, tmp_path / "a.raw")
    heard.append(np.frombuffer((tmp_path / "a.raw").read_bytes(), "<i2"))
    for other in heard[1:]:
        assert np.array_equal(heard[0], other)
    samples, _ = pcodec.decode(coded_file.read_bytes())
    assert np.array_equal(heard[0], np.rint(samples.astype(float) * 32768).clip(-32768, 32767))


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".au"])
def test_more_than_a_file_holds_is_refused_at_the_start(run, coded, tmp_path, suffix):
    """A header says how long a stream is."""
    parser = Parser()
    parser.feed(coded)
    header = dataclasses.replace(parser.known_header, samples=40 * 3600 * RATE)
    source, out = tmp_path / "long.pcx", tmp_path / f"out{suffix}"
    source.write_bytes(header.to_bytes() + coded[64:])
    out.write_text("mine")
    code, _, messages = run("decode", "-f", source, out)
    assert code == 1 and len(messages.splitlines()) == 1
    assert f"out{suffix}: " in messages and "name the output .w64, .rf64 or .flac" in messages
    assert out.read_text() == "mine" and len(list(tmp_path.iterdir())) == 2
    # A part of it would do.
    assert run("decode", "-f", "--end", "4", source, out)[0] in (0, 3)
    assert soundfile.info(out).frames == 4 * RATE


def test_a_name_with_a_newline_is_told_in_one_line(run, tmp_path):
    name = tmp_path / "a\nb.wav"
    for content in (None, b"", b"no audio", b"RIFF"):
        if content is not None:
            name.write_bytes(content)
        for arguments in (
            ("encode", name),
            ("decode", name, tmp_path / "o.wav"),
            ("verify", name),
            ("info", name),
            ("encode", name, tmp_path / "c\nd.wav"),
            ("encode", "-d", tmp_path, name),
        ):
            _, out, messages = run(*arguments)
            lines = [line for line in (out + messages).splitlines() if "b.wav" in line]
            assert all(r"a\nb.wav" in line for line in lines)
            assert not any(line.startswith("b.wav") for line in (out + messages).splitlines())


def test_names_are_told_in_one_line_where_all_is_well(run, coded, tmp_path):
    (tmp_path / "a\nb.pcx").write_bytes(coded)
    assert r"a\nb.pcx: ok" in run("verify", tmp_path / "a\nb.pcx")[1]
    assert run("info", tmp_path / "a\nb.pcx")[1].splitlines()[0].endswith(r"a\nb.pcx")
    assert json.loads(run("info", "--json", tmp_path / "a\nb.pcx")[1])["file"].endswith("a\nb.pcx")


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (("encode", "coded.pcx", "x.pcx"), ("coded.pcx: is a .pcx stream already", "decode")),
        (("encode", "phone.m4a"), ("ffmpeg -i phone.m4a -f wav - | pcodec encode - phone.pcx",)),
        (("encode", "it's.webm"), ("""ffmpeg -i 'it'"'"'s.webm' -f wav""",)),
        (("encode", "folder", "x.pcx"), ("folder: is a folder", "-d DIR")),
        (("decode", "folder", "x.wav"), ("folder: is a folder", "-d DIR")),
        (("encode", "locked.wav", "x.pcx"), ("locked.wav: cannot be read: Permission denied",)),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(
    run, coded, tmp_path, monkeypatch, arguments, texts
):
    monkeypatch.chdir(tmp_path)
    Path("coded.pcx").write_bytes(coded)
    for name in ("phone.m4a", "it's.webm"):
        Path(name).write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
    Path("folder").mkdir()
    Path("locked.wav").write_bytes(containers.coded(np.zeros(100)))
    Path("locked.wav").chmod(0)
    if arguments[1] == "locked.wav" and os.access("locked.wav", os.R_OK):
        pytest.skip("nothing is locked for root")
    code, out, messages = run(*arguments)
    assert code == 1 and not out and len(messages.splitlines()) == 1
    for text in texts:
        assert text in messages


def test_a_file_that_may_not_grow_is_told(coded_file, tmp_path):
    with (tmp_path / "out").open("wb") as out:
        result = subprocess.run(
            [*RUN, "decode", coded_file, "-"],
            stdout=out,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        )
    assert result.returncode == 1
    assert result.stderr == b"pcodec: standard output: File too large\n"


def test_more_threads_than_cores_are_not_started(run, tmp_path):
    assert threads_for(9999) == os.cpu_count() and threads_for(1) == 1
    assert pcodec.load(threads=9999).processor.threads == os.cpu_count()
    assert run("encode", "--threads", "9999", SPEECH, tmp_path / "a.pcx")[0] == 0
    assert (tmp_path / "a.pcx").exists()


# Streams that do not block, and those that stall --------------------------------------------------


@pytest.fixture
def slowly():
    """Runs a command whose standard output does not block and is read late; gives what came."""

    def slowly(*arguments):
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        run = [*RUN, *map(str, arguments)]
        with subprocess.Popen(run, stdout=write_end, stderr=subprocess.PIPE) as process:
            os.close(write_end)
            full = 0
            while waiting(read_end) > full or not full:  # till there is no more room
                full = waiting(read_end)
                time.sleep(0.5)
            with os.fdopen(read_end, "rb") as pipe:
                data = pipe.read()
            assert not process.stderr.read()
        return process.returncode, data

    return slowly


def waiting(descriptor):
    """Bytes that lie in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def wait_until(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_audio_on_an_output_that_does_not_block_is_whole(slowly, coded_file, speech):
    code, data = slowly("decode", coded_file, "-")
    assert code == 0 and len(data) == 44 + 2 * len(speech)


def test_text_on_an_output_that_does_not_block_is_whole(slowly, tmp_path):
    small = tmp_path / "small.pcx"
    small.write_bytes(pcodec.encode(np.zeros(512), RATE))
    code, data = slowly("info", "--json", *[small] * 400)
    assert code == 0 and len(data) > 65536
    assert [json.loads(line)["samples"] for line in data.splitlines()] == [512] * 400


def test_all_that_is_written_to_an_output_that_does_not_block_arrives():
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    data, got = np.random.default_rng(0).bytes(1_000_000), []

    def read():
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            while more := pipe.read(10_000):
                got.append(more)
                time.sleep(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    with BlockingOutput(write_end, "wb") as out:
        assert out.write(memoryview(data)) == len(data)
    reader.join()
    assert b"".join(got) == data


def stalled(out, data, number, *command, source="-"):
    """An encoder whose producer has stalled, and heeds a signal."""
    process = subprocess.Popen(
        [*RUN, "encode", *command, str(source), str(out)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Background jobs of a shell, such as the tests may be, have it ignored.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    process.stdin.write(bytes(data))
    process.stdin.flush()
    return process


@pytest.mark.parametrize(
    ("name", "kind", "source"),
    [("SIGINT", "WAV", "-"), ("SIGTERM", "OGG", "/dev/stdin"), ("SIGTERM", "FLAC", "-")],
)
def test_a_signal_ends_an_encoder_whose_producer_stalls(tmp_path, name, kind, source):
    data = containers.coded(np.tile(containers.tone(), 3), kind)
    number = getattr(signal, name)
    process = stalled(tmp_path / "out.pcx", data[: len(data) // 2], number, source=source)
    wait_until(lambda: not waiting(process.stdin))
    if kind == "WAV":  # the others are kept till enough of them is there
        wait_until(lambda: list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(number)
    # The producer has not closed.
    assert process.wait(60) == 130
    assert process.stderr.read().strip() == b"pcodec: interrupted"
    assert not list(tmp_path.iterdir())
    process.stdin.close()
    process.stderr.close()


def test_a_signal_ends_a_decoder_whose_reader_stalls(coded_file, speech, tmp_path):
    long = tmp_path / "long.pcx"
    long.write_bytes(pcodec.encode(np.tile(speech, 10), RATE))
    for target in ("-", "pipe"):
        if target == "pipe":
            os.mkfifo(tmp_path / "pipe")
        process = subprocess.Popen(
            [*RUN, "decode", str(long), target if target == "-" else str(tmp_path / "pipe")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        reader = process.stdout if target == "-" else (tmp_path / "pipe").open("rb", buffering=0)
        assert reader.read(4) == b"RIFF"
        time.sleep(1.0)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
        assert process.stderr.read().strip() == b"pcodec: interrupted"
        for stream in {reader, process.stdout, process.stderr}:
            stream.close()


# What eval says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("eval", SPEECH), "eval"),
        (("info", "--grid", "grid.png", "speech.pcx"), "eval"),
        (("train", "vqvae", "--config", "c.toml", "--data", ".", "--out", "o"), "train"),
    ],
)
def test_a_missing_package_is_told_with_how_to_install_it(
    run, monkeypatch, tmp_path, coded, arguments, extra
):
    for name in ("pesq", "matplotlib", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("pcodec.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(tmp_path)
    Path("speech.pcx").write_bytes(coded)
    Path("c.toml").write_text("[vqvae]\n")
    code, _, messages = run(*arguments)
    assert code == 1 and len(messages.splitlines()) == 1
    assert "in a clone of pcodec" in messages and f"'.[{extra}]'" in messages


def with_path(**more):
    root = str(Path(pcodec.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": root, **more}


def test_a_cache_that_cannot_be_written_is_told(run, monkeypatch, tmp_path):
    pytest.importorskip("pystoi")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, _, messages = run("eval", SPEECH, "--metrics", "stoi", "-q")
    assert code == 1 and len(messages.splitlines()) == 1
    assert "cache cannot be written" in messages
    assert "--no-cache" in messages and "XDG_CACHE_HOME" in messages


def test_eval_takes_any_name_in_any_locale(tmp_path):
    pytest.importorskip("pystoi")
    folder = tmp_path / "stimmen-ä"
    folder.mkdir()
    (folder / "grün.flac").write_bytes(SPEECH.read_bytes())
    (tmp_path / "list.tsv").write_text("path\nstimmen-ä/grün.flac\n", encoding="utf-8")
    out = os.fsencode(folder / "ergebnis-ü.json")
    how = ["--metrics", "stoi", "--workers", "1", "--no-cache", "-q", "--samples", "1"]
    result = subprocess.run(
        [*RUN, "eval", tmp_path / "list.tsv", *how, "-o", out],
        capture_output=True,
        cwd=tmp_path,
        env=with_path(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    )
    assert result.returncode == 0, result.stderr
    assert (folder / "ergebnis-ü.json").exists()
    assert list((folder / "ergebnis-ü.audio").rglob("*.flac"))
