import csv
import hashlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pcodec.audio.clips import find_clips

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rebuild_test_set.py"
spec = importlib.util.spec_from_file_location("rebuild_test_set", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@pytest.fixture
def corpus(tmp_path):
    """A corpus laid out as LibriSpeech is, and a list of two of its three utterances."""
    lines = ["path\tspeaker\tsha256"]
    for i, utterance in enumerate(("61-70968-0000", "61-70968-0001", "121-121726-0000")):
        reader, chapter, _ = utterance.split("-")
        folder = tmp_path / "LibriSpeech" / "test-clean" / reader / chapter
        folder.mkdir(parents=True, exist_ok=True)
        samples = (3000 * np.sin(np.arange(8000) * (0.01 + 0.02 * i))).astype("<i2")
        soundfile.write(folder / f"{utterance}.flac", samples, 16000, "PCM_16")
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        lines.append(f"test/ls{reader}__{utterance}.flac\tls{reader}\t{digest}")
    del lines[2]
    (tmp_path / "list.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_test_set_is_rebuilt_from_a_corpus_as_a_list_to_measure_on(corpus):
    arguments = [corpus / "LibriSpeech", corpus / "out", "--list", corpus / "list.tsv"]
    result = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    clips = find_clips(corpus / "out" / "list.tsv")
    assert [(path.name, speaker) for path, speaker in clips] == [
        ("ls61__61-70968-0000.flac", "ls61"),
        ("ls121__121-121726-0000.flac", "ls121"),
    ]
    for path, _ in clips:
        (original,) = corpus.rglob(f"test-clean/*/*/{path.name.partition('__')[2]}")
        assert path.read_bytes() == original.read_bytes()


def test_an_utterance_that_is_missing_or_another_is_named_and_nothing_written(corpus):
    (damaged,) = corpus.rglob("61-70968-0000.flac")
    samples, rate = soundfile.read(damaged, dtype="int16")
    samples[4000] += 1
    soundfile.write(damaged, samples, rate, "PCM_16")
    (missing,) = corpus.rglob("121-121726-0000.flac")
    missing.unlink()
    wrong = script.rebuild(corpus / "LibriSpeech", corpus / "out", corpus / "list.tsv")
    assert wrong == [
        f"121-121726-0000: not in {corpus / 'LibriSpeech'}",
        f"{damaged}: other samples than the test set's",
    ]
    assert not (corpus / "out").exists()


def test_the_list_has_what_is_needed_to_find_and_to_check_each_utterance():
    with script.LIST.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 60 == len({script.utterance(row) for row in rows})
    assert len({row["speaker"] for row in rows}) == 12
    for row in rows:
        name = script.utterance(row)
        assert re.fullmatch(r"\d+-\d+-\d{4}", name)
        assert re.fullmatch(r"[0-9a-f]{64}", row["sha256"])
        assert row["path"] == f"test/{row['speaker']}__{name}.flac"
        assert row["origin"] == f"LibriSpeech test-clean, utterance {name}"
