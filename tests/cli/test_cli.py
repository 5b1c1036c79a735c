import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SPEECH, snr

import pcodec
from pcodec import PcodecError
from pcodec.audio import Reader
from pcodec.cli import COMMANDS
from pcodec.cli.output import STREAM, open_output
from pcodec.pcx.layout import SYNC


def one_line(result, *words):
    text = result.stderr.decode()
    assert len(text.strip().splitlines()) == 1, text
    assert "Traceback" not in text
    for word in words:
        assert str(word) in text
    return True


def test_the_three_commands_of_the_readme_work(pcodec_process, tmp_path):
    coded, decoded = tmp_path / "out.pcx", tmp_path / "rec.wav"
    for result in (
        pcodec_process("encode", SPEECH, coded),
        pcodec_process("decode", coded, decoded),
    ):
        assert result.returncode == 0 and not result.stderr and not result.stdout
    assert soundfile.info(decoded).frames == soundfile.info(SPEECH).frames
    result = pcodec_process("info", coded)
    assert result.returncode == 0 and b"7500 bit/s" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(pcodec_command, command):
    result = pcodec_command(command, "--help")
    assert result.returncode == 0 and len(result.stdout) > 100


def imported_by(arguments, home):
    """What a command put out, and the modules that it had imported at its end."""
    script = (
        "import sys\nfrom pcodec.cli import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    run = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(run, capture_output=True, check=True, env=environment)
    return done.stdout, set(done.stderr.decode().split())


def test_encoding_and_decoding_need_no_torch_and_leave_nothing_but_their_output(tmp_path, coded):
    (tmp_path / "home").mkdir()
    (tmp_path / "a.pcx").write_bytes(coded)
    for arguments in (["decode", "-q", "a.pcx", "a.wav"], ["encode", "-q", "a.wav", "b.pcx"]):
        paths = [tmp_path / x if "." in x else x for x in arguments]
        _, modules = imported_by(paths, tmp_path / "home")
        assert "onnxruntime" in modules and "torch" not in modules
    assert not list((tmp_path / "home").iterdir())  # as telemetry would


def test_info_speaks_json_with_stable_keys_and_loads_no_networks(coded_file, tmp_path):
    out, modules = imported_by(["info", "--json", coded_file, coded_file], tmp_path)
    assert not modules & {"torch", "onnxruntime", "onnx"}
    lines = out.splitlines()
    about = json.loads(lines[1])
    assert len(lines) == 2
    assert list(about) == [
        "file", "version", "model", "bitstream_id", "duration", "samples", "sample_rate",
        "source_rate", "source_frames", "columns", "blocks", "rows", "bits", "codec_bit_rate",
        "compact",
        "file_bytes", "file_bit_rate", "damage", "tags", "links",
    ]  # fmt: skip
    assert about["model"] == "speech16k" and about["codec_bit_rate"] == 7500
    assert about["file_bytes"] == coded_file.stat().st_size and about["damage"] == []


def test_a_pipe_works_on_both_sides(pcodec_process, speech):
    wav = pcodec_process("encode", SPEECH, "-").stdout
    decoded = pcodec_process("decode", "-", "-", input=wav)
    assert decoded.returncode == 0 and decoded.stdout[:4] == b"RIFF"
    assert (len(decoded.stdout) - 44) // 2 == len(speech)
    again = pcodec_process("encode", "-", "-", input=decoded.stdout)
    assert again.returncode == 0
    raw = pcodec_process("decode", "--raw", "-", "-", input=again.stdout)
    assert len(raw.stdout) == 2 * len(speech)
    coded = pcodec_process("encode", "--raw", "--rate", "16000", "-", "-", input=raw.stdout)
    assert coded.returncode == 0 and coded.stdout[:4] == b"\x89PCX"


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "AU", "AIFF", "W64", "RF64", "CAF"])
def test_any_kind_of_file_is_read_whole_by_name_and_through_a_pipe(tmp_path, speech, kind):
    path = tmp_path / "in"
    soundfile.write(path, speech, 16000, format=kind)
    with path.open("rb") as stream:
        for source in (path, stream):
            reader = Reader(source)
            assert snr(speech, np.concatenate(list(reader.blocks()))) > 80
            assert reader.missing_frames == 0
            reader.close()


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "AU", "AIFF", "W64", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_what_is_missing_of_a_file_is_known(tmp_path, speech, kind, subtype):
    path = tmp_path / "in"
    soundfile.write(path, np.stack([speech, speech], 1), 16000, subtype, format=kind)
    path.write_bytes(path.read_bytes()[:50000])
    with path.open("rb") as stream:
        for source in (path, stream):
            reader = Reader(source)
            taken = sum(map(len, reader.blocks()))
            assert 6000 < taken < 12500 and reader.missing_frames == len(speech) - taken
            reader.close()


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("AU", "G721_32"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("AU", "ULAW"), ("WAV", "ALAW")],
)
def test_packed_samples_come_through_a_pipe_as_by_name(tmp_path, speech, kind, subtype):
    path = tmp_path / "in"
    soundfile.write(path, speech[:16000], 16000, subtype, format=kind)
    heard = []
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as piped:
        for source in (path, piped.stdout):
            reader = Reader(source)
            heard.append(np.concatenate(list(reader.blocks())))
            reader.close()
    assert len(heard[0]) >= 16000 and np.array_equal(*heard)


