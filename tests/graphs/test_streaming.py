"""The exported graphs give what the package gives, in any pieces."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcodec import models
from pcodec.cli import cli
from pcodec.errors import PcodecError
from pcodec.graphs.export import export
from pcodec.pcx.packing import pack


class Stream:
    """A stream through a graph, as docs/onnx.md says."""

    def __init__(self, session, states):
        self.session, self.states = session, states
        self.state = {x["input"]: np.zeros(x["shape"], x["dtype"]) for x in states}

    def __call__(self, **inputs):
        result, *after = self.session.run(None, {**inputs, **self.state})
        self.state = {x["input"]: new for x, new in zip(self.states, after, strict=True)}
        return result


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Both graphs of the shipped model, and what describes them."""
    folder = tmp_path_factory.mktemp("graphs")
    export(models.find(), folder)
    about = json.loads((folder / "pcodec.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(folder / about[name]["file"], options)
        for name in ("encoder", "decoder")
    }
    return folder, about, sessions


def stream(graphs, name):
    _, about, sessions = graphs
    return Stream(sessions[name], about[name]["states"])


def encoded(graphs, samples, cuts=()):
    """The tokens of samples that are fed in pieces of so many columns."""
    _, about, _ = graphs
    size, first = about["column_samples"], about["encoder"]["first_samples"]
    columns = -(-len(samples) // size)
    padded = np.zeros((1, columns * size + first - size), np.float32)
    padded[0, : len(samples)] = samples
    places = sorted({0, columns, *(cut for cut in cuts if 0 < cut < columns)})
    bounds = [0, *(place * size + first - size for place in places[1:])]
    encoder = stream(graphs, "encoder")
    return np.concatenate([encoder(samples=padded[:, a:b]) for a, b in pairwise(bounds)], 1)[0]


def decoded(graphs, tokens, lost, cuts=()):
    """The samples of tokens that are fed in pieces."""
    cuts = {cut for cut in cuts if 2 <= cut <= len(tokens)}
    bounds = [0, *sorted({*cuts, len(tokens)})]
    decoder, out = stream(graphs, "decoder"), []
    for a, b in [*pairwise(bounds), (len(tokens), len(tokens))]:
        last = np.array(int(b == a), np.int64)
        piece = tokens[None, a:b].astype(np.int64)
        out.append(decoder(indices=piece, lost=lost[None, a:b], last=last))
    return np.concatenate(out, 1)[0]


def decibels(wanted, result):
    """Signal-to-noise ratio."""
    assert result.shape == wanted.shape
    return 10 * np.log10(np.square(wanted).sum() / np.square(wanted - result).sum())


def test_tokens_are_those_of_the_package_to_the_last_one(graphs, codec, speech, tokens):
    assert np.array_equal(encoded(graphs, speech), tokens)
    loud = speech[:5000]  # it ends within a word
    assert np.array_equal(encoded(graphs, loud), codec.to_tokens(loud))


@given(cuts=st.lists(st.integers(1, 60), max_size=6))
@settings(deadline=None, max_examples=5)
def test_tokens_do_not_depend_on_the_pieces(graphs, speech, tokens, cuts):
    assert np.array_equal(encoded(graphs, speech[: 512 * 60], cuts)[:59], tokens[:59])


def test_samples_are_those_of_the_package(graphs, codec, tokens):
    # A last bit may move a rounding to bytes; 60 dB are usual.
    wanted = codec.from_tokens(tokens)
    none = np.zeros(len(tokens), bool)
    assert decibels(wanted, decoded(graphs, tokens, none)) > 50
    assert decibels(wanted, decoded(graphs, tokens, none, range(0, len(tokens), 7))) > 50


def concealed(codec, tokens, lost):
    """What the package makes of a stream with lost columns, column by column."""
    with codec.stream_decoder() as decoder:
        parts = [
            decoder.conceal(1) if gone else decoder.push(column[None])
            for gone, column in zip(lost, tokens, strict=True)
        ]
        return np.concatenate([*parts, decoder.finish()])


@pytest.mark.parametrize("burst", [1, 3, 6])
def test_losses_are_concealed_as_by_the_package(graphs, codec, tokens, burst):
    starts = np.random.default_rng(burst).random(60 - burst) < 0.1
    lost = np.convolve(starts, np.ones(burst)) > 0
    lost = np.concatenate([[False], lost])[:60] & (np.arange(60) % 13 > 0)
    wanted = concealed(codec, tokens[:60], lost)
    assert lost.sum() > 3
    assert decibels(wanted, decoded(graphs, tokens[:60], lost, range(60))) > 40


def test_a_long_loss_becomes_silent_and_speech_returns_after_it(graphs, codec, tokens):
    lost = np.zeros(90, bool)
    lost[:4] = lost[30:54] = True
    wanted = concealed(codec, tokens[:90], lost)
    result = decoded(graphs, tokens[:90], lost, range(90))
    size = 512
    assert decibels(wanted[: 34 * size], result[: 34 * size]) > 40
    assert np.abs(result[47 * size : 52 * size]).max() < 1e-3
    # Rounding to bytes makes of a last bit another waveform, of the same sound.
    assert decibels(wanted[60 * size :], result[60 * size :]) > 10


def test_the_description_names_every_input_and_output(graphs):
    folder, about, sessions = graphs
    model = models.find()
    assert about["bitstream_id"] == model.bitstream_id.hex() and about["rows"] == 24
    for name, session in sessions.items():
        inputs = [x.name for x in session.get_inputs()]
        outputs = [x.name for x in session.get_outputs()]
        states = about[name]["states"]
        others = {"encoder": ["samples"], "decoder": ["indices", "lost", "last"]}[name]
        assert sorted(inputs) == sorted([*others, *(x["input"] for x in states)])
        assert outputs[1:] == [x["output"] for x in states]
        metadata = session.get_modelmeta().custom_metadata_map
        assert json.loads(metadata["pcodec"]) == about
    picture = np.fromfile(folder / "patches.f32", "<f4")
    assert picture.shape == (1024 * 4 * 4,) and np.isfinite(picture).all()


def test_the_example_in_c_decodes_a_bare_payload(graphs, codec, tokens, tmp_path):
    compiler, here = shutil.which("cc"), Path(__file__).parents[2] / "examples" / "c" / "decode.c"
    headers = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
    if not compiler or not (headers / "onnxruntime_c_api.h").exists():
        pytest.skip("no C compiler, or no onnxruntime_c_api.h ($ONNXRUNTIME_INCLUDE)")
    # The library of the Python package, under the names that a linker looks for.
    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(library)
    linked = [f"-L{tmp_path}", "-lonnxruntime", f"-Wl,-rpath,{tmp_path}", "-lm"]
    command = [compiler, "-Wall", "-Wextra", "-Werror", here, f"-I{headers}", *linked]
    subprocess.run([*command, "-o", tmp_path / "decode"], check=True)
    payload = pack(tokens[:50], 10) + b"\xff" * 30 + pack(tokens[51:], 10)
    program = [tmp_path / "decode", graphs[0] / "decoder.onnx"]
    out = subprocess.run(program, input=payload, stdout=subprocess.PIPE, check=True).stdout
    gone = np.arange(len(tokens))[:, None].repeat(24, 1) == 50
    wanted = codec.from_tokens(np.ma.masked_array(tokens, gone))
    assert decibels(wanted, np.frombuffer(out, np.int16) / np.float32(32767)) > 50
    assert subprocess.run(program, input=b"", check=True).returncode == 0
    done = subprocess.run(program, input=payload[:-1], capture_output=True)
    assert done.returncode == 1 and done.stderr == b"decode: the last column is cut off\n"
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    done = subprocess.run([program[0], tmp_path / "no.onnx"], capture_output=True)
    assert done.returncode == 1 and done.stderr.startswith(b"decode: ")


def test_the_command_writes_the_files_and_names_them(tmp_path, capsys):
    assert cli.main(["export", str(tmp_path / "out")], standalone_mode=False) == 0
    names = ["encoder.onnx", "decoder.onnx", "pcodec.json", "patches.f32", "entropy.safetensors"]
    named = capsys.readouterr().out.splitlines()
    assert named == [str(tmp_path / "out" / name) for name in names]
    assert all(Path(path).stat().st_size for path in named)


def test_a_model_is_not_overwritten_and_a_damaged_one_is_an_error(tmp_path):
    for path in models.find().folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(PcodecError, match="the folder of a model; export into another one"):
        cli.main(["export", "--model", str(tmp_path), str(tmp_path)], standalone_mode=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    out = tmp_path / "out"
    for name in ("spectral", "concealment", "encoder"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"nonsense" * 1000)
        with pytest.raises(PcodecError, match=rf"({name}|pitch)\.(safetensors|onnx): not "):
            cli.main(["export", "--model", str(tmp_path), str(out)], standalone_mode=False)
        assert not out.exists()
        (tmp_path / f"{name}.safetensors").write_bytes(before[f"{name}.safetensors"])


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pcodec.graphs")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PcodecError, match=r"pip install 'pcodec-speech\[export\]'"):
        cli.main(["export", str(tmp_path)], standalone_mode=False)
    assert not list(tmp_path.iterdir())
