"""Folders as archives need them, and the comfort of cp, gzip and flac: on the command line."""

import json
import os

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import pcodec
from pcodec.cli import cli, error_line
from pcodec.cli.output import remove_source
from pcodec.cli.progress import Progress


def run(*arguments):
    """Runs a command in this process: its exit code, output, and messages."""
    result = CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 1, result.stdout, f"{result.stderr}pcodec: {error_line(result.exception)}"
    return result.return_value, result.stdout, result.stderr.strip()


def objects(out):
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def short(speech):
    return speech[8000:16000]


@pytest.fixture
def folder(tmp_path, short):
    """Two recordings of one name, one in a folder below, and what is no audio."""
    inputs = tmp_path / "in"
    (inputs / "sub").mkdir(parents=True)
    soundfile.write(inputs / "a.wav", short, 16000)
    soundfile.write(inputs / "a.flac", -short, 16000)
    soundfile.write(inputs / "sub" / "b.wav", short, 16000)
    (inputs / "notes.txt").write_text("no audio")
    (inputs / "sub" / "phone.m4a").write_bytes(b"no audio that is read here")
    (inputs / "link").symlink_to(tmp_path)
    return inputs


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_folder_goes_there_and_back_with_every_file_accounted_for(folder, tmp_path):
    coded, back = tmp_path / "coded", tmp_path / "back"
    code, out, messages = run("encode", "-r", "-d", coded, folder)
    over = f"{folder}/link, {folder}/notes.txt, {folder}/sub/phone.m4a"
    assert (code, out) == (0, "")
    assert messages == f"pcodec: 3 files passed over: {over}\n3 done, 3 passed over"
    # Those of one name keep all of it.
    assert names(coded) == ["a.flac.pcx", "a.wav.pcx", "sub/b.pcx"]
    # Again: the same names, and a hint.
    code, _, messages = run("encode", "-r", "-d", coded, folder)
    assert code == 1 and f"{coded}/a.wav.pcx: exists; -f replaces it, --resume skips it" in messages
    (coded / "a.wav.pcx").unlink()
    _, _, messages = run("encode", "-r", "--resume", "-d", coded, folder)
    assert messages.splitlines()[-1] == "1 done, 2 there already, 3 passed over"
    (folder / "a.wav").unlink()  # as --rm does; what is left keeps its output's name
    _, _, messages = run("encode", "-r", "--resume", "-d", coded, folder)
    assert messages.splitlines()[-1] == "0 done, 2 there already, 3 passed over"

    code, _, messages = run("decode", "-r", "--to", "flac", "-d", back, coded)
    assert (code, messages) == (0, "3 done")
    assert names(back) == ["a.flac", "a.wav.flac", "sub/b.flac"]
    assert soundfile.info(back / "a.flac").format == "FLAC"

    (coded / "sub" / "b.pcx").write_bytes((coded / "sub" / "b.pcx").read_bytes()[:600])
    (coded / "c.pcx").write_bytes(b"nothing of the kind")
    (coded / "d.txt").write_text("")
    code, out, messages = run("verify", "-r", coded)
    assert code == 1 and f"{coded}/a.wav.pcx: ok" in out and "sub/b.pcx: damaged" in out
    assert f"1 file passed over: {coded}/d.txt" in messages
    assert messages.splitlines()[-1] == "2 done, 1 passed over, 1 damaged, 1 failed"
    code, out, messages = run("info", "-r", coded)
    assert code == 1 and out.count("duration") == 3
    assert messages.splitlines()[-1] == "2 done, 1 passed over, 1 damaged, 1 failed"
    for command in ("verify", "info"):
        code, _, messages = run(command, coded)
        assert code == 1 and "is a folder; give -r" in messages


def test_outputs_in_the_folder_itself_are_not_passed_over(folder):
    (folder / "a.flac").unlink()
    run("encode", "-q", "-r", "-d", folder, folder)
    code, _, messages = run("encode", "-r", "--resume", "-d", folder, folder)
    assert code == 0 and messages.splitlines()[-1] == "0 done, 2 there already, 3 passed over"