def test_a_file_comes_through_standard_input(pcodec_command, tmp_path, speech):
    result = pcodec_command("encode", "-", tmp_path / "out.pcx", input=SPEECH.read_bytes())
    assert result.returncode == 0, result.stderr
    about = json.loads(pcodec_command("info", "--json", tmp_path / "out.pcx").stdout)
    assert about["samples"] == len(speech)


def test_live_output_comes_before_the_input_ends(speech):
    """Real-time use: what has been said comes out while the pipe is still open."""
    run = [sys.executable, "-m", "pcodec"]
    encoder = subprocess.Popen(
        [*run, "encode", "--live", "--raw", "--rate", "16000", "-", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    decoder = subprocess.Popen(
        [*run, "decode", "--raw", "-", "-"], stdin=encoder.stdout, stdout=subprocess.PIPE
    )
    encoder.stdout.close()
    pcm = (speech[:32000] * 32767).astype("<i2").tobytes()
    encoder.stdin.write(pcm)
    encoder.stdin.flush()
    # All but the latency and one block of five columns.
    heard = decoder.stdout.read(2 * (32000 - 1600 - 5 * 512))
    assert len(heard) == 2 * (32000 - 1600 - 5 * 512)
    assert encoder.poll() is None and decoder.poll() is None
    encoder.stdin.close()
    assert len(heard) + len(decoder.stdout.read()) == len(pcm)
    assert encoder.wait(20) == 0 and decoder.wait(20) == 0
    decoder.stdout.close()


@pytest.mark.parametrize(
    ("subtype", "rate", "channels"),
    [("PCM_U8", 8000, 1), ("PCM_24", 44100, 2), ("FLOAT", 192000, 1), ("DOUBLE", 11025, 5)],
)
def test_any_rate_channels_and_sample_format(
    pcodec_command, tmp_path, speech, subtype, rate, channels
):
    source, coded, decoded = (tmp_path / name for name in ("a.wav", "a.pcx", "b.wav"))
    frames = np.repeat(speech[:20001, None], channels, 1)
    soundfile.write(source, frames, rate, subtype=subtype)
    result = pcodec_command("encode", source, coded)
    assert result.returncode == 0
    assert (b"mixed down" in result.stderr) == (channels > 1)
    assert pcodec_command("decode", "--subtype", "PCM_24", coded, decoded).returncode == 0
    about = soundfile.info(decoded)
    assert (about.frames, about.samplerate, about.channels) == (20001, rate, 1)
    assert about.subtype == "PCM_24"


def test_the_output_has_the_inputs_name_if_none_is_given(pcodec_command, tmp_path):
    source = tmp_path / "speech.flac"
    source.write_bytes(SPEECH.read_bytes())
    assert pcodec_command("encode", source).returncode == 0
    assert pcodec_command("decode", tmp_path / "speech.pcx").returncode == 0
    assert soundfile.info(tmp_path / "speech.wav").samplerate == 16000


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".opus", ".aiff", ".mp3"])
def test_the_suffix_chooses_the_file_type(pcodec_command, coded_file, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    result = pcodec_command("decode", coded_file, out)
    assert result.returncode == 0, result.stderr
    assert soundfile.info(out).samplerate in (16000, 48000)


def test_start_end_and_rate_are_exact(pcodec_command, coded_file, tmp_path):
    out = tmp_path / "part.wav"
    arguments = ("--start", "0:01.5", "--duration", "1.25", "--rate", "8000")
    assert pcodec_command("decode", *arguments, coded_file, out).returncode == 0
    assert soundfile.info(out).frames == 10000 and soundfile.info(out).samplerate == 8000


def test_an_existing_output_is_kept_unless_forced(pcodec_command, coded_file, tmp_path):
    out = tmp_path / "out.wav"
    out.write_text("mine")
    result = pcodec_command("decode", coded_file, out)
    assert result.returncode == 1 and one_line(result, out, "exists")
    assert out.read_text() == "mine"
    assert pcodec_command("decode", "-f", coded_file, out).returncode == 0
    assert soundfile.info(out).frames


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"not audio at all" * 100, b"fLaC" + bytes(500), b"RIFF" + bytes(400)]
)
def test_bad_audio_is_one_line_and_loses_nothing(pcodec_command, tmp_path, content):
    source, out = tmp_path / "bad.wav", tmp_path / "out.pcx"
    source.write_bytes(content)
    out.write_text("mine")
    result = pcodec_command("encode", "-f", source, out)
    assert result.returncode == 1 and one_line(result, source)
    assert out.read_text() == "mine" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "empty"), (b"\x0a\x05\x01" + bytes(200), "Paintbrush"), (b"RIFF" + bytes(99), "WAV")],
)
def test_a_bad_stream_is_one_line_and_loses_nothing(pcodec_command, tmp_path, content, word):
    source, out = tmp_path / "bad.pcx", tmp_path / "out.wav"
    source.write_bytes(content)
    out.write_text("mine")
    for command in (("decode", "-f", source, out), ("info", source), ("verify", source)):
        result = pcodec_command(*command)
        assert result.returncode == 1 and one_line(result, source, word)
    assert out.read_text() == "mine" and len(list(tmp_path.iterdir())) == 2


