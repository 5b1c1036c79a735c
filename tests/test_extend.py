"""docs/howto/extend.md, followed to the letter."""

import dataclasses
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, SPEECH

import pcodec
from pcodec import models
from pcodec.codec import Codec
from pcodec.eval import evaluate, metrics, peers
from pcodec.train import stages
from pcodec.vocoders import VOCODERS, network_class, runtime_class

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "extend.md"


def code_of(title):
    """The Python blocks of a section of the page."""
    section = PAGE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def module_of(name, code):
    """A file of the page, as the module that it would be."""
    module = types.ModuleType(name)
    module.__file__ = str(PAGE)
    exec(compile(code, name, "exec"), vars(module))
    return module


def test_a_metric_added_as_the_page_says_is_measured(monkeypatch, tmp_path, speech):
    function, entry = code_of("A metric")
    names = dict(vars(metrics))
    exec(compile(function, "metrics.py", "exec"), names)
    metric = eval(entry, names)
    monkeypatch.setitem(metrics.METRICS, metric.name, metric)
    (2 * speech.clip(-0.4, 0.4) * 32768).astype("<i2").tofile(tmp_path / "louder.s16")
    found = evaluate.score(SPEECH, str(tmp_path / "louder.s16"), 0, ["peak"], tmp_path / "cache")
    wanted = 20 * np.log10(min(0.8, 2 * np.abs(speech).max()) / np.abs(speech).max())
    assert found["peak"] == (pytest.approx(abs(wanted), abs=0.01), None)
    assert metric.definition == "Absolute difference of the peaks, in dB."
    (speech * 0).astype("<i2").tofile(tmp_path / "silent.s16")
    found = evaluate.score(SPEECH, str(tmp_path / "silent.s16"), 0, ["peak"], tmp_path / "cache")
    assert found["peak"] == (None, "silent")


def test_a_codec_added_as_the_page_says_is_one_of_all(monkeypatch, tmp_path, speech):
    (file,) = code_of("A codec to compare with")
    line = re.search(r"^```text\n(.*?)^```$", PAGE.read_text(), re.S | re.M)[1]
    module = module_of("pcodec.eval.peers.mulaw", file)
    names = {"mulaw": module.mulaw, "Family": peers.Family}
    ((name, family),) = eval(f"{{{line}}}", names).items()
    monkeypatch.setitem(peers.FAMILIES, name, family)
    assert peers.expand(("all",))[-1] == "mulaw-128"
    coded = peers.make("mulaw-128").run(speech)
    assert coded.payload_bits == 8 * len(speech)
    assert metrics.stoi(speech, coded.decoded) > 0.99
    coarse = evaluate.code(SPEECH, "mulaw-64", None, tmp_path)
    assert coarse["payload_bits"] == 4 * len(speech) and coarse["delay"] == 0


def test_a_stage_added_as_the_page_says_is_trained(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    from pcodec.networks.checkpoint import Networks
    from pcodec.train.run import run_stage

    file, line = code_of("A training stage")
    name = "pcodec.train.stages.decoder_only"
    module = module_of(name, file)
    monkeypatch.setitem(sys.modules, name, module)
    ((key, entry),) = eval(f"{{{line}}}", {"Entry": stages.Entry}).items()
    monkeypatch.setitem(stages.STAGES, key, entry)
    assert stages.stage_class("decoder_only") is module.DecoderOnly
    Networks(SMALL).save(tmp_path, ("encoder", "codebook", "decoder"))
    before = {path.stem: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    toml = re.search(r"^```toml\n\[decoder_only\]\n(.*?)^```$", PAGE.read_text(), re.S | re.M)[1]
    table = {key: float(value) for key, value in re.findall(r"(\w+) = (\S+)", toml)}
    table |= {"steps": 2, "batch": 2, "columns": 4}
    recipe = {"codec": dataclasses.asdict(SMALL), "decoder_only": table}
    run_stage("decoder_only", recipe, SPEECH, None, SPEECH, tmp_path, None, None)
    line = json.loads((tmp_path / "decoder_only.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 2 and np.isfinite(line["mel"])
    after = {path.stem: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert {part for part in after if after[part] != before[part]} == {"decoder"}


def test_a_vocoder_added_as_the_page_says_decodes(monkeypatch, tmp_path, tokens):
    file, line = code_of("A vocoder")
    name = "pcodec.runtime.noise"
    monkeypatch.setitem(sys.modules, name, module_of(name, file))
    ((key, kind),) = eval(f"{{{line}}}").items()
    monkeypatch.setitem(VOCODERS, key, kind)
    shipped = models.find().folder
    for path in shipped.iterdir():
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(pcodec.PcodecError, match="has no vocoder 'noise'"):
        _ = Codec(models.find(str(tmp_path)), "noise").decoder
    (tmp_path / "noise.safetensors").touch()
    codec = pcodec.load(str(tmp_path), vocoder="noise")
    samples = codec.from_tokens(tokens)
    assert len(samples) == len(tokens) * codec.config.column_samples
    assert 0 < np.abs(samples).max() <= 1
    assert codec.latency == pcodec.load().latency - runtime_class("spectral").latency(codec.config)


def test_every_vocoder_and_stage_of_the_registries_is_there_and_each_vocoder_is_trained():
    pytest.importorskip("torch")
    from pcodec.networks.checkpoint import Networks

    for name in VOCODERS:
        assert runtime_class(name).latency(SMALL) >= 0
        assert network_class(name)(SMALL) is not None
    assert set(VOCODERS) <= set(Networks.PARTS)
    classes = {name: stages.stage_class(name) for name in stages.STAGES}
    assert all(kind.name == name for name, kind in classes.items())
    assert set(VOCODERS) <= {part for kind in classes.values() for part in kind.parts}


def test_the_registries_load_neither_torch_nor_onnx_runtime():
    script = "import sys, pcodec.vocoders, pcodec.train.stages; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    assert not set(out.decode().split()) & {"torch", "onnxruntime"}


def test_every_file_and_list_that_the_page_names_is_there():
    root = PAGE.parent.parent.parent
    places = re.findall(r"`(pcodec/[\w/.]*)`", PAGE.read_text())
    assert len(set(places)) > 8
    assert [place for place in places if not (root / place).exists()] == []
    lists = re.findall(r"`(\w+)` (?:of|in)\s+`(pcodec/[\w/.]*)`", PAGE.read_text())
    assert len(lists) > 2
    for name, place in lists:
        assert re.search(rf"\b{name}\b", (root / place).read_text()), f"no {name} in {place}"
