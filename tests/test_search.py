"""`encode --search`: the same bitstream, indices that sound nearer to the original."""

import dataclasses
import io
import sys

import numpy as np
import pytest
from conftest import SMALL, SPEECH, snr

import pcodec
from pcodec.eval import metrics
from pcodec.networks.checkpoint import Networks
from pcodec.pcx.transcode import encode_stream
from pcodec.runtime.biquad import low_shelf
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


def test_the_result_does_not_depend_on_how_samples_arrive(codec, speech):
    whole = found(codec, speech[:8000], 1, [])
    assert np.array_equal(whole, found(codec, speech[:8000], 1, [1, 5000, 0, 1000]))


def test_of_no_iterations_it_gives_what_the_encoder_chooses(codec, speech):
    plain = codec.to_tokens(speech[:8000])
    latents = found(codec, speech[:8000], 0, [])
    assert np.array_equal(codec.encoder.quantizer.indices(latents), plain)


def test_it_does_so_at_another_sample_rate(tmp_path):
    config = dataclasses.replace(SMALL, sample_rate=24000)
    networks = Networks(config)
    networks.quantizer.codebook.normal_()
    networks.save(tmp_path / "fast", tuple(Networks.PARTS))
    codec = pcodec.load(str(tmp_path / "fast"))
    assert len(found(codec, np.full(700, 0.1, np.float32), 1, [])) == 2


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 513])
def test_a_clip_of_any_length_has_the_columns_that_it_has_without(samples, codec, speech):
    out = io.BytesIO()
    writer = encode_stream(codec, [speech[5000 : 5000 + samples]], 16000, out, search=1)
    assert writer.columns == len(codec.to_tokens(speech[5000 : 5000 + samples]))


def test_longer_clips_are_searched_in_segments_that_do_not_depend_on_pieces(small_model):
    codec = pcodec.load(str(small_model))
    step = codec.config.column_samples
    noise = 0.1 * np.random.default_rng(0).standard_normal((SEGMENT + 20) * step + 7)
    noise = noise.astype(np.float32)
    latents = found(codec, noise, 1, [])
    assert len(latents) == SEGMENT + 21
    assert np.array_equal(latents, found(codec, noise, 1, [step * 100, 9]))


class Watched(SearchStream):
    """Keeps what it decoded last, and the number of its first column."""

    def _decode(self, latents):
        self.number, self.decoded = self._first, super()._decode(latents)
        return self.decoded


def test_a_later_segment_is_decoded_as_the_decoder_will(codec, speech):
    clip, step = np.tile(speech, 2)[: 512 * (SEGMENT + 60)], codec.config.column_samples
    with Watched(codec, 0) as stream:
        latents = np.concatenate([stream.push(clip), stream.finish()])
    decoded = codec.from_tokens(codec.encoder.quantizer.indices(latents))
    assert stream.number > 0
    # The low shelf comes after the vocoder.
    own = low_shelf(16000)(stream.decoded.double().numpy(), {}, last=True)[0]
    after = step * (SEGMENT + 5)
    assert snr(decoded[after:], own[after - step * stream.number :]) > 20


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
