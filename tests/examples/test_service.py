"""The examples of docs/howto/service.md, as far as a machine without systemd or docker goes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pcodec.pcx.parser import Parser

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORD = EXAMPLES / "systemd" / "record"


@pytest.fixture
def recording(tmp_path, speech):
    """A recorder that has been given all of the speech, and waits for more."""
    command, source = tmp_path / "bin" / "pcodec", tmp_path / "source"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pcodec "$@"\n')
    (tmp_path / "speech.raw").write_bytes((speech * 32767).astype("<i2").tobytes())
    source.write_text(f'#!/bin/sh\ncat "{tmp_path}/speech.raw"\nexec sleep 1000\n')
    for path in (command, source):
        path.chmod(0o755)
    (tmp_path / "out").mkdir()
    environment = {
        **os.environ,
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(EXAMPLES.parent),
        "PCODEC_SOURCE": str(source),
    }
    process = subprocess.Popen(
        [RECORD, tmp_path / "out"], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    wait_for(lambda: parts(tmp_path / "out") and size_of(parts(tmp_path / "out")[0]) > 4000)
    yield process, tmp_path / "out"
    for stop in (process.kill, process.wait, process.stderr.close):
        stop()


def wait_for(something):
    deadline = time.monotonic() + 120
    while not something():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parts(folder):
    return sorted(folder.glob(".pcodec-*.part"))


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def read(path):
    parser = Parser()
    pieces = parser.feed(path.read_bytes()) + parser.close()
    return parser, np.concatenate([p.indices for p in pieces if p.indices is not None])


def test_a_recorder_that_is_told_to_stop_ends_its_file_in_good_order(recording, tokens, speech):
    process, folder = recording
    process.send_signal(signal.SIGTERM)  # to the script alone, as KillMode=mixed says
    assert process.wait(120) == 0, process.stderr.read()
    (path,) = folder.iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}Z\.pcx", path.name)
    parser, columns = read(path)
    assert not parser.damages and parser.samples == len(speech)
    assert len(columns) == len(tokens)


def test_what_a_recorder_had_when_the_power_went_can_be_decoded(recording):
    process, folder = recording
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(120)
    (path,) = folder.iterdir()
    parser, columns = read(path)
    assert path in parts(folder)
    assert [d.reason for d in parser.damages] == ["the end of the stream is missing"]
    assert len(columns) >= 100 and len(columns) % 5 == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    unit = tmp_path / "pcodec-record.service"
    text = (EXAMPLES / "systemd" / "pcodec-record.service").read_text()
    assert "ExecStart=/usr/local/lib/pcodec/record " in text
    unit.write_text(text.replace("/usr/local/lib/pcodec/record", str(RECORD)))
    check = ["systemd-analyze", "verify", "--man=no", unit]
    result = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr.strip()) == (0, "")


def test_the_container_is_built_from_what_there_is():
    text = (EXAMPLES / "docker" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    names = " ".join(copied).split()
    assert names == ["pyproject.toml", "README.md", "LICENSE", "pcodec", "models", "docs/man"]
    # What the wheel takes in from elsewhere than pcodec/ is there, too.
    wheel = (EXAMPLES.parent / "pyproject.toml").read_text().split("targets.wheel.force-include]")
    taken = re.findall(r'^"(.+)" = ', wheel[1].partition("targets.sdist")[0], re.MULTILINE)
    assert taken == ["models", "docs/man"]
    assert all((EXAMPLES.parent / name).exists() for name in names)
    ignore = (EXAMPLES / "docker" / "Dockerfile.dockerignore").read_text().split()
    assert {f"!{name}" for name in names} < set(ignore)
