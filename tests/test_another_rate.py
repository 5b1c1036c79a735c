"""A model of 24 kHz, small and random, goes every way that the shipped one goes."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
from conftest import SMALL, snr

import pcodec
from pcodec.audio.resample import Resampler
from pcodec.cli import cli

RATE = 24000
CONFIG = dataclasses.replace(
    SMALL, sample_rate=RATE, n_fft=1536, window=768, hop=192, vocoder_n_fft=768,
    hifigan_strides=(4, 4, 4, 3), hifigan_kernels=(16, 16, 4, 3),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch = pytest.importorskip("torch")
    from pcodec.networks.checkpoint import Networks

    torch.manual_seed(0)
    networks = Networks(CONFIG)
    networks.quantizer.codebook.normal_()
    folder = tmp_path_factory.mktemp("models") / "wide24k"
    networks.save(folder, tuple(Networks.PARTS))
    return folder


@pytest.fixture(scope="module")
def wide(folder):
    return pcodec.load(str(folder))


@pytest.fixture(scope="module")
def wav(speech):
    """Speech at 24 kHz, not of whole columns."""
    return Resampler(16000, RATE)(speech, last=True)[:50001]


@pytest.fixture
def file(folder, wav, tmp_path):
    """A coded file, made by the command line."""
    soundfile.write(tmp_path / "in.wav", wav, RATE, "FLOAT")
    assert run("encode", "--model", folder, tmp_path / "in.wav", tmp_path / "out.pcx") == 0
    return tmp_path / "out.pcx"


def run(*arguments):
    return cli.main([*map(str, arguments)], standalone_mode=False) or 0


def test_its_sizes_are_those_of_its_configuration(wide):
    assert (wide.config.sample_rate, wide.config.column_samples) == (RATE, 768)
    assert (wide.frame_rate, wide.rows, wide.config.bit_rate) == (31.25, 24, 7500)
    assert wide.latency / RATE == pcodec.load().latency / 16000


@pytest.mark.parametrize("vocoder", ["spectral", "hifigan"])
def test_streams_in_pieces_are_the_whole(folder, wav, vocoder):
    codec = pcodec.load(str(folder), vocoder)
    tokens = codec.to_tokens(wav)
    assert tokens.shape == (-(-len(wav) // 768), 24) and len(np.unique(tokens)) > 50
    samples = codec.from_tokens(tokens, length=len(wav))
    assert len(samples) == len(wav) and 0 < np.abs(samples).max() <= 1
    with codec.stream_encoder() as encoder, codec.stream_decoder() as decoder:
        columns = [encoder.push(piece) for piece in np.array_split(wav, 37)]
        columns.append(encoder.finish())
        pieces = [decoder.push(piece) for piece in columns]
        pieces.append(decoder.finish())
    assert np.array_equal(np.concatenate(columns), tokens)
    streamed = np.concatenate(pieces)[: len(wav)]
    np.testing.assert_allclose(streamed, samples, atol=1e-4)


def test_a_file_is_decoded_at_the_rate_of_its_source(folder, wide, wav, speech, file, tmp_path):
    assert run("decode", "--model", folder, file, tmp_path / "rec.wav") == 0
    decoded, rate = soundfile.read(tmp_path / "rec.wav", dtype="float32")
    assert rate == RATE and len(decoded) == len(wav)
    data = file.read_bytes()
    assert np.array_equal(pcodec.read_tokens(data), wide.to_tokens(wav))
    samples, rate = pcodec.decode(data, codec=wide)
    assert rate == RATE
    np.testing.assert_allclose(decoded, samples, atol=1 / 32768)
    narrow = pcodec.encode(speech, 16000, codec=wide)
    samples, rate = pcodec.decode(narrow, codec=wide)
    assert (len(samples), rate) == (len(speech), 16000)


def test_a_part_is_decoded_as_the_whole_is(folder, file, tmp_path):
    whole, part = tmp_path / "whole.wav", tmp_path / "part.wav"
    assert run("decode", "--model", folder, file, whole) == 0
    assert run("decode", "--model", folder, "--start", 1.2, "--end", 1.7, file, part) == 0
    samples, _ = soundfile.read(whole, dtype="float32")
    found, _ = soundfile.read(part, dtype="float32")
    np.testing.assert_allclose(found, samples[28800:40800], atol=2 / 32768)


def test_it_is_verified_and_described(folder, file, capsys):
    assert run("verify", "--full", "--model", folder, file) == 0
    capsys.readouterr()
    assert run("info", "--json", file) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["sample_rate"] == about["source_rate"] == RATE
    assert (about["codec_bit_rate"], about["damage"]) == (7500, [])
    assert about["duration"] == pytest.approx(50001 / RATE, abs=1e-3)


def test_lost_columns_are_concealed(wide, wav):
    tokens = wide.to_tokens(wav)
    masked = np.ma.masked_array(tokens, np.zeros_like(tokens, bool))
    masked[20:23] = np.ma.masked
    samples = wide.from_tokens(masked)
    assert len(samples) == len(tokens) * 768 and np.isfinite(samples).all()


def test_a_corpus_becomes_tokens(folder, wide, wav, file, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("tokens", "--workers", 1, "--model", folder, file.parent, "-o", tmp_path / "t") == 0
    (shard,) = (tmp_path / "t").glob("*.parquet")
    rows = parquet.read_table(shard).to_pylist()
    assert [row["path"] for row in rows] == ["in.wav", "out.pcx"]
    for row in rows:
        assert np.array_equal(row["tokens"], wide.to_tokens(wav))
        assert (row["samples"], row["seconds"]) == (len(wav), len(wav) / RATE)


def test_the_networks_in_torch_agree(folder, wide, wav):
    torch = pytest.importorskip("torch")
    net = pcodec.torch.load(str(folder))
    with torch.inference_mode():
        tokens = net.encode(torch.from_numpy(wav)[None])[0]
        samples = net.decode(tokens[None], [len(wav)])[0].numpy()
    assert np.mean(tokens.numpy() == wide.to_tokens(wav)) > 0.98
    assert snr(wide.from_tokens(tokens.numpy(), length=len(wav)), samples) > 3


def test_such_a_model_is_trained(wav, tmp_path):
    pytest.importorskip("torch")
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.flac", wav[10000 * i :], RATE)
    sizes = "\n".join(f"{k} = {json.dumps(v)}" for k, v in CONFIG.to_json().items())
    stage = "steps = 2\nbatch = 2\ncolumns = 12\n"
    recipe = f"[codec]\n{sizes}\n[vqvae]\n{stage}[vocoder]\n{stage}"
    (tmp_path / "recipe.toml").write_text(recipe)
    common = ("--config", tmp_path / "recipe.toml", "--data", tmp_path, "--device", "cpu")
    assert run("train", "all", *common, "--dev", tmp_path, "--out", tmp_path / "made") == 0
    codec = pcodec.load(str(tmp_path / "made"))
    assert len(codec.from_tokens(codec.to_tokens(wav))) >= len(wav)
    for name in ("vqvae", "vocoder"):
        line = json.loads((tmp_path / "made" / f"{name}.jsonl").read_text().splitlines()[-1])
        assert np.isfinite([value for value in line.values() if value is not None]).all()
