"""Blocks of type C: fewer bytes for the same indices, the same on every machine."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_entropy import PlainDecoder, write_model
from pystoi import stoi

import pcodec
from pcodec import ChecksumError, ModelMismatchError, VersionError, models
from pcodec.models import read_model
from pcodec.pcx import compact, rans
from pcodec.pcx.blocks import block
from pcodec.pcx.parser import Parser
from pcodec.pcx.seek import seek
from pcodec.pcx.writer import Writer

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory):
    """The entropy model whose numbers are formulas."""
    return write_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def entropy(codec):
    """The shipped entropy model."""
    return compact.load(codec.model)


@pytest.fixture(scope="module")
def tokens(codec, speech):
    return codec.to_tokens(speech)


def written(grid, codec, entropy, columns=16):
    out = io.BytesIO()
    header = codec.model.header(16000, block_columns=columns, entropy_id=entropy.id)
    writer = Writer(out, header, entropy)
    writer.write(grid)
    writer.finish(len(grid) * 512, {"source_frames": len(grid) * 512})
    return out.getvalue()


def parsed(data, entropy, chunk=1 << 16):
    parser, pieces = Parser(entropy=lambda _: entropy), []
    for start in range(0, len(data), chunk):
        pieces += parser.feed(data[start : start + chunk])
    return parser, pieces + parser.close()


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(1, 65536)), max_size=200))
def test_the_coder_gives_back_any_symbols_of_any_frequencies(symbols):
    symbols = [(below, min(frequency, 65536 - below)) for below, frequency in symbols]
    data = rans.encode(symbols)
    decoder = rans.Decoder(data)
    for below, frequency in symbols:
        sums = sorted({0, below, below + frequency, 65536})
        assert sums[decoder.symbol(sums)] == below
    assert decoder.finished


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_indices_come_back_whatever_they_are_coded_beside(entropy, data):
    shapes = st.lists(st.integers(1, 12), min_size=1, max_size=4)
    seed = data.draw(st.integers(0, 1 << 30))
    rng = np.random.default_rng(seed)
    blocks = [rng.integers(0, 1024, (n, 24), np.uint16) for n in data.draw(shapes)]
    together = entropy.compress(blocks)
    assert together == [entropy.compress([one])[0] for one in blocks]
    decoded = entropy.decompress(list(zip(together, map(len, blocks), strict=True)))
    for one, again in zip(blocks, decoded, strict=True):
        assert np.array_equal(one, again)


def test_a_plain_reader_in_whole_numbers_decodes_the_shipped_models_blocks(codec, entropy, tokens):
    (payload,) = entropy.compress([tokens[:4]])
    assert PlainDecoder(codec.model.folder).decode(payload, 4) == tokens[:4].tolist()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 12))
def test_a_plain_reader_decodes_random_indices_of_a_model_of_formulas(plain_model, seed, columns):
    model = compact.load(read_model(plain_model))
    grid = np.random.default_rng(seed).integers(0, 1024, (columns, 24), np.uint16)
    (payload,) = model.compress([grid])
    assert PlainDecoder(plain_model).decode(payload, columns) == grid.tolist()


@pytest.mark.parametrize("kernels", ["Prescott", "Haswell", "SkylakeX", "Zen"])
@pytest.mark.parametrize("threads", [1, 3])
def test_bytes_are_the_same_with_other_instructions_and_threads(kernels, threads, entropy, tokens):
    code = (
        "import numpy as np, hashlib, sys; import pcodec; from pcodec.pcx import compact\n"
        "from pcodec.models import find; model = compact.load(find())\n"
        "grid = np.frombuffer(sys.stdin.buffer.read(), np.uint16).reshape(-1, 24)\n"
        "payload = model.compress([grid, grid[:7]])\n"
        "again = model.decompress([(payload[0], len(grid)), (payload[1], 7)])\n"
        "assert np.array_equal(again[0], grid) and np.array_equal(again[1], grid[:7])\n"
        "print(hashlib.sha256(payload[0]).hexdigest())"
    )
    environment = {**os.environ, "OPENBLAS_CORETYPE": kernels}
    environment |= {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(
        [sys.executable, "-c", code], input=tokens[:40].tobytes(), env=environment, stdout=-1
    )
    own = hashlib.sha256(entropy.compress([tokens[:40]])[0]).hexdigest()
    assert result.stdout.decode().strip() == own


def test_compact_files_hold_the_same_indices_in_fewer_bytes(codec, speech):
    plain, small = (pcodec.encode(speech, 16000, codec=codec, compact=c) for c in (False, True))
    assert len(small) < 0.9 * len(plain)
    assert np.array_equal(pcodec.read_tokens(plain), pcodec.read_tokens(small))
    decoded = [pcodec.decode(data, codec=codec)[0] for data in (plain, small)]
    assert np.array_equal(*decoded)


def test_silence_takes_less_than_a_kilobit_per_second(codec):
    data = pcodec.encode(np.zeros(60 * 16000, np.float32), 16000, codec=codec, compact=True)
    assert len(data) * 8 / 60 < 1000


def test_noise_takes_hardly_more_bytes_than_without(codec):
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * 16000).astype(np.float32)
    plain, small = (len(pcodec.encode(noise, 16000, codec=codec, compact=c)) for c in (False, True))
    assert small <= plain + 20 + 34  # the id in the header, and runs of the index


def test_blocks_that_do_not_get_smaller_are_written_as_they_are(codec, entropy):
    grid = np.random.default_rng(0).integers(0, 1024, (64, 24), np.uint16)
    parser, pieces = parsed(written(grid, codec, entropy), entropy)
    assert np.array_equal(np.concatenate([p.indices for p in pieces]), grid)
    assert b"\xf5\xb2A" in written(grid, codec, entropy)
    assert not parser.damages


def test_it_reads_the_same_in_any_chunks(codec, entropy, tokens):
    data = written(tokens, codec, entropy)
    for chunk in (1, 100, 1 << 20):
        parser, pieces = parsed(data, entropy, chunk)
        assert np.array_equal(np.concatenate([p.indices for p in pieces]), tokens)
        assert not parser.damages


def test_any_column_is_found_by_the_index(codec, entropy, tokens):
    grid = np.tile(tokens, (5, 1))
    data = written(grid, codec, entropy, 8)
    header = Parser(entropy=lambda _: entropy)
    header.feed(data)
    for column in (0, 7, 8, 100, 255, 300, len(grid) - 1):
        stream = io.BytesIO(data)
        first = seek(stream, header.known_header, column)
        assert first == column // 8 * 8
        parser = Parser(header.known_header, first, lambda _: entropy)
        (piece, *_) = parser.feed(stream.read())
        assert np.array_equal(piece.indices[column - first], grid[column])


def test_decoding_from_the_middle_gives_the_samples_of_the_whole(codec, speech, tmp_path):
    data = pcodec.encode(np.tile(speech, 3), 16000, codec=codec, compact=True)
    from pcodec.pcx.transcode import PcxReader

    whole = pcodec.decode(data, codec=codec)[0]
    part = np.concatenate(
        list(PcxReader(io.BytesIO(data), codec=codec, start=4.0, end=5.0).blocks())
    )
    assert np.abs(part - whole[64000:80000]).max() < 1e-4


def test_a_damaged_block_costs_its_own_columns_only(codec, entropy, tokens):
    data = bytearray(written(tokens, codec, entropy))
    second = data.index(b"\xf5\xb2C", data.index(b"\xf5\xb2C") + 1)
    data[second + 40] ^= 1
    parser, pieces = parsed(bytes(data), entropy)
    lost = [(p.first_column, p.columns) for p in pieces if p.indices is None]
    assert lost == [(16, 16)]
    assert parser.lost_columns == 16


def test_other_indices_behind_a_valid_checksum_are_found_out(codec, entropy, tokens):
    grid = tokens[:16]
    (payload,) = entropy.compress([grid])
    for bit in range(0, 8 * len(payload), 13):
        wrong = bytearray(payload)
        wrong[bit // 8] ^= 1 << bit % 8
        assert entropy.decompress([(bytes(wrong), 16)]) == [None]
    out = written(grid, codec, entropy)
    start = out.index(b"\xf5\xb2C")
    wrong = bytes([payload[0] ^ 4, *payload[1:]])
    damaged = out[:start] + block(b"C", wrong, 0, 16) + out[start + len(payload) + 18 :]
    parser, pieces = parsed(damaged, entropy)
    assert [p.indices for p in pieces] == [None]
    assert "does not hold its indices" in parser.damages[0].reason


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 6))
def test_any_bytes_are_refused_or_are_what_their_indices_give(entropy, data, columns):
    (indices,) = entropy.decompress([(data, columns)])
    assert indices is None or entropy.compress([indices]) == [data]


def test_another_entropy_model_is_refused_by_name(codec, entropy, tokens, plain_model):
    out = io.BytesIO()
    header = codec.model.header(16000, entropy_id=bytes(16))
    writer = Writer(out, header, entropy)
    writer.write(tokens)
    writer.finish(len(tokens) * 512)
    with pytest.raises(ModelMismatchError, match="entropy model 0000"):
        pcodec.decode(out.getvalue(), codec=codec)


def test_a_header_whose_second_part_is_damaged_is_refused(codec, entropy, tokens):
    data = bytearray(written(tokens, codec, entropy))
    data[70] ^= 1
    with pytest.raises(ChecksumError):
        Parser().feed(bytes(data))


def test_a_reader_of_version_1_0_would_refuse_the_blocks(codec, tokens):
    out = io.BytesIO()
    Writer(out, codec.model.header(16000))
    parser = Parser()
    parser.feed(out.getvalue())
    with pytest.raises(VersionError):
        parser.feed(block(b"C", b"12345", 0, 16) + b"\0" * 60)


def test_a_model_without_an_entropy_model_says_so(small_model, speech, tmp_path):
    shutil.copytree(small_model, tmp_path / "small")
    about = json.loads((tmp_path / "small/config.json").read_text())
    del about["entropy_id"]
    (tmp_path / "small/config.json").write_text(json.dumps(about))
    codec = pcodec.load(str(tmp_path / "small"))
    with pytest.raises(pcodec.PcodecError, match="no entropy model"):
        pcodec.encode(speech, 16000, codec=codec, compact=True)


def test_the_shipped_entropy_model_is_the_one_that_its_configuration_names(codec, entropy):
    assert entropy.id == codec.model.entropy_id == models.find().entropy_id


@pytest.fixture(scope="module")
def with_rates(codec, tmp_path_factory):
    """The shipped model, with a table of bit rates that says where its choices begin."""
    folder = tmp_path_factory.mktemp("rates") / "speech16k"
    shutil.copytree(codec.model.folder, folder)
    about = json.loads((folder / "config.json").read_text())
    about["rates"] = [[0.0, 6000], [0.5, 5200], [2.0, 4000]]
    (folder / "config.json").write_text(json.dumps(about))
    return pcodec.load(str(folder))


def test_a_lower_bit_rate_takes_fewer_bytes_and_stays_near(with_rates, speech):
    sizes, scores = [], []
    for bit_rate in (6000, 5000, 4000):
        data = pcodec.encode(speech, 16000, codec=with_rates, bit_rate=bit_rate)
        sizes.append(len(data))
        scores.append(stoi(speech, pcodec.decode(data, codec=with_rates)[0], 16000))
    assert sizes == sorted(sizes, reverse=True) and sizes[2] < 0.8 * sizes[0]
    assert scores == sorted(scores, reverse=True) and scores[2] > 0.8


def test_from_the_rate_of_the_same_indices_on_they_are_the_same(with_rates, speech):
    exact, asked = (
        pcodec.encode(speech, 16000, codec=with_rates, **how)
        for how in ({"compact": True}, {"bit_rate": 6000})
    )
    assert exact == asked


def test_choices_do_not_depend_on_the_blocks_beside(with_rates, speech):
    def coded(samples):
        return pcodec.read_tokens(pcodec.encode(samples, 16000, codec=with_rates, bit_rate=4000))

    long = coded(np.tile(speech, 8))
    assert np.array_equal(coded(np.tile(speech, 4))[:256], long[:256])


def test_a_bit_rate_that_the_model_has_not_is_refused_with_those_that_it_has(with_rates, speech):
    with pytest.raises(pcodec.PcodecError, match=r"1.5 kbit/s: .* reaches 4.0 to 6.0 kbit/s"):
        pcodec.encode(speech, 16000, codec=with_rates, bit_rate=1500)


def test_the_stream_of_version_1_1_reads_as_it_was_written(plain_model):
    """Frozen, as those of test_golden.py: when this fails, the reader is wrong, not the file."""
    data = (HERE.parent / "golden" / "v1_1_compact.pcx").read_bytes()
    known = "bebc5329b10e2ac103ded09fe52cc416531e0e6f59bf96fb11dd7081b68db328"
    assert hashlib.sha256(data).hexdigest() == known, "a golden file was changed"
    parser, pieces = parsed(data, compact.load(read_model(plain_model)))
    grid = np.concatenate([piece.indices for piece in pieces])
    known = "58676bc994bd82a951b33b5e4e3f480e14eb8d8fca44fa34f792cff1bb4eff94"
    assert hashlib.sha256(grid.astype("<u2").tobytes()).hexdigest() == known
    c, r = np.arange(8)[:, None], np.arange(24)
    assert np.array_equal(grid[16:24], (c * 37 + r * 101 + c * c * r) % 1024)
    assert parser.known_header.entropy_id.hex() == "f1d368d5a3091514a6fd53d463c70aae"
    assert (parser.samples, parser.damages) == (29 * 512 - 7, [])
