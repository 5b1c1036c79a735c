"""The examples that learn, for a few steps."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import pcodec
from pcodec.cli import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def speech_folder(tmp_path, speech):
    """Three clips of speech."""
    folder = tmp_path / "speech"
    folder.mkdir()
    for i in range(3):
        soundfile.write(folder / f"{i}.flac", speech[20000 * i :], 16000)
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example with arguments; gives what it said."""

    def run(name, *arguments):
        monkeypatch.syspath_prepend(str(ROOT / "examples"))
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("more", [(), ("--encoder",)])
def test_a_model_is_trained_further_and_stays_readable(
    run, codec, speech_folder, speech, tmp_path, more
):
    pytest.importorskip("torch")
    mine = tmp_path / "mine"
    sizes = ("--steps", "2", "--batch", "2", "--seconds", ".25", "--rate", "1e-4")
    said = run("finetune", speech_folder, mine, *sizes, *more)
    losses = [float(x) for x in re.findall(r"loss ([\d.]+) on clips held out", said)]
    assert len(losses) == 3 and len(set(losses)) == 3
    other = pcodec.load(str(mine))
    assert other.model.bitstream_id == codec.model.bitstream_id
    tokens = codec.to_tokens(speech[:16000])
    assert np.array_equal(other.to_tokens(speech[:16000]), tokens) == (not more)
    assert not np.array_equal(other.from_tokens(tokens), codec.from_tokens(tokens))


def test_a_language_model_learns_and_goes_on_from_a_sentence(run, codec, speech_folder, tmp_path):
    for name in ("torch", "pyarrow"):
        pytest.importorskip(name)
    make = ["tokens", str(speech_folder), "-o", str(tmp_path / "tokens"), "--workers", "1"]
    assert cli.main(make, standalone_mode=False) == 0
    sizes = ("--steps", "8", "--batch", "2", "--seconds", "1", "--prompt", ".8")
    small = ("--width", "32", "--layers", "1", "--rate", "1e-2")
    said = run("language_model", tmp_path / "tokens", tmp_path / "said.wav", *sizes, *small)
    bits = [float(x) for x in re.findall(r"([\d.]+) bits per token of clips", said)]
    assert bits[0] == pytest.approx(10, abs=0.5) and bits[-1] < bits[0]
    assert "2 clips, 0.00 h, to learn from; 1 to measure on" in said
    about = soundfile.info(tmp_path / "said.wav")
    assert (about.frames, about.samplerate) == (31 * 512, 16000)
    assert f"{round(0.8 * codec.frame_rate)} columns of speech, 6 made up" in said