def test_damage_is_decoded_around_named_and_told_by_the_exit_code(
    pcodec_command, coded, tmp_path, speech
):
    source, out = tmp_path / "hurt.pcx", tmp_path / "out.wav"
    source.write_bytes(coded[:2000] + b"!" + coded[2001:])
    result = pcodec_command("decode", source, out)
    assert result.returncode == 3 and one_line(result, source, "1.02 s to 2.05 s")
    assert soundfile.info(out).frames == len(speech)
    assert pcodec_command("verify", source).returncode == 3
    assert pcodec_command("info", source).returncode == 3
    out.write_text("mine")
    result = pcodec_command("decode", "-f", "--on-error", "stop", source, out)
    assert result.returncode == 1 and one_line(result, source)
    assert out.read_text() == "mine"


def test_the_input_is_named_where_the_input_is_bad(pcodec_command, coded, tmp_path):
    source = tmp_path / "hurt.pcx"
    for data in (coded[:2000] + b"!" + coded[2001:], coded[:3000]):
        source.write_bytes(data)
        result = pcodec_command("decode", "--on-error", "stop", source, tmp_path / "out.wav")
        assert result.returncode == 1 and one_line(result, "hurt.pcx: damaged")
        assert not (tmp_path / "out.wav").exists()


def test_a_part_reports_only_its_own_damage(pcodec_command, coded, tmp_path):
    source = tmp_path / "hurt.pcx"
    source.write_bytes(coded[:3500] + b"!" + coded[3501:])
    assert pcodec_command("decode", "--end", "1", source, tmp_path / "a.wav").returncode == 0
    assert pcodec_command("decode", "--start", "3", source, tmp_path / "b.wav").returncode == 3
    result = pcodec_command("decode", "--start", "99", source, tmp_path / "c.wav")
    assert result.returncode == 1 and one_line(result, source, "is after the end (4.55 s)")


