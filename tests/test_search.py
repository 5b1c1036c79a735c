"""`encode --search`: the same bitstream, indices that sound nearer to the original."""

import io
import sys

import numpy as np
import pytest
from conftest import SPEECH

import pcodec
from pcodec.eval import metrics
from pcodec.pcx.transcode import encode_stream
from pcodec.search import SEGMENT, SearchStream


def found(codec, samples, iterations, sizes):
    """The latents of samples, pushed in pieces of these sizes."""
    with SearchStream(codec, iterations) as stream:
        pieces = np.split(samples, np.cumsum(sizes))
        return np.concatenate([*map(stream.push, pieces), stream.finish()])


def test_what_was_searched_for_sounds_nearer_to_the_original(codec, speech):
    clip = speech[8000:40000]
    quick, searched = (
        codec.from_tokens(codec.encoder.quantizer.indices(found(codec, clip, n, [])), len(clip))
        for n in (0, 3)
    )
    assert metrics.pesq_wb(clip, searched) > metrics.pesq_wb(clip, quick) + 0.03
    assert metrics.stoi(clip, searched) > metrics.stoi(clip, quick) + 0.002
    assert metrics.log_mel_distance(clip, searched) < metrics.log_mel_distance(clip, quick)


def test_it_takes_as_many_bytes(codec, speech, coded):
    assert len(pcodec.encode(speech[:16000], 16000, codec=codec, search=1)) == len(
        pcodec.encode(speech[:16000], 16000, codec=codec)
    )


def test_the_result_does_not_depend_on_how_samples_arrive(codec, speech):
    whole = found(codec, speech[:8000], 1, [])
    assert np.array_equal(whole, found(codec, speech[:8000], 1, [1, 5000, 0, 1000]))


def test_it_is_never_worse_than_where_it_begins(codec, speech):
    """Of no iterations it gives the encoder's own latents."""
    plain = codec.to_tokens(speech[:8000])
    latents = found(codec, speech[:8000], 0, [])
    assert np.array_equal(codec.encoder.quantizer.indices(latents), plain)


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 513])
def test_a_clip_of_any_length_has_the_columns_that_it_has_without(samples, codec, speech):
    out = io.BytesIO()
    writer = encode_stream(codec, [speech[5000 : 5000 + samples]], 16000, out, search=1)
    assert writer.columns == len(codec.to_tokens(speech[5000 : 5000 + samples]))


def test_longer_clips_are_searched_in_segments(small_model):
    codec = pcodec.load(str(small_model))
    step = codec.config.column_samples
    noise = 0.1 * np.random.default_rng(0).standard_normal((SEGMENT + 20) * step + 7)
    latents = found(codec, noise.astype(np.float32), 1, [step * 100])
    assert len(latents) == SEGMENT + 21
    assert np.isfinite(latents).all()


def test_it_goes_with_fewer_bits(codec, speech):
    clip = speech[8000:24000]
    plain, compact, fewer = (
        pcodec.encode(clip, 16000, codec=codec, search=1, **how)
        for how in ({}, {"compact": True}, {"bit_rate": 5000})
    )
    assert len(fewer) < len(compact) < len(plain)
    assert np.array_equal(pcodec.decode(compact)[0], pcodec.decode(plain)[0])


def test_the_command_searches(pcodec_command, tmp_path):
    out = tmp_path / "out.pcx"
    done = pcodec_command("encode", SPEECH, out, "--search", 1, "-q")
    assert (done.returncode, done.stderr) == (0, b"")
    assert pcodec_command("verify", out).returncode == 0


def test_a_live_stream_cannot_be_searched(pcodec_command):
    done = pcodec_command("encode", SPEECH, "--live", "--search", 1)
    assert done.returncode == 2
    assert b"--search looks seconds ahead" in done.stderr


def test_without_torch_one_line_says_what_to_install(pcodec_command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "pcodec.search")
    done = pcodec_command("encode", SPEECH, tmp_path / "out.pcx", "--search", 1)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1 and b".[train]" in done.stderr
    assert not (tmp_path / "out.pcx").exists()
