"""Streams one after the other, as `cat a.pcx b.pcx` makes them."""

import io
import json
import zlib

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from conftest import of_no_model
from hypothesis import given, settings
from hypothesis import strategies as st

import pcodec
from pcodec.cli import cli
from pcodec.pcx.chain import Chain
from pcodec.pcx.layout import MAGIC, Header
from pcodec.pcx.transcode import PcxReader
from pcodec.pcx.writer import Writer

RATE = 16000


def stream(columns, samples, seed, **fields):
    """A stream of random columns, and these."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, 1024, (columns, 24), np.uint16)
    out = io.BytesIO()
    writer = Writer(out, Header(RATE, bytes(16), **fields))
    writer.write(indices)
    writer.finish(samples)
    return out.getvalue(), indices


A, A_INDICES = stream(70, 70 * 512 - 3, 1)
B, B_INDICES = stream(40, 40 * 512 - 500, 2, block_columns=5)
EMPTY = stream(0, 0, 3)[0]


def read(data, chunk=1 << 16):
    """A chain that was read, and the columns that it gave, lost ones as -1."""
    chain, columns = Chain(), [np.zeros((0, 24), int)]
    for start in range(0, len(data), chunk):
        found = chain.feed(data[start : start + chunk])
        columns += [grid(p) for _, pieces in found for p in pieces]
    columns += [grid(p) for _, pieces in chain.close() for p in pieces]
    return chain, np.concatenate(columns)


def grid(piece):
    lost = np.full((piece.columns, 24), -1)
    return lost if piece.indices is None else piece.indices.astype(int)


@given(st.integers(1, 5000))
@settings(deadline=None)
def test_each_stream_of_a_chain_is_read_in_chunks_of_any_length(chunk):
    chain, columns = read(A + B + EMPTY + A, chunk)
    assert np.array_equal(columns, np.concatenate([A_INDICES, B_INDICES, A_INDICES]))
    assert chain.faults == [] and chain.number == 4
    assert [link.samples for link in chain.links] == [35837, 19980, 0, 35837]
    assert chain.samples == 2 * 35837 + 19980
    assert chain.bytes_read == len(A + B + EMPTY + A)


@given(st.integers(64, len(A) - 1), st.integers(1, 5000))
@settings(deadline=None)
def test_a_stream_that_breaks_off_does_not_take_the_next_one_with_it(cut, chunk):
    chain, columns = read(A[:cut] + B, chunk)
    assert chain.number == 2
    assert np.array_equal(columns[-40:], B_INDICES)
    assert chain.links[1].samples == 19980 and chain.links[1].columns == 40
    assert "the end of the stream is missing" in [fault.reason for fault in chain.faults]


@given(st.binary(min_size=1, max_size=200), st.integers(1, 5000))
@settings(deadline=None)
def test_bytes_between_two_streams_are_told_and_cost_nothing(junk, chunk):
    chain, columns = read(A + junk + B, chunk)
    assert np.array_equal(columns, np.concatenate([A_INDICES, B_INDICES]))
    (fault,) = chain.faults
    damaged = "another stream follows, but its header is damaged"
    assert fault.reason == (
        damaged if junk.startswith(MAGIC) else "bytes after the end of the stream"
    )


@pytest.mark.parametrize(
    "follows", [MAGIC + bytes(56), B[:63], B[:30] + b"!" + B[31:], MAGIC + bytes(30) + B[8:]]
)
def test_a_stream_whose_header_is_damaged_is_told(follows):
    for chunk in (1, 1 << 16):
        chain, columns = read(A + follows, chunk)
        assert np.array_equal(columns, A_INDICES)
        reason = "another stream follows, but its header is damaged"
        assert [fault.reason for fault in chain.faults] == [reason]
        assert chain.faults[0].start == pytest.approx(70 * 0.032)


def test_a_stream_of_a_later_version_is_refused_with_its_place():
    raw = bytearray(B)
    raw[8] = 0x20
    raw[60:64] = zlib.crc32(raw[:60]).to_bytes(4, "little")
    with pytest.raises(pcodec.VersionError, match=r"stream 2, from 2\.24 s: format version 2\.0"):
        read(A + bytes(raw))


@pytest.fixture(scope="module")
def parts(codec, speech):
    """Three streams of speech from different rates, none of them of whole columns."""
    cuts = ((speech[:30001], 16000), (speech[30000:52345], 44100), (speech[:9999], 8000))
    return [pcodec.encode(wav, rate, codec=codec) for wav, rate in cuts]


def decoded(codec, data, **options):
    parts = list(PcxReader(io.BytesIO(data), codec=codec, **options).blocks())
    return np.concatenate([np.zeros(0, np.float32), *parts])


def test_a_chain_sounds_as_its_streams_one_after_the_other(codec, parts):
    for rate in (16000, 44100):
        alone = [decoded(codec, part, rate=rate) for part in parts]
        together = decoded(codec, b"".join(parts), rate=rate)
        assert np.array_equal(together, np.concatenate(alone))
    wav, rate = pcodec.decode(b"".join(parts), codec=codec)
    lengths = [30001, round(22345 * 16000 / 44100), 9999 * 2]
    assert rate == 16000 and abs(len(wav) - sum(lengths)) <= 1


class Pipe(io.BytesIO):
    def seekable(self):
        return False


def test_a_part_of_a_chain_is_the_same_as_cut_from_the_whole(codec, parts, speech):
    # The last stream is long enough to be entered by its index.
    data = parts[0] + parts[1] + pcodec.encode(speech, 16000, codec=codec)
    whole = decoded(codec, data)
    for start in (0.1, 1.874, 1.8755, 2.1, 4.9, 5.5):
        for kind in (io.BytesIO, Pipe) if start in (1.874, 5.5) else (io.BytesIO,):
            decoding = PcxReader(kind(data), codec=codec, start=start, end=start + 0.25)
            part = np.concatenate(list(decoding.blocks()))
            begin = round(start * 16000)
            assert np.allclose(part, whole[begin : begin + 4000], atol=1e-4), start
            assert decoding.damages == []


def test_a_start_after_the_end_of_a_chain_is_told(codec, parts):
    with pytest.raises(pcodec.FormatError, match=r"is after the end \(3\.63 s\)"):
        decoded(codec, b"".join(parts), start=10.0)


def test_damage_has_its_place_on_the_time_line_of_the_chain(codec, parts):
    second = bytearray(parts[0])
    second[200] ^= 1
    decoding = PcxReader(io.BytesIO(parts[0] + bytes(second)), codec=codec)
    samples = sum(map(len, decoding.blocks()))
    (fault,) = decoding.damages
    assert samples == 60002 and fault.start == 30001 / 16000 and fault.end == fault.start + 1.024


def test_a_stream_of_another_model_in_a_chain_is_never_dropped(
    codec, parts, small_model, tmp_path, monkeypatch
):
    other = pcodec.encode(np.zeros(20000, np.float32), 16000, str(small_model))
    chained = tmp_path / "chained.pcx"
    chained.write_bytes(parts[0] + other)
    result = CliRunner().invoke(cli, ["decode", str(chained), str(tmp_path / "no.wav")])
    text = str(result.exception)
    assert result.exit_code == 1 and "stream 2, from 1.88 s: the stream was made with" in text
    assert not (tmp_path / "no.wav").exists()
    with pytest.raises(pcodec.ModelMismatchError, match="of two models"):
        pcodec.read_tokens(chained)
    # With the other model installed, each stream is decoded by its own.
    monkeypatch.setenv("PCODEC_MODELS", str(small_model.parent))
    result = CliRunner().invoke(cli, ["decode", str(chained), str(tmp_path / "out.wav")])
    assert result.exit_code == 0, result.exception
    samples, _ = soundfile.read(tmp_path / "out.wav")
    assert len(samples) == 50001
    first, _ = pcodec.decode(parts[0], codec=codec)
    assert np.abs(samples[:30001] - first).max() < 1e-4


def test_tokens_of_a_chain_follow_each_other(codec, parts, tmp_path):
    alone = [pcodec.read_tokens(part) for part in parts]
    assert np.array_equal(pcodec.read_tokens(b"".join(parts)), np.concatenate(alone))


def test_the_command_line_reads_chains(codec, parts, tmp_path):
    path, out = tmp_path / "chained.pcx", tmp_path / "out.wav"
    path.write_bytes(b"".join(parts))
    run = CliRunner().invoke
    assert run(cli, ["verify", str(path)]).exit_code == 0
    about = json.loads(run(cli, ["info", "--json", str(path)]).stdout)
    assert [link["source_rate"] for link in about["links"]] == [16000, 44100, 8000]
    assert about["samples"] == 30001 + 8108 + 19998 and about["source_frames"] is None
    assert "3, concatenated" in run(cli, ["info", str(path)]).stdout
    assert run(cli, ["decode", str(path), str(out)]).exit_code == 0
    assert soundfile.info(out).frames == about["samples"]
    path.write_bytes(parts[0] + of_no_model(parts[0]))
    assert run(cli, ["verify", str(path)]).exit_code == 0
