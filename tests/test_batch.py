"""What researchers call: batches, sizes, tensors, the tokens of a file."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import of_no_model, snr

import pcodec


@pytest.fixture(scope="module")
def clips(speech):
    """Of lengths that have nothing in common; one is empty, one longer than a chunk."""
    return [speech[a:b] for a, b in ((0, 8000), (100, 100), (5000, 5001), (0, 72880), (9, 40000))]


def test_a_batch_has_the_tokens_and_samples_of_single_calls(codec, clips):
    tokens = codec.encode_batch(clips)
    assert all(map(np.array_equal, tokens, map(codec.to_tokens, clips)))
    assert [len(t) for t in tokens] == [-(-len(clip) // 512) for clip in clips]
    lengths = [len(clip) for clip in clips]
    decoded = codec.decode_batch(tokens, lengths)
    assert [len(x) for x in decoded] == lengths
    whole = codec.decode_batch(tokens)
    for x, y, t in zip(decoded, whole, tokens, strict=True):
        np.testing.assert_allclose(y, codec.from_tokens(t), rtol=0, atol=1e-6)
        assert np.array_equal(x, y[: len(x)])


def test_a_batch_on_many_threads_is_that_on_one(codec, clips):
    tokens = codec.encode_batch(clips)
    many = pcodec.load(threads=2)
    assert all(map(np.array_equal, many.encode_batch(clips), tokens))
    decoded = many.decode_batch(tokens)
    for batched, t in zip(decoded, tokens, strict=True):
        np.testing.assert_allclose(batched, codec.from_tokens(t), rtol=0, atol=1e-6)


def test_a_batch_of_nothing_is_nothing(codec):
    assert codec.encode_batch([]) == codec.decode_batch([]) == []


def test_a_batch_is_resampled_like_a_single_call(codec, speech):
    (tokens,) = codec.encode_batch([speech], 22050)
    assert np.array_equal(tokens, codec.to_tokens(speech, 22050))


def test_what_is_wrong_with_a_batch_is_an_error(codec, speech):
    with pytest.raises(pcodec.AudioError):
        codec.encode_batch([speech, np.zeros((2, 2, 2))])
    with pytest.raises(ValueError, match="1 lengths for 2 clips"):
        codec.decode_batch([np.zeros((1, 24), int)] * 2, [5])


def test_the_length_is_kept_by_whoever_tells_it(codec, speech, tokens):
    assert len(codec.from_tokens(tokens)) == 143 * 512
    assert len(codec.from_tokens(tokens, length=len(speech))) == len(speech)
    for wrong in (-1, 143 * 512 + 1):
        with pytest.raises(ValueError, match="143 columns hold 73216"):
            codec.from_tokens(tokens, length=wrong)


def test_tensors_and_sixteen_bits_are_audio(codec, speech, tokens):
    integers = np.round(speech * 32768).astype(np.int16)
    assert np.array_equal(codec.to_tokens(torch.from_numpy(speech)), tokens)
    assert np.array_equal(codec.to_tokens(integers), codec.to_tokens(torch.from_numpy(integers)))
    assert np.mean(codec.to_tokens(integers) == tokens) > 0.99
    assert pcodec.encode(torch.from_numpy(speech), 16000, codec=codec) == pcodec.encode(
        speech, 16000
    )
    decoded = codec.from_tokens(torch.from_numpy(tokens.astype(np.int64)))
    assert np.array_equal(decoded, codec.from_tokens(tokens))


def test_a_loaded_codec_codes_whole_files(codec, speech, coded):
    assert pcodec.encode(speech, 16000, codec=codec) == coded
    decoded, rate = pcodec.decode(coded, codec=codec)
    assert rate == 16000 and np.array_equal(decoded, pcodec.decode(coded)[0])
    with pytest.raises(pcodec.ModelMismatchError):
        pcodec.decode(of_no_model(coded), codec=codec)
    with pytest.raises(ValueError, match="not both"):
        pcodec.encode(speech, 16000, "speech16k", codec=codec)


def test_the_codec_tells_its_sizes(codec, tokens):
    assert (codec.rows, codec.vocab_size, codec.frame_rate) == (24, 1024, 31.25)
    assert codec.codebook.shape == (1024, codec.config.latent_dim)
    assert codec.codebook.dtype == np.float32
    assert np.array_equal(codec.codebook[tokens], codec.decoder.decoder.lookup(tokens))
    with pytest.raises(ValueError, match="read-only"):
        codec.codebook[0, 0] = 1.0
    for word in ("speech16k", "16000 Hz", "24 x 31.25", "1024", "7500 bit/s", "spectral", "cpu"):
        assert word in repr(codec)


# The tokens of a file.


@pytest.mark.parametrize("kind", [str, os.fspath, "path", bytes, bytearray, memoryview, io.BytesIO])
def test_the_tokens_of_a_file_are_read_from_wherever_it_is(coded_file, coded, tokens, kind):
    if kind == "path":
        source = coded_file
    else:
        source = kind(coded_file) if kind in (str, os.fspath) else kind(coded)
    read = pcodec.read_tokens(source)
    assert read.dtype == np.uint16 and np.array_equal(read, tokens)


def test_a_file_is_closed_again_and_named_when_it_is_bad(tmp_path):
    path = tmp_path / "bad.pcx"
    path.write_bytes(b"RIFF")
    with pytest.raises(pcodec.FormatError, match=r"bad\.pcx: not a \.pcx"):
        pcodec.read_tokens(path)
    with pytest.raises(FileNotFoundError):
        pcodec.read_tokens(tmp_path / "none.pcx")


def test_lost_columns_are_an_error_or_masked(codec, coded, tokens):
    hurt = coded[:2000] + b"!" + coded[2001:]
    with pytest.raises(pcodec.FormatError, match=r"32 columns are lost, at 1\.02 s: .*checksum"):
        pcodec.read_tokens(hurt)
    masked = pcodec.read_tokens(hurt, on_error="mask")
    lost = np.ma.getmaskarray(masked)
    assert np.flatnonzero(lost.all(1)).tolist() == list(range(32, 64))
    assert lost.sum() == 32 * 24
    assert np.array_equal(masked.data[~lost], tokens[~lost])
    concealed, _ = pcodec.decode(hurt, codec=codec)
    assert snr(concealed, codec.from_tokens(masked, length=len(concealed))) > 100
    with (
        codec.stream_decoder() as decoder,
        pytest.raises(ValueError, match="masked columns are lost"),
    ):
        decoder.push(masked)


def test_a_file_without_its_end_is_not_taken_for_whole(coded, tokens):
    with pytest.raises(pcodec.FormatError, match=r"the last block is cut off|end .* missing"):
        pcodec.read_tokens(coded[:3000])
    masked = pcodec.read_tokens(coded[:3000], on_error="mask")
    assert np.array_equal(masked.data, tokens[: len(masked)]) and not np.ma.is_masked(masked)
    with pytest.raises(ValueError, match="'stop' or 'mask'"):
        pcodec.read_tokens(coded, on_error="conceal")


def test_tokens_become_the_file_that_the_audio_becomes(tokens, speech, coded, tmp_path):
    out = io.BytesIO()
    pcodec.write_tokens(out, tokens, len(speech))
    assert out.getvalue() == coded
    path = tmp_path / "out.pcx"
    path.write_text("mine")
    for wrong in (tokens + np.uint16(1024), tokens[:, :5], tokens * 1.0):
        with pytest.raises(ValueError):
            pcodec.write_tokens(path, wrong)
    with pytest.raises(ValueError, match="143 columns hold 73216"):
        pcodec.write_tokens(path, tokens, 73217)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]
    pcodec.write_tokens(path, tokens.astype(np.int64))
    assert np.array_equal(pcodec.read_tokens(path), tokens)
    assert len(pcodec.decode(path.read_bytes())[0]) == 143 * 512


def test_reading_tokens_loads_no_networks(coded_file, tmp_path):
    script = (
        f"import sys, pcodec; t = pcodec.read_tokens({str(coded_file)!r});"
        f"pcodec.write_tokens({str(tmp_path / 'again.pcx')!r}, t, 72880); print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    assert not set(out.decode().split()) & {"torch", "onnxruntime", "onnx", "soundfile"}
    assert (tmp_path / "again.pcx").read_bytes() == coded_file.read_bytes()