def test_two_folders_that_hold_the_same_names_are_refused(folder, tmp_path):
    again = tmp_path / "again" / "sub"
    again.mkdir(parents=True)
    (again / "b.wav").write_bytes(b"")
    code, _, messages = run("encode", "-r", "-d", tmp_path / "out", folder, again.parent)
    assert code == 1 and "would both become" in messages and "give each its own -d" in messages
    assert not (tmp_path / "out").exists()


def test_a_machine_is_told_what_became_of_each_file(folder, tmp_path):
    (folder / "bad.wav").write_bytes(b"RIFF")
    code, out, _ = run("encode", "--json", "-q", "-r", "-d", tmp_path / "coded", folder)
    *files, last = objects(out)
    assert code == 1
    assert {file["status"]: list(file) for file in files}.keys() == {
        "done", "passed_over", "failed",
    }  # fmt: skip
    assert all(list(file) == ["file", "output", "status", "seconds", "messages"] for file in files)
    (bad,) = (file for file in files if file["status"] == "failed")
    assert bad["file"] == f"{folder}/bad.wav" and "bad.wav" in bad["messages"][0]
    (first, *_) = (file for file in files if file["status"] == "done")
    assert first["output"] == f"{tmp_path}/coded/a.flac.pcx" and first["seconds"] == 0.5
    summary = last["summary"]
    assert summary.pop("elapsed") >= 0
    assert summary == {
        "done": 3, "there_already": 0, "passed_over": 3, "damaged": 0, "failed": 1, "seconds": 1.5,
    }  # fmt: skip
    pcx = tmp_path / "coded" / "a.wav.pcx"
    pcx.write_bytes(pcx.read_bytes()[:-1])
    code, out, _ = run("verify", "--json", "-r", tmp_path / "coded")
    assert code == 3 and objects(out)[-1]["summary"]["damaged"] == 1
    (damaged,) = (file for file in objects(out)[:-1] if file["status"] == "damaged")
    assert "the last block is cut off" in "".join(damaged["messages"])
    code, out, _ = run("info", "--json", "-r", tmp_path / "coded")
    assert len(objects(out)) == 4 and objects(out)[-1]["summary"]["done"] == 2
    # A single file, too.
    code, out, _ = run("decode", "--json", pcx, tmp_path / "out.wav")
    assert [o.get("status") for o in objects(out)] == ["damaged", None] and code == 3
    code, out, messages = run("decode", "--json", pcx, tmp_path / "out.wav")
    assert objects(out)[0]["status"] == "failed" and "exists" in messages
    code, _, messages = run("decode", "--json", pcx, "-")
    assert code == 1 and "--json needs standard output" in messages


def test_time_and_tags_of_a_file_come_through(tmp_path, short):
    source, coded = tmp_path / "talk.flac", tmp_path / "talk.pcx"
    tags = {"title": "Mañana", "artist": "Ada", "tracknumber": "3", "license": "CC0"}
    with soundfile.SoundFile(source, "w", 16000, 1) as file:
        for name, text in tags.items():
            setattr(file, name, text)
        file.write(short)
    os.utime(source, ns=(10**18, 10**18 + 123456789))
    assert run("encode", source)[0] == 0
    assert coded.stat().st_mtime_ns == 10**18 + 123456789
    assert json.loads(run("info", "--json", coded)[1])["tags"] == tags
    assert "title          Mañana" in run("info", coded)[1]
    for suffix, lost in ((".ogg", ""), (".wav", "license"), (".mp3", "title, license")):
        out = tmp_path / f"out{suffix}"
        code, _, messages = run("decode", coded, out)
        assert code == 0 and out.stat().st_mtime_ns == coded.stat().st_mtime_ns
        assert messages.endswith(f"cannot hold the tags {lost}") if lost else not messages
        with soundfile.SoundFile(out) as file:
            held = {name: getattr(file, name) for name in tags}
        kept = {name: "" if name in lost.split(", ") else text for name, text in tags.items()}
        assert held == kept


