"""Manual pages and completion: what a terminal offers before anything runs."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from pcodec.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def man():
    spec = importlib.util.spec_from_file_location("man", ROOT / "docs" / "man.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_manual_pages_say_what_the_commands_say(man):
    wanted = man.pages()
    assert sorted(wanted) == sorted(["pcodec.1", *(f"pcodec-{name}.1" for name in COMMANDS)])
    there = {path.name: path.read_text(encoding="utf-8") for path in man.FOLDER.iterdir()}
    assert there == wanted, "run `python docs/man.py`"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_the_manual_pages_are_pages_without_a_warning(man):
    check = ["groff", "-man", "-Tutf8", "-ww", *sorted(man.FOLDER.iterdir())]
    result = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    text = re.sub(".\b", "", result.stdout)  # what is bold is struck twice
    assert "--ignore-length" in text and "PCODEC_MODELS" in text


def completed(*words):
    """What may stand in the place of the last word."""
    complete = BashComplete(cli, {}, "pcodec", "_PCODEC_COMPLETE")
    items = complete.get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else item.type for item in items]


def test_commands_options_models_and_their_values_are_completed(small_model, monkeypatch):
    monkeypatch.setenv("PCODEC_MODELS", str(small_model.parent))
    assert completed("enc") == ["encode"]
    assert "--resume" in completed("encode", "--re")
    assert completed("encode", "--model", "") == ["speech16k", "small"]
    assert completed("verify", "--model", "sp") == ["speech16k"]
    assert completed("decode", "--model", "./") == ["dir"]
    assert completed("decode", "--to", "fl") == ["flac"]


def test_files_are_completed_that_a_command_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "a.FLAC", "a.pcx", "a.txt", ".hidden.wav", "sub/b.pcx", "sub/b.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert completed("encode", "") == ["a.FLAC", "a.wav", "sub/"]
    assert completed("decode", "") == ["a.pcx", "sub/"]
    assert completed("info", "a") == ["a.pcx"]
    # A folder alone would get a space after it.
    assert completed("decode", "s") == ["sub/", "sub/b.pcx"]
    assert completed("verify", "sub/") == ["sub/b.pcx"]
    assert completed("encode", "nowhere/") == []
    # The shell itself quotes what has to be quoted.
    (tmp_path / "a b.wav").write_text("")
    assert completed("encode", "a") == ["file"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_completes(tmp_path):
    command = tmp_path / "bin" / "pcodec"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{PROGRAM}" "$@"\n')
    command.chmod(0o755)
    (tmp_path / "talk.pcx").write_text("")
    (tmp_path / "notes.txt").write_text("")
    script = (
        'eval "$(_PCODEC_COMPLETE=bash_source pcodec)"; COMP_WORDS=(pcodec decode "");'
        " COMP_CWORD=2; _pcodec_completion pcodec; complete -p pcodec; echo ${COMPREPLY[@]}"
    )
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.stdout.splitlines() == [
        "complete -o nosort -F _pcodec_completion pcodec",
        "bin/ talk.pcx",
    ], result.stderr


PROGRAM = "import sys; sys.argv[0] = 'pcodec'; from pcodec.cli import main; main()"
