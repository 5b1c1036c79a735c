"""What docs/robustness.md says happens: its commands run, and its Python too."""

import contextlib
import importlib.util
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from pcodec.cli import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")


def rows():
    """(what happens, exit code, command) of each line of the tables."""
    for line in PAGE.splitlines():
        cells = [c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[2].isdigit():
            yield pytest.param(cells[1], int(cells[2]), cells[3].strip("`"), id=cells[0])


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    spec = importlib.util.spec_from_file_location(
        "containers", ROOT / "tests" / "audio" / "containers.py"
    )
    containers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(containers)
    folder = tmp_path_factory.mktemp("robustness")
    containers.write_cases(folder / "cases")
    return folder


@pytest.mark.parametrize(("what", "code", "command"), list(rows()))
def test_what_the_page_says_happens(cases, monkeypatch, capfd, what, code, command):
    monkeypatch.chdir(cases)
    command = command.replace(r"$'no\nsuch.wav'", "'no\nsuch.wav'")
    words = shlex.split(command)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    if words[-2] in ("<", ">"):
        direction, name = words[-2:]
        if not Path(name).exists():
            pytest.skip(f"no {name} here")
        words = words[:-2]
        file = Path(name).open("r" if direction == "<" else "w")  # noqa: SIM115
        monkeypatch.setattr(sys, "stdin" if direction == "<" else "stdout", file)
    else:
        file = contextlib.nullcontext()
    monkeypatch.setattr(sys, "argv", words)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with file, pytest.raises(SystemExit) as left:
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    messages = capfd.readouterr().err
    assert left.value.code == code, messages
    assert code or Path(words[-1]).exists()
    for said in re.findall(r'"([^"]+)"', what):
        assert said in messages
    if code == 0 and '"' not in what:
        assert not messages


def test_the_python_of_the_page_runs(capsys):
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    exec(compile(program, "robustness.md", "exec"), {})
    texts = capsys.readouterr().out.splitlines()
    assert len(texts) == 3 and "(frames, channels)" in texts[0]
    assert all("int64" in text for text in texts[1:])


def test_the_page_has_commands_for_every_table():
    assert len(list(rows())) > 30
    assert os.environ.get("XDG_CACHE_HOME") != "/dev/null"