def test_an_output_that_appears_meanwhile_is_kept(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(PcodecError, match="exists"), open_output(out, STREAM, False) as file:
        file.write(b"new")
        out.write_text("mine")
    assert out.read_text() == "mine" and list(tmp_path.iterdir()) == [out]


def test_a_link_to_itself_is_an_output_that_exists(pcodec_command, tmp_path):
    loop = tmp_path / "loop.pcx"
    loop.symlink_to(loop)
    assert one_line(pcodec_command("encode", SPEECH, loop), loop, "exists")


def test_a_closed_standard_error_keeps_nothing_from_being_done(tmp_path):
    out = tmp_path / "out.pcx"
    command = f"'{sys.executable}' -m pcodec encode '{SPEECH}' '{out}' 2>&-"
    assert subprocess.run(command, shell=True).returncode == 0 and out.exists()


def test_a_file_can_be_called_a_dash(pcodec_command, tmp_path):
    (tmp_path / "-").write_bytes(SPEECH.read_bytes())
    assert pcodec_command("encode", "./-", "out.pcx", cwd=tmp_path).returncode == 0
    assert (tmp_path / "out.pcx").exists()


def test_the_device_of_standard_output_is_standard_output(pcodec_command, coded_file, tmp_path):
    with (tmp_path / "out").open("wb") as out:
        run = [sys.executable, "-m", "pcodec", "decode", coded_file, "/dev/stdout"]
        assert subprocess.run(run, stdout=out).returncode == 0
    assert (tmp_path / "out").read_bytes()[:4] == b"RIFF"


def test_a_subtype_that_a_file_cannot_have_is_wrong_usage(pcodec_command, coded_file, tmp_path):
    for name, subtype in (("x.wav", "FOO"), ("x.flac", "FLOAT")):
        out = tmp_path / name
        result = pcodec_command("decode", "--subtype", subtype, coded_file, out)
        assert result.returncode == 2 and subtype in result.stderr.decode() and not out.exists()


def test_an_output_behind_a_link_is_replaced_and_the_link_stays(pcodec_command, tmp_path):
    (tmp_path / "real.pcx").write_text("old")
    (tmp_path / "link.pcx").symlink_to(tmp_path / "real.pcx")
    assert pcodec_command("encode", "-f", SPEECH, tmp_path / "link.pcx").returncode == 0
    assert (tmp_path / "link.pcx").is_symlink()
    assert (tmp_path / "real.pcx").read_bytes()[:4] == b"\x89PCX"


def test_appending_to_a_file_gives_a_whole_stream(tmp_path):
    with (tmp_path / "a.pcx").open("ab") as out:
        run = [sys.executable, "-m", "pcodec", "encode", str(SPEECH), "-"]
        assert subprocess.run(run, stdout=out).returncode == 0
    run = [sys.executable, "-m", "pcodec", "verify", str(tmp_path / "a.pcx")]
    assert subprocess.run(run, capture_output=True).returncode == 0


def test_a_wav_file_that_was_cut_off_is_encoded_and_told(pcodec_command, tmp_path, speech):
    source = tmp_path / "cut.wav"
    soundfile.write(source, speech, 16000)
    source.write_bytes(source.read_bytes()[:50000])
    result = pcodec_command("encode", source)
    assert result.returncode == 3 and one_line(result, source, "47902 frames are missing")
    assert (tmp_path / "cut.pcx").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("encode", "x.raw"), "--raw"),
        (("encode", "--model", "."), "config.json"),
        (("encode", "--model", "nonsense"), "nonsense"),
        (("decode", "--vocoder", "hifigan", "--model", "m", "coded.pcx"), "hifigan"),
        (("encode", "--model", "m", "good.flac"), "encoder.safetensors"),
        (("encode", "missing.wav"), "missing.wav"),
        (("decode", "missing.pcx"), "missing.pcx"),
        (("encode", "good.flac", "no/folder/out.pcx"), "no/folder"),
    ],
)
def test_mistakes_are_one_line(pcodec_command, codec, coded, tmp_path, arguments, word):
    (tmp_path / "x.raw").write_bytes(bytes(2000))
    (tmp_path / "good.flac").write_bytes(SPEECH.read_bytes())
    (tmp_path / "coded.pcx").write_bytes(coded)
    (tmp_path / "m").mkdir()
    config = (codec.model.folder / "config.json").read_bytes()
    (tmp_path / "m" / "config.json").write_bytes(config)
    (tmp_path / "m" / "spectral.safetensors").write_bytes(b"nonsense")
    if arguments[1] == "--model":
        arguments = (*arguments, "good.flac") if len(arguments) == 3 else arguments
    result = pcodec_command(*arguments, cwd=tmp_path)
    assert result.returncode == 1 and one_line(result, word)


@pytest.mark.skipif(sys.platform == "win32", reason="no hang-up there")
def test_nohup_is_respected(tmp_path):
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "pcodec", "encode", "--raw", "--rate", "16000", "-", "out.pcx"],
        stdin=read_end,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(read_end)
    os.write(write_end, bytes(32000))
    deadline = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    os.close(write_end)
    assert process.wait(30) == 0 and (tmp_path / "out.pcx").exists()


