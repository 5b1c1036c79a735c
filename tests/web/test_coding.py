"""The npm package in Node decodes and encodes as Python does."""

import json
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

import pcodec

HERE = Path(__file__).parent


def alike(wanted, given):
    """Whether samples are the same: to 60 dB, except where a last bit moved a rounding.

    Sums of float32 have another order in WebAssembly. Where that moves a rounding to bytes, some
    columns differ by that step, at 40 dB or so.
    """
    assert wanted.shape == given.shape
    whole = len(wanted) // 512 * 512
    noise, power = (np.square(x[:whole]).reshape(-1, 512).sum(1) for x in (wanted - given, wanted))
    return np.mean(noise <= 1e-6 * power + 1e-9) > 0.5 and noise.sum() < 1e-3 * power.sum()


@pytest.fixture(scope="module")
def lost(tokens):
    """Columns that are lost: the first, single ones, a run, and the last."""
    mask = np.random.default_rng(0).random(len(tokens)) < 0.1
    mask[[0, 40, 41, 42, -1]] = True
    return mask


@pytest.fixture(scope="module")
def said(web_graphs, coded, speech, lost, tmp_path_factory):
    """What tests/web/code_speech.js says, and the folder of what it made."""
    work = tmp_path_factory.mktemp("work")
    speech.tofile(work / "speech.f32")
    (work / "speech.pcx").write_bytes(coded)
    damaged = bytearray(coded)
    for i in range(len(damaged) // 2, len(damaged) // 2 + 40):
        damaged[i] ^= 0x55
    (work / "damaged.pcx").write_bytes(damaged)
    (work / "compact.pcx").write_bytes(pcodec.encode(speech, 16000, compact=True))
    parts = speech[:8000], speech[8000:15000]
    chain = b"".join(pcodec.encode(part, 16000) for part in parts)
    (work / "chain.pcx").write_bytes(chain)
    golden = HERE.parent / "golden" / "v1_0_file.pcx"
    (work / "other.pcx").write_bytes(golden.read_bytes())
    (work / "lost.json").write_text(json.dumps(lost.tolist()))
    run = ["node", HERE / "code_speech.js", web_graphs, work]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout), work


def samples(said, name):
    return np.fromfile(said[1] / f"{name}.out.f32", np.float32)


def test_speech_is_encoded_to_the_bytes_that_python_writes(said, coded):
    assert (said[1] / "encoded.pcx").read_bytes() == coded


def test_nothing_and_less_than_two_columns_are_encoded_as_python_encodes_them(said, speech):
    assert (said[1] / "empty.pcx").read_bytes() == pcodec.encode(speech[:0], 16000)
    short = speech[:700].copy()
    short[500:] = 0  # of what are no numbers
    assert (said[1] / "short.pcx").read_bytes() == pcodec.encode(short, 16000)


def test_a_stream_in_pieces_of_any_length_gives_the_same_tokens(said, tokens):
    assert np.array_equal(np.fromfile(said[1] / "grid.u16", np.uint16).reshape(-1, 24), tokens)


@pytest.mark.parametrize("name", ["speech", "compact"])
def test_a_stream_is_decoded_to_the_samples_of_python(said, coded, name):
    wanted, rate = pcodec.decode(coded)
    assert alike(wanted, samples(said, name))
    what = said[0][name]
    assert (what["rate"], what["damages"]) == (rate, [])
    assert what["tags"] == {"source_frames": len(wanted)}


def test_streams_one_after_the_other_are_decoded_one_after_the_other(said):
    wanted, _ = pcodec.decode((said[1] / "chain.pcx").read_bytes())
    assert len(wanted) == 15000 and alike(wanted, samples(said, "chain"))


def test_what_a_damaged_stream_lacks_is_concealed_as_in_python(said):
    data = (said[1] / "damaged.pcx").read_bytes()
    wanted, _ = pcodec.decode(data)
    assert alike(wanted, samples(said, "damaged"))
    (damage,) = said[0]["damaged"]["damages"]
    assert damage["end"] - damage["start"] == pytest.approx(1.024)
    assert damage["reason"] == "a block's checksum does not match"


def test_lost_columns_of_a_live_stream_are_concealed_as_in_python(said, codec, tokens, lost):
    parts = []
    with codec.stream_decoder() as decoder:
        for column, gone in zip(tokens, lost, strict=True):
            parts.append(decoder.conceal(1) if gone else decoder.push(column[None]))
        parts.append(decoder.finish())
    assert alike(np.concatenate(parts), samples(said, "lost"))


def test_bad_input_is_refused_with_one_line(said):
    assert said[0]["errors"][:2] == [
        "AudioError: columns have 24 indices each",
        "AudioError: indices must be 0 to 1023",
    ]
    ended, no_stream, other = said[0]["errors"][2:]
    assert ended == "Error: the stream has ended"
    assert no_stream == "FormatError: not a .pcx speech stream"
    assert other.startswith("ModelMismatchError: the stream needs bitstream id 000102030405")


@pytest.fixture(scope="module")
def refused(web_graphs, coded, speech, tmp_path_factory):
    """What tests/web/refuse_input.js says."""
    work = tmp_path_factory.mktemp("refused")
    speech.tofile(work / "speech.f32")
    (work / "speech.pcx").write_bytes(coded)
    header = bytearray(coded[:64])
    header[20:22] = (256).to_bytes(2, "little")
    header[60:] = zlib.crc32(header[:60]).to_bytes(4, "little")
    (work / "other_hop.pcx").write_bytes(header + coded[64:])
    run = ["node", HERE / "refuse_input.js", web_graphs, work]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_rate_that_python_refuses_is_refused_in_its_words(refused):
    for rate, said in zip(
        ("1000000", "NaN", "44100.5", "0", "-8000"), refused["rates"], strict=True
    ):
        wanted = f"a sample rate of {rate} Hz: only whole numbers up to 768000 can be coded"
        assert said == f"AudioError: {wanted}"
    with pytest.raises(pcodec.PcodecError, match=r"44100\.5 Hz: only whole numbers up to 768000"):
        pcodec.encode(np.zeros(9, np.float32), 44100.5)


def test_samples_of_another_type_and_indices_that_are_not_whole_are_refused(refused):
    wanted = "AudioError: samples must be a Float32Array with full scale at 1"
    assert refused["samples"] == [wanted] * 3
    assert refused["index"] == "AudioError: indices must be 0 to 1023"


def test_tags_that_no_reader_takes_are_refused(refused):
    assert refused["tags"] == "AudioError: tags of 66012 bytes: at most 65535 can be kept"


def test_a_stream_of_another_geometry_is_refused(refused):
    assert refused["hop"] == "ModelMismatchError: the stream has hop 256; model speech16k has 128"


def test_an_array_can_be_filled_again_once_it_is_pushed(refused):
    for wanted, given in refused["arrays"]:
        assert len(wanted) >= 240 and wanted == given


def test_a_graph_that_could_not_be_loaded_is_named_and_loaded_the_next_time(refused):
    assert refused["missing"].startswith("PcodecError: file:///")
    assert "decoder.onnx: ENOENT" in refused["missing"]
    assert refused["broken"].startswith("PcodecError: decoder.onnx: ")
    assert refused["again"] is None


def test_one_thread_is_many_times_faster_than_speech(said, speech):
    # Ten and more on a machine that does nothing else: see docs/howto/web.md.
    length = len(speech) / 16000
    assert length / said[0]["encode_seconds"] > 5
    assert length / said[0]["decode_seconds"] > 5