def test_tags_that_are_too_long_are_told(tmp_path, short):
    source = tmp_path / "talk.flac"
    with soundfile.SoundFile(source, "w", 16000, 1) as file:
        file.title, file.comment = "short", "x" * 100_000
        file.write(short)
    code, _, messages = run("encode", source)
    assert code == 0 and "its tag comment is too long to be kept" in messages
    assert json.loads(run("info", "--json", tmp_path / "talk.pcx")[1])["tags"] == {"title": "short"}


def test_tags_can_be_left_out(tmp_path, short):
    source = tmp_path / "talk.flac"
    with soundfile.SoundFile(source, "w", 16000, 1) as file:
        file.title = "private"
        file.write(short)
    assert run("encode", "--no-tags", source)[0] == 0
    assert json.loads(run("info", "--json", tmp_path / "talk.pcx")[1])["tags"] == {}


def test_an_output_can_be_named_with_an_option(tmp_path, coded_file):
    out = tmp_path / "x.flac"
    assert run("decode", coded_file, "-o", out)[0] == 0 and out.exists()
    for wrong in ((coded_file, tmp_path / "y.wav", "-o", out), ("-o", out, "-d", "x", coded_file)):
        assert run("decode", *wrong)[0] == 1
    code, _, messages = run("decode", "--to", "mp3", coded_file, "-o", tmp_path / "y.wav")
    assert code == 1 and "--to is for outputs without a given name" in messages
    assert run("decode", "--to", "mp3", coded_file)[0] == 0
    assert (tmp_path / "speech.mp3").exists()


def test_a_source_is_removed_once_its_output_is_whole_and_never_else(tmp_path, short, coded):
    wav, pcx = tmp_path / "a.wav", tmp_path / "a.pcx"
    soundfile.write(wav, short, 16000)
    assert run("encode", "--rm", wav)[0] == 0
    assert not wav.exists() and run("verify", pcx)[0] == 0
    assert run("decode", "--rm", pcx)[0] == 0
    assert wav.exists() and not pcx.exists()
    # Damaged, failed, in parts, clipped, streams: the source stays.
    pcx.write_bytes(coded[:2000])
    code, _, messages = run("decode", "--rm", "-f", pcx)
    assert code == 3 and pcx.exists() and "is kept" in messages
    assert run("decode", "--rm", pcx)[0] == 1 and pcx.exists()
    soundfile.write(wav, np.full(8000, 1000.0), 16000, "FLOAT")
    code, _, messages = run("encode", "--rm", "-f", wav)
    assert code == 0 and wav.exists() and "clipped" in messages and "is kept" in messages
    assert run("decode", "--rm", "--start", "0.1", pcx, tmp_path / "b.wav")[0] == 1
    for stream in (("-", pcx), (wav, "-"), (wav, "/dev/null")):
        code, _, messages = run("encode", "--rm", "-f", *stream)
        assert code == 1 and "--rm is for files" in messages
    assert wav.exists() and pcx.exists()


def test_a_source_that_is_still_written_is_kept(tmp_path, short):
    wav = tmp_path / "a.wav"
    soundfile.write(wav, short, 16000)
    before = wav.stat()
    with wav.open("ab") as file:
        file.write(bytes(100))
    with pytest.raises(pcodec.PcodecError, match="changed while it was read, and is kept"):
        remove_source(wav, tmp_path / "a.pcx", before)
    assert wav.exists()


def test_many_files_say_how_fast_they_go_and_how_long_it_will_take(tmp_path, monkeypatch):
    files = [tmp_path / name for name in "abcd"]
    for file in files:
        file.write_bytes(bytes(1000))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = Progress("all", None, False, files)
    for file in files[:2]:
        bar.next_file(file)
    bar.update(7200.0)
    text = str(bar._bar)
    assert "2/4 files" in text and "files/s" in text and "7200 s of audio" in text
    assert "<00:0" in text
    bar.close()