def test_many_files_go_on_after_a_bad_one(pcodec_command, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.flac").write_bytes(SPEECH.read_bytes())
    (folder / "b.wav").write_bytes(b"bad")
    (folder / "sub" / "c.flac").write_bytes(SPEECH.read_bytes())
    (folder / "notes.txt").write_text("no audio")
    result = pcodec_command("encode", "-r", "-d", out, folder)
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 1 and lines[-1] == "2 done, 1 passed over, 1 failed"
    assert "notes.txt" in lines[0] and "b.wav" in lines[1] and len(lines) == 3
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.pcx")} == {"a.pcx", "sub/c.pcx"}
    assert (out / "a.pcx").read_bytes() == (out / "sub" / "c.pcx").read_bytes()


def test_the_folder_one_stands_in_can_be_taken(pcodec_command, tmp_path):
    (tmp_path / "a.flac").write_bytes(SPEECH.read_bytes())
    result = pcodec_command("encode", "-q", "-r", "-d", "out", ".", cwd=tmp_path)
    assert result.returncode == 0 and not result.stderr
    assert (tmp_path / "out" / "a.pcx").exists()


def test_a_folder_of_headerless_samples_goes_there_and_back(pcodec_command, tmp_path, coded_file):
    raw, again = tmp_path / "raw", tmp_path / "again"
    assert pcodec_command("decode", "--raw", "-d", raw, coded_file).returncode == 0
    (raw / "other.wav").write_bytes(b"no samples to be taken for such")
    result = pcodec_command("encode", "--raw", "--rate", "16000", "-r", "-d", again, raw)
    assert result.returncode == 0, result.stderr
    assert [p.name for p in again.iterdir()] == ["speech.pcx"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_folder_that_cannot_be_looked_into_is_told(pcodec_command, tmp_path):
    (tmp_path / "in" / "locked").mkdir(parents=True)
    (tmp_path / "in" / "a.flac").write_bytes(SPEECH.read_bytes())
    (tmp_path / "in" / "locked").chmod(0)
    result = pcodec_command("encode", "-r", "-d", tmp_path / "out", tmp_path / "in")
    assert result.returncode == 1 and b"locked" in result.stderr
    assert (tmp_path / "out" / "a.pcx").exists()


def test_an_empty_stream_becomes_an_empty_wav_but_no_flac(pcodec_command, tmp_path):
    (tmp_path / "a.pcx").write_bytes(pcodec.encode(np.zeros(0, np.float32), 16000))
    assert pcodec_command("decode", "a.pcx", "a.wav", cwd=tmp_path).returncode == 0
    assert soundfile.info(tmp_path / "a.wav").frames == 0
    result = pcodec_command("decode", "a.pcx", "a.flac", cwd=tmp_path)
    assert result.returncode == 1 and one_line(result, "a.flac", "no samples")
    assert not (tmp_path / "a.flac").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode", "one.wav", "two.wav"),
        ("encode", "one.wav", "two.wav", "three.wav"),
        ("encode", "-f", "one.wav", "one.wav"),
        ("encode", "--raw", "one.wav"),
        ("encode",),
        ("encode", "-r", "."),
        ("encode", "-r", "-d", "out", "empty"),
        ("encode", "--rate", "8000", "one.wav"),
        ("encode", "--format", "f32le", "one.wav"),
        ("decode", "--format", "f32le", "one.pcx"),
        ("decode", "--raw", "--subtype", "PCM_24", "one.pcx"),
        ("info", "--grid", "-", "one.pcx"),
        ("encode", "-d", "out", "one.wav", "./one.wav"),
        ("decode", "--start", "late", "one.pcx"),
        ("decode", "--start", "5", "--end", "1", "one.pcx"),
        ("decode", "one.pcx", "one.txt"),
        ("decode", "--raw", "one.pcx", "three.wav"),
        ("eval", "one.wav", "-o", "-"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_told_and_touches_nothing(pcodec_command, tmp_path, arguments):
    names = ["one.pcx", "one.wav", "two.wav"]
    (tmp_path / "empty").mkdir()
    for name in names:
        (tmp_path / name).write_text(name)
    result = pcodec_command(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert b"Error" in result.stderr and b"Traceback" not in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", *names]
    assert all((tmp_path / name).read_text() == name for name in names)


def test_input_and_output_may_not_be_the_same_file(pcodec_command, tmp_path, coded):
    source = tmp_path / "a.pcx"
    source.write_bytes(coded)
    link = tmp_path / "b.wav"
    link.hardlink_to(source)
    result = pcodec_command("decode", "-f", source, link)
    assert result.returncode == 2 and b"same file" in result.stderr
    assert source.read_bytes() == coded


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_is_one_line(pcodec_command, coded_file):
    for arguments in (("encode", SPEECH), ("decode", coded_file)):
        result = pcodec_command(*arguments, "/dev/full")
        assert result.returncode == 1 and one_line(result, "/dev/full", "No space left")


def with_room_for(size, *arguments, append_to=None):
    """Runs pcodec where no file can become larger, as on a disk that is full by then."""
    out = append_to.open("ab") if append_to else subprocess.PIPE
    limit = (resource.RLIMIT_FSIZE, (size, size))
    try:
        return subprocess.run(
            [sys.executable, "-m", "pcodec", *map(str, arguments)],
            stdout=out,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(*limit),
        )
    finally:
        if append_to:
            out.close()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("missing", [1, 1000])
def test_a_disk_that_fills_up_late_keeps_the_old_output(
    pcodec_command, coded_file, tmp_path, suffix, missing
):
    out = tmp_path / f"kept{suffix}"
    assert pcodec_command("decode", coded_file, out).returncode == 0
    kept = out.read_bytes()
    result = with_room_for(len(kept) - missing, "decode", "-f", coded_file, out)
    assert result.returncode == 1 and one_line(result, out, "File too large")
    assert out.read_bytes() == kept
    assert sorted(tmp_path.iterdir()) == sorted([coded_file, out])


@pytest.mark.parametrize("command", [("decode", "--raw"), ("encode",)])
def test_a_disk_that_fills_up_behind_an_appended_stream_is_told(
    pcodec_command, coded_file, tmp_path, command
):
    source = coded_file if command[0] == "decode" else SPEECH
    size = len(pcodec_command(*command, source, "-").stdout)
    result = with_room_for(size - 5, *command, source, "-", append_to=tmp_path / "log")
    assert result.returncode == 1 and one_line(result, "standard output", "File too large")


def test_input_that_does_not_block_is_waited_for(speech):
    raw = (speech[:16000] * 32767).astype("<i2").tobytes()
    run = [sys.executable, "-m", "pcodec", "encode", "--raw", "--rate", "16000", "-", "-"]
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    with subprocess.Popen(run, stdin=read_end, stdout=subprocess.PIPE) as process:
        os.close(read_end)
        for start in range(0, len(raw), 16000):
            os.write(write_end, raw[start : start + 16000])
            time.sleep(1.0 if start == 0 else 0.1)
        os.close(write_end)
        coded = process.stdout.read()
    assert process.returncode == 0
    decoded, _ = pcodec.decode(coded)
    assert len(decoded) == 16000


def test_a_pipe_with_a_name_is_passed_on_as_it_arrives(tmp_path, speech):
    pipe = tmp_path / "live.raw"
    os.mkfifo(pipe)
    run = [sys.executable, "-m", "pcodec", "encode", "--raw", "--rate", "16000", pipe, "-"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, bufsize=0) as process:
        with pipe.open("wb", buffering=0) as live:
            live.write((speech[:32000] * 32767).astype("<i2").tobytes())
            assert len(process.stdout.read(64)) == 64  # the header
            assert len(process.stdout.read(100)) == 100  # and a block, with more to come
        process.stdout.read()
    assert process.returncode == 0


def test_a_link_that_leads_nowhere_is_reported_and_the_rest_is_done(pcodec_command, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.flac").write_bytes(SPEECH.read_bytes())
    (tmp_path / "in" / "b.flac").symlink_to(tmp_path / "gone.flac")
    result = pcodec_command("encode", "-r", "-d", tmp_path / "out", tmp_path / "in")
    assert result.returncode == 1 and b"b.flac" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.pcx"]


def test_a_rate_that_cannot_be_coded_is_the_inputs_fault(pcodec_command, tmp_path):
    soundfile.write(tmp_path / "fast.wav", np.zeros(100), 2_000_000)
    result = pcodec_command("encode", tmp_path / "fast.wav", tmp_path / "out.pcx")
    assert result.returncode == 1 and one_line(result, "fast.wav: a sample rate of 2000000 Hz")
    assert not (tmp_path / "out.pcx").exists()


def test_on_error_stop_stops_for_damage_in_the_part_that_is_asked_for(
    pcodec_command, tmp_path, coded
):
    sync = coded.index(SYNC, 2000)
    damaged = tmp_path / "damaged.pcx"
    damaged.write_bytes(coded[:sync] + b"stray" + coded[sync:])
    first = pcodec_command("decode", damaged, tmp_path / "a.wav").stderr
    assert b"damaged.pcx" in first
    stop = ("decode", "--on-error", "stop", damaged, tmp_path / "b.wav")
    for part in ((), ("--start", "0.5", "--end", "4")):
        result = pcodec_command(*stop, *part)
        assert result.returncode == 1 and one_line(result, "damaged.pcx: damaged")
    assert not (tmp_path / "b.wav").exists()


def begun(out, number):
    """An encoder of raw samples that has begun to write, and heeds a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pcodec", "encode", "--raw", "--rate", "16000", "-", str(out)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Background jobs of a shell, such as the tests may be, have it ignored.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    process.stdin.write(bytes(200_000))
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while not list(out.parent.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [p.suffix for p in out.parent.iterdir()] == [".part"]
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])  # Ctrl-C, a closed terminal
def test_an_interrupt_leaves_nothing_behind(tmp_path, name):
    number = getattr(signal, name)
    process = begun(tmp_path / "out.pcx", number)
    process.send_signal(number)
    _, text = process.communicate(timeout=30)
    assert process.returncode == 130 and text.strip() == b"pcodec: interrupted"
    assert not list(tmp_path.iterdir())


def test_a_kill_leaves_no_partial_output_under_the_final_name(tmp_path, speech):
    out = tmp_path / "out.pcx"
    out.write_bytes(b"from before")
    run = [sys.executable, "-m", "pcodec", "encode", "-f", "--raw", "--rate", "16000", "-"]
    process = subprocess.Popen([*run, str(out)], stdin=subprocess.PIPE)
    process.stdin.write(bytes(200_000))
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    process.stdin.close()
    # What was begun can be told from what is whole, and is in nobody's way.
    (left,) = set(tmp_path.iterdir()) - {out}
    assert left.name.startswith(".pcodec-") and left.suffix == ".part"
    assert out.read_bytes() == b"from before"
    pcm = (speech * 32767).astype("<i2").tobytes()
    subprocess.run([*run, str(out)], input=pcm, check=True)
    assert not set(tmp_path.iterdir()) - {out, left}
    assert out.read_bytes().startswith(b"\x89PCX")


def test_a_reader_that_leaves_ends_the_writer_quietly(tmp_path):
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "pcodec", "encode", "--live", "--raw", "--rate", "16000", "-", "-"],
        stdin=read_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(read_end)
    os.write(write_end, bytes(64000))
    assert process.stdout.read(64)[:4] == b"\x89PCX"
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        os.write(write_end, bytes(640_000))
    os.close(write_end)
    assert process.wait(30) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_blocks_can_be_of_any_size(pcodec_command, tmp_path):
    for size, blocks in ((1, 143), (255, 1)):
        out = tmp_path / f"{size}.pcx"
        assert pcodec_command("encode", "--block", size, SPEECH, out).returncode == 0
        assert json.loads(pcodec_command("info", "--json", out).stdout)["blocks"] == blocks


def test_verify_and_models_say_what_is_there(pcodec_command, coded_file):
    result = pcodec_command("verify", "--full", coded_file)
    assert result.returncode == 0 and result.stdout.decode() == f"{coded_file}: ok\n"
    result = pcodec_command("verify", "--full", "-", input=coded_file.read_bytes())
    assert result.returncode == 0 and result.stdout == b"-: ok\n"
    models = json.loads(pcodec_command("models", "--json").stdout)
    assert models["name"] == "speech16k" and models["bit_rate"] == 7500


def test_a_folder_encodes_as_each_file_alone_and_can_be_resumed(pcodec_command, speech, tmp_path):
    for i, seconds in enumerate((0.01, 0.5, 2.0, 1.3, 0.1)):
        soundfile.write(tmp_path / f"{i}.flac", speech[: int(seconds * 16000)], 16000)
    out = tmp_path / "out"
    arguments = ("encode", "-r", "--resume", "-d", out, tmp_path)
    assert pcodec_command(*arguments).stderr.strip() == b"5 done"
    for i in range(5):
        alone = tmp_path / "alone.pcx"
        assert pcodec_command("encode", "-f", tmp_path / f"{i}.flac", alone).returncode == 0
        assert (out / f"{i}.pcx").read_bytes() == alone.read_bytes()
    (out / "3.pcx").unlink()
    (out / "4.pcx").write_bytes(b"whatever was there stays")
    result = pcodec_command(*arguments)
    summary = result.stderr.splitlines()[-1]
    assert (result.returncode, summary) == (0, b"1 done, 4 there already, 1 passed over")
    assert (out / "3.pcx").exists() and (out / "4.pcx").read_bytes()[:8] == b"whatever"


def test_an_interrupt_stops_all_workers_and_leaves_no_partial_file(speech, tmp_path):
    long = np.tile(speech, 200)
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", long, 16000)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "pcodec", "encode", "-r", "-d", str(out), str(tmp_path)],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(out.glob(".*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130 and text.strip() == b"pcodec: interrupted"
    assert not [path for path in out.iterdir() if path.suffix == ".part"]


def test_a_named_pipe_is_read_whole(tmp_path, pcodec_command):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    wav = tmp_path / "a.wav"
    soundfile.write(wav, *soundfile.read(SPEECH))
    writer = threading.Thread(target=lambda: pipe.write_bytes(wav.read_bytes()), daemon=True)
    writer.start()
    assert pcodec_command("encode", pipe, tmp_path / "piped.pcx").returncode == 0
    assert pcodec_command("encode", wav, tmp_path / "plain.pcx").returncode == 0
    piped, plain = (pcodec.decode((tmp_path / f"{n}.pcx").read_bytes()) for n in ("piped", "plain"))
    assert np.array_equal(piped[0], plain[0])


def test_a_file_may_have_any_name(tmp_path, pcodec_command):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.flac")
    Path(name).write_bytes(SPEECH.read_bytes())
    assert pcodec_command("encode", name, tmp_path / "out.pcx").returncode == 0


def test_a_rate_that_cannot_be_read_back_is_refused():
    with pytest.raises(pcodec.AudioError, match="768000"):
        pcodec.encode(np.zeros(1000, np.float32), 1_000_000)


@pytest.fixture
def wav(tmp_path):
    """One second of speech, 16 bits at 16 kHz: a header of 44 bytes, then the samples."""
    samples, rate = soundfile.read(SPEECH, frames=16000)
    path = tmp_path / "speech.wav"
    soundfile.write(path, samples, rate, "PCM_16")
    return path.read_bytes()


def test_a_wav_stream_that_is_cut_off_is_encoded_and_told(pcodec_command, wav):
    result = pcodec_command("encode", "-", "-", input=wav[:20000])
    assert result.returncode == 3
    assert b"standard input: cut off: 6022 frames are missing" in result.stderr
    assert pcodec_command("verify", "-", input=result.stdout).returncode == 0


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_wav_stream_may_not_know_its_size(pcodec_command, wav, size):
    stream = wav[:40] + size.to_bytes(4, "little") + wav[44:]
    whole = pcodec_command("encode", "-", "-", input=wav)
    result = pcodec_command("encode", "-", "-", input=stream)
    assert result.returncode == whole.returncode == 0, result.stderr
    about = json.loads(pcodec_command("info", "--json", "-", input=result.stdout).stdout)
    assert about["duration"] == 1.0


@pytest.mark.skipif(sys.platform == "win32", reason="no shell of that kind")
@pytest.mark.parametrize(
    "redirected", ["- >> out.wav", "/dev/stdout | cat > out.wav", ">(cat > out.wav; sync)"]
)
def test_audio_goes_wherever_a_shell_sends_it(coded_file, tmp_path, redirected):
    output = f"{sys.executable} -m pcodec decode {coded_file} {redirected}"
    subprocess.run(["bash", "-c", output + "; wait"], cwd=tmp_path, check=True, timeout=120)
    deadline = time.monotonic() + 10
    while not (tmp_path / "out.wav").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    samples, rate = soundfile.read(tmp_path / "out.wav")
    original, _ = soundfile.read(SPEECH)
    assert rate == 16000 and len(samples) == len(original)


def test_a_full_disk_behind_standard_output_is_no_fault_of_the_input(pcodec_command, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    source = tmp_path / "n.flac"  # a name that many messages contain
    source.write_bytes(SPEECH.read_bytes())
    command = f"{sys.executable} -m pcodec encode {source} - > /dev/full"
    result = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120, check=False)
    assert result.returncode == 1 and result.stderr.count(b"\n") == 1
    assert b"standard output" in result.stderr and b"n.flac" not in result.stderr


def test_an_input_that_breaks_off_is_named_and_not_the_output(pcodec_command, tmp_path):
    (tmp_path / "in.flac").write_bytes(SPEECH.read_bytes()[:60000])
    result = pcodec_command("encode", "in.flac", "out.pcx", cwd=tmp_path)
    assert result.returncode == 1 and result.stderr.startswith(b"pcodec: in.flac: ")
    assert b"out.pcx" not in result.stderr


def test_an_error_names_its_file_even_when_the_text_contains_the_name(pcodec_command, tmp_path):
    (tmp_path / "pcx").write_bytes(b"not a stream of that kind at all, but some text" * 3)
    result = pcodec_command("decode", "pcx", "out.wav", cwd=tmp_path)
    assert result.returncode == 1 and result.stderr.startswith(b"pcodec: pcx: ")
