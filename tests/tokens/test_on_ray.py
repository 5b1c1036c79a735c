"""`pcodec tokens --engine ray`, on a cluster of two workers in this machine."""

import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import soundfile

from pcodec.cli import cli
from pcodec.errors import PcodecError

pytest.importorskip("pyarrow")


def run(*arguments):
    return cli.main(["tokens", *map(str, arguments)], standalone_mode=False)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".part"}


@pytest.fixture
def corpus(tmp_path, speech):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i in range(16):
        soundfile.write(folder / f"{i:02d}.flac", np.tile(speech, 1 + i % 3), 16000)
    (folder / "bad.wav").write_bytes(b"nothing")
    return folder


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def workers():
    """The processes of Ray's actors that run our code, by their ids."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    for line in listed.splitlines():
        if "ray::" in line and "Worker" in line:
            yield int(line.split()[0])


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_costs_nothing_but_time(cluster, corpus, tmp_path):
    killed = []

    def kill():
        while not killed:
            time.sleep(0.02)
            if len(list((tmp_path / "ray").glob("tokens-*"))) >= 2:
                for pid in workers():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    break

    threading.Thread(target=kill, daemon=True).start()
    arguments = (corpus, "--shard-clips", "2")
    code = run(*arguments, "-o", tmp_path / "ray", "--engine", "ray", "--workers", "2")
    assert killed and code == 3
    assert run(*arguments, "-o", tmp_path / "local", "--workers", "1") == 3
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    # And once more there is nothing to do.
    assert run(*arguments, "-o", tmp_path / "ray", "--engine", "ray") == 0


def test_without_ray_the_extra_is_named(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(PcodecError, match=r"pip install 'pcodec-speech\[ray\]'"):
        run(corpus, "-o", tmp_path / "out", "--engine", "ray")
