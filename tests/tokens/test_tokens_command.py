"""`pcodec tokens`: what it reads, what it writes, what it does when it is stopped."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import soundfile
from conftest import of_no_model

import pcodec
from pcodec.cli import cli
from pcodec.errors import PcodecError

pa = pytest.importorskip("pyarrow", reason="the extra 'tokens' is not installed")
pq = pytest.importorskip("pyarrow.parquet")

RATE = 16000
LENGTHS = {"a": 5000, "b/c": 3000, "b/d": 1, "e": 0}


def run(*arguments):
    """The exit code of a command, in this process."""
    return cli.main(["tokens", "--workers", "1", *map(str, arguments)], standalone_mode=False)


def rows_of(folder):
    """All rows of the Parquet shards of a folder, as dictionaries."""
    shards = sorted(folder.glob("*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


def flac(samples, rate=RATE):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="FLAC")
    return out.getvalue()


@pytest.fixture
def corpus(tmp_path, speech):
    """A folder of audio, with lengths as `LENGTHS` says."""
    for i, (name, length) in enumerate(LENGTHS.items()):
        path = tmp_path / "corpus" / f"{name}.{('flac', 'wav')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speech[:length], RATE, "PCM_16")
    (tmp_path / "corpus" / "notes.txt").write_text("no audio")
    return tmp_path / "corpus"


def tokens_of(codec, path):
    samples, rate = soundfile.read(path, dtype="float32")
    return codec.to_tokens(samples, rate)


def test_a_folder_becomes_a_table(codec, corpus, tmp_path):
    assert run(corpus, "-o", tmp_path / "out") == 0
    (shard,) = (tmp_path / "out").glob("[!.]*")
    assert shard.name == "tokens-00000-of-00001.parquet"
    table = pq.read_table(shard)
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "string",
        "path": "string",
        "speaker": "string",
        "seconds": "double",
        "samples": "int64",
        "bitstream_id": "string",
        "tokens": "list<element: fixed_size_list<element: uint16>[24]>",
        "error": "string",
    }
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == ["a.flac", "b/c.wav", "b/d.flac", "e.wav"]
    for row, length in zip(rows, LENGTHS.values(), strict=True):
        assert (row["samples"], row["seconds"]) == (length, length / RATE)
        assert row["error"] is row["speaker"] is None and row["id"] == row["path"]
        assert row["bitstream_id"] == codec.model.bitstream_id.hex()
        wanted = tokens_of(codec, corpus / row["path"])
        assert np.array_equal(np.reshape(row["tokens"], (-1, 24)), wanted)
    about = json.loads(table.schema.metadata[b"pcodec"])
    assert (about["sample_rate"], about["rows"], about["vocab_size"]) == (16000, 24, 1024)


def test_the_tokens_are_those_of_the_coded_file_at_any_rate(tmp_path, speech):
    wide = np.stack([np.repeat(speech, 3)[:50001]] * 2, 1)
    soundfile.write(tmp_path / "a.wav", wide, 44100, "PCM_24")
    assert run(tmp_path / "a.wav", "-o", tmp_path / "out") == 0
    encode = ["encode", "-q", str(tmp_path / "a.wav"), str(tmp_path / "a.pcx")]
    assert cli.main(encode, standalone_mode=False) == 0
    (row,) = rows_of(tmp_path / "out")
    assert np.array_equal(row["tokens"], pcodec.read_tokens(tmp_path / "a.pcx"))
    assert row["seconds"] == 50001 / 44100
    # And the other way: of the .pcx file the same row.
    assert run(tmp_path / "a.pcx", "-o", tmp_path / "stored") == 0
    (stored,) = rows_of(tmp_path / "stored")
    for name in ("seconds", "samples", "bitstream_id", "tokens", "error"):
        assert stored[name] == row[name]


def test_a_bad_file_is_a_row_that_says_why(codec, corpus, coded, capsys, tmp_path):
    (corpus / "bad1.wav").write_bytes(b"RIFF, but no more")
    (corpus / "bad2.pcx").write_bytes(coded[:2000] + b"!" + coded[2001:])
    (corpus / "bad3.pcx").write_bytes(of_no_model(coded))
    (corpus / "bad4.wav").write_bytes((corpus / "b" / "c.wav").read_bytes()[:4000])
    (corpus / "bad5.flac").write_bytes(b"")
    (corpus / "good.pcx").write_bytes(coded)
    (corpus / "joined.pcx").write_bytes(coded + coded)
    assert run(corpus, "-o", tmp_path / "out") == 3
    assert "6 clips ok, 5 with an error" in capsys.readouterr().err
    rows = {row["id"]: row for row in rows_of(tmp_path / "out")}
    for name, word in (
        ("bad1.wav", "not audio"),
        ("bad2.pcx", "32 columns are lost, at 1.02 s"),
        ("bad3.pcx", "another model"),
        ("bad4.wav", "frames are missing"),
        ("bad5.flac", "empty"),
    ):
        row = rows[name]
        assert word in row["error"]
        assert (row["tokens"], row["samples"], row["seconds"]) == ([], 0, 0.0)
    assert np.array_equal(rows["good.pcx"]["tokens"], pcodec.read_tokens(coded))
    assert rows["joined.pcx"]["tokens"] == rows["good.pcx"]["tokens"] * 2
    assert rows["joined.pcx"]["samples"] == rows["good.pcx"]["samples"] * 2


def test_a_list_tells_ids_and_speakers(corpus, tmp_path):
    lines = ["path\tspeaker\tid", "a.flac\tanna\tfirst", "b/c.wav\t\t", "none.wav\tanna\tlast"]
    (corpus / "list.tsv").write_text("\n".join(lines))
    assert run(corpus / "list.tsv", "-o", tmp_path / "out") == 3
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == ["first", "b/c.wav", "last"]
    assert [row["speaker"] for row in rows] == ["anna", None, "anna"]
    assert [row["error"] for row in rows] == [None, None, "no such file"]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_cuts_of_lhotse_are_segments_of_recordings(codec, speech, tmp_path, suffix):
    stereo = np.stack([speech, speech[::-1]], 1)
    soundfile.write(tmp_path / "a.wav", stereo, RATE, "PCM_16")
    source = {"type": "file", "channels": [0, 1], "source": str(tmp_path / "a.wav")}
    recording = {
        "id": "a", "sources": [source], "sampling_rate": RATE,
        "num_samples": len(speech), "duration": len(speech) / RATE,
    }  # fmt: skip
    cut = {
        "id": "cut-1", "start": 1.25, "duration": 0.5, "channel": 1, "type": "MonoCut",
        "supervisions": [{"id": "s", "speaker": "anna", "text": "so"}], "recording": recording,
    }  # fmt: skip
    late = {**cut, "id": "late", "start": 4.5, "duration": 0.2}
    gone = {**cut, "id": "gone", "start": 99.0}
    both = {**cut, "id": "both", "type": "MultiCut", "channel": [0, 1], "supervisions": []}
    mixed = {"id": "mixed", "type": "MixedCut", "tracks": []}
    sped = {**cut, "id": "sped", "recording": {**recording, "transforms": [{"name": "Speed"}]}}
    lines = "\n".join(map(json.dumps, [recording, cut, both, late, gone, mixed, sped])).encode()
    path = tmp_path / f"cuts{suffix}"
    path.write_bytes(gzip.compress(lines) if suffix.endswith("gz") else lines + b"\n")
    assert run(path, "-o", tmp_path / "out") == 3
    rows = {row["id"]: row for row in rows_of(tmp_path / "out")}
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    for name, wanted in (
        ("a", stored),
        ("cut-1", stored[20000:28000, 1]),
        ("both", stored[20000:28000]),
    ):
        assert np.array_equal(rows[name]["tokens"], codec.to_tokens(wanted))
        assert rows[name]["samples"] == len(wanted)
    assert rows["cut-1"]["speaker"] == "anna" and rows["both"]["speaker"] is None
    assert rows["late"]["error"] == "the file ends at 4.55 s, before the clip does"
    assert rows["gone"]["error"] == rows["late"]["error"]
    assert "MixedCut" in rows["mixed"]["error"] and "transformed" in rows["sped"]["error"]


def test_a_line_that_is_no_cut_is_an_error_before_anything_is_done(tmp_path):
    (tmp_path / "cuts.jsonl").write_text('\n{"id": 1')
    with pytest.raises(PcodecError, match=r"cuts\.jsonl: line 2: not a cut"):
        run(tmp_path / "cuts.jsonl", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def tar_of(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_shards_of_webdataset_are_read_one_by_one(codec, speech, coded, tmp_path, suffix):
    first = {
        "x/0001.flac": flac(speech[:3000]),
        "x/0001.json": b'{"speaker": "anna", "text": "so"}',
        "x/0001.txt": b"so",
        "x/0002.mix.flac": flac(speech[:100]),
        "x/0002.s1.flac": flac(speech[:200]),
        "0003.pcx": coded,
        "0003.json": b"no JSON",
        "0004.wav": b"nothing",
        "README": b"no sample",
    }
    (tmp_path / "in").mkdir()
    mode = "w:gz" if suffix.endswith("gz") else "w"
    tar_of(tmp_path / "in" / f"one{suffix}", first, mode)
    whole = (tmp_path / "in" / f"one{suffix}").read_bytes()
    (tmp_path / "in" / f"two{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
    assert run(tmp_path / "in", "-o", tmp_path / "out") == 3
    one, two = sorted((tmp_path / "out").glob("*.parquet"))
    rows = pq.read_table(one).to_pylist()
    names = ["x/0001", "x/0002.mix.flac", "x/0002.s1.flac", "0003", "0004"]
    assert [row["id"] for row in rows] == names
    assert [row["speaker"] for row in rows] == ["anna", None, None, None, None]
    assert [row["samples"] for row in rows] == [3000, 100, 200, len(speech), 0]
    assert np.array_equal(rows[0]["tokens"], codec.to_tokens(speech[:3000]))
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True]
    cut = pq.read_table(two).to_pylist()
    assert cut[-1]["id"] == f"two{suffix}" and cut[-1]["error"]
    assert cut[:-1] == rows[: len(cut) - 1]


def test_parquet_with_audio_is_read_as_datasets_writes_it(codec, speech, tmp_path):
    soundfile.write(tmp_path / "beside.wav", speech[:700], RATE)
    audio = [
        {"bytes": flac(speech[:3000]), "path": "a.flac"},
        {"bytes": flac(speech[:400]), "path": None},
        {"bytes": None, "path": "beside.wav"},
        {"bytes": b"nothing", "path": "bad.wav"},
        None,
    ]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table(
        {
            "text": ["so"] * 5,
            "speaker_id": [7, 7, 8, 8, None],
            "audio": pa.array(audio, kind),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    pq.write_table(table.drop(["audio"]), tmp_path / "mute.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but no more")
    paths = [tmp_path / f"{name}.parquet" for name in ("in", "mute", "bad")]
    assert run(*paths, "-o", tmp_path / "out") == 3
    rows = rows_of(tmp_path / "out")
    ids = ["a.flac", "in.parquet:1", "beside.wav", "bad.wav", "in.parquet:4"]
    assert [row["id"] for row in rows] == [*ids, "mute.parquet", "bad.parquet"]
    assert [row["speaker"] for row in rows[:5]] == ["7", "7", "8", "8", None]
    assert [row["samples"] for row in rows] == [3000, 400, 700, 0, 0, 0, 0]
    assert np.array_equal(rows[0]["tokens"], codec.to_tokens(speech[:3000]))
    assert rows[4]["error"] == "has no audio"
    assert rows[5]["error"] == "has no column of audio, a struct<bytes, path>"
    assert rows[6]["error"]


# What it writes, read back by those who will.


def test_datasets_reads_the_shards(codec, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    (corpus / "bad.wav").write_bytes(b"nothing")
    assert run(corpus, "-o", tmp_path / "out", "--shard-clips", "2") == 3
    found = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert found.num_rows == 5 and found.column_names[-2:] == ["tokens", "error"]
    good = found.filter(lambda row: row["error"] is None).with_format("numpy")
    assert np.array_equal(good[0]["tokens"], tokens_of(codec, corpus / good[0]["path"]))


@pytest.mark.filterwarnings("ignore")  # it leaves files open
def test_webdataset_reads_the_shards(codec, corpus, tmp_path):
    wds = pytest.importorskip("webdataset")
    (corpus / "v1.2.bad.wav").write_bytes(b"nothing")
    assert run(corpus, "-o", tmp_path / "out.tar", "--shard-clips", "2") == 3
    shards = sorted(map(str, tmp_path.glob("out-*.tar")))
    assert len(shards) == 3
    found = wds.WebDataset(shards, shardshuffle=False).decode().to_tuple("npy", "json")
    rows = list(found)
    assert [about["path"] for _, about in rows][-1] == "v1.2.bad.wav"
    for tokens, about in rows[:-1]:
        assert np.array_equal(tokens, tokens_of(codec, corpus / about["path"]))
        assert about["samples"] == LENGTHS[about["id"].rpartition(".")[0]]
        assert about["rows"] == 24 and about["error"] is None
    tokens, about = rows[-1]
    assert tokens.shape == (0, 24) and about["error"]


def test_numpy_reads_the_shards(codec, corpus, tmp_path):
    (corpus / "bad.wav").write_bytes(b"nothing")
    assert run(corpus, "-o", tmp_path / "out", "--format", "numpy") == 3
    with np.load(tmp_path / "out" / "tokens-00000-of-00001.npz") as shard:
        paths, tokens, offsets = shard["path"], shard["tokens"], shard["offsets"]
        assert tokens.dtype == np.uint16 and len(offsets) == len(paths) + 1 == 6
        assert [bool(error) for error in shard["error"]] == [False, False, False, True, False]
        assert shard["samples"].tolist() == [5000, 3000, 1, 0, 0]
        assert shard["vocab_size"] == 1024
    for i in (0, 1, 2, 4):
        wanted = tokens_of(codec, corpus / paths[i])
        assert np.array_equal(tokens[offsets[i] : offsets[i + 1]], wanted)


def test_the_name_of_the_output_chooses_the_format(corpus, tmp_path):
    with pytest.raises(Exception, match=r"out\.npz: its suffix means another format"):
        run(corpus, "-o", tmp_path / "out.npz", "--format", "parquet")
    assert run(corpus, "-o", tmp_path / "x" / "train.npz") == 0
    assert (tmp_path / "x" / "train-00000-of-00001.npz").exists()


# Again, and side by side.


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["parquet", "webdataset", "numpy"])
def test_what_was_done_is_not_done_again(corpus, tmp_path, kind):
    arguments = (corpus, "-o", tmp_path / "out", "--shard-clips", "1", "--format", kind)
    assert run(*arguments) == 0
    before = contents(tmp_path / "out")
    assert len(before) == 5
    gone, kept, *_ = sorted((tmp_path / "out").glob("tokens-*"))
    gone.unlink()
    kept.write_bytes(b"mine")
    assert run(*arguments) == 0
    after = contents(tmp_path / "out")
    assert after.pop(kept.name) == b"mine"
    del before[kept.name]
    assert after == before


def test_another_job_is_not_mixed_with_what_is_there(corpus, tmp_path):
    out = tmp_path / "out"
    assert run(corpus, "-o", out) == 0
    before = contents(out)
    for change in (["--shard-clips", "1"], ["--format", "numpy"]):
        with pytest.raises(PcodecError, match="give -o another name"):
            run(corpus, "-o", out, *change)
    (corpus / "new.wav").write_bytes(b"nothing")
    with pytest.raises(PcodecError, match="give -o another name"):
        run(corpus, "-o", out)
    (out / ".tokens.json").unlink()
    with pytest.raises(PcodecError, match=r"tokens-00000-of-00001\.parquet: exists"):
        run(corpus, "-o", out)
    assert contents(out) == {k: v for k, v in before.items() if k[0] != "."}


def test_the_output_may_lie_in_the_input(corpus):
    for _ in range(2):
        assert run(corpus, "-o", corpus / "tokens") == 0
    assert len(rows_of(corpus / "tokens")) == 4


def test_workers_change_nothing_but_the_time(pcodec_process, corpus, tmp_path):
    (corpus / "bad.wav").write_bytes(b"nothing")
    tar_of(corpus / "z.tar", {"0.flac": (corpus / "a.flac").read_bytes(), "1.wav": b"nothing"})
    assert run(corpus, "-o", tmp_path / "one", "--shard-clips", "2") == 3
    result = pcodec_process(
        *("tokens", corpus, "-o", tmp_path / "two", "--shard-clips", "2", "--workers", "2")
    )
    assert result.returncode == 3
    assert result.stderr.decode().startswith("5 clips ok, 2 with an error; 0.00 h of audio at ")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_a_run_that_is_killed_goes_on_where_it_was(speech, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(12):
        soundfile.write(tmp_path / "in" / f"{i:02d}.flac", np.tile(speech, 2 + i % 3), RATE)
    command = [sys.executable, "-m", "pcodec", "tokens", str(tmp_path / "in"), "--workers", "2"]
    command += ["--shard-clips", "1", "-o"]
    out = tmp_path / "out"
    process = subprocess.Popen([*command, str(out)], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("tokens-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("tokens-*")}
    assert 2 <= len(done) < 12
    assert subprocess.run([*command, str(out)], capture_output=True).returncode == 0
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    assert run(tmp_path / "in", "-o", tmp_path / "whole", "--shard-clips", "1") == 0
    shards = {name: data for name, data in contents(out).items() if not name.endswith(".part")}
    assert shards == contents(tmp_path / "whole")


# Files that are elsewhere.


def test_uris_are_read_and_written(codec, corpus, tmp_path):
    tar_of(corpus / "z.tar", {"0.flac": (corpus / "a.flac").read_bytes()})
    (corpus / "list.tsv").write_text("path\na.flac\nnone.wav\n")
    uri = f"file://{tmp_path}"
    for name in ("corpus", "corpus/list.tsv", "corpus/z.tar"):
        out = name.replace("/", "-").replace(".", "-")
        code = run(tmp_path / name, "-o", tmp_path / "here" / out, "--shard-clips", "2")
        assert run(f"{uri}/{name}", "-o", f"{uri}/there/{out}", "--shard-clips", "2") == code
        assert contents(tmp_path / "here" / out) == contents(tmp_path / "there" / out)
        assert len(rows_of(tmp_path / "there" / out)) >= 1
        assert run(f"{uri}/{name}", "-o", f"{uri}/there/{out}", "--shard-clips", "2") == 0
    with pytest.raises(FileNotFoundError):
        run(f"{uri}/nowhere", "-o", f"{uri}/new")
    with pytest.raises(OSError, match="nonsense://"):
        run("nonsense://bucket/a", "-o", tmp_path / "new")


def test_a_file_system_of_fsspec_will_do(corpus, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(corpus), "/corpus", recursive=True)
    assert run("fsspec+memory://corpus", "-o", "fsspec+memory://out/train.parquet") == 0
    assert run(corpus, "-o", tmp_path / "train.parquet") == 0
    name = "train-00000-of-00001.parquet"
    assert memory.cat(f"/out/{name}") == (tmp_path / name).read_bytes()
    assert sorted(memory.ls("/out", detail=False)) == ["/out/.train.json", f"/out/{name}"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nowhere", "-o", "out"), "nowhere: No such file"),
        (("empty", "-o", "out"), "empty: no audio, .pcx, tar or Parquet files found"),
        (("list.txt", "-o", "out"), "list.txt: not a tab-separated list"),
        (("corpus", "-o", "out", "--model", "nonsense"), "nonsense"),
        (("corpus", "-o", "list.txt/out"), "list.txt"),
    ],
)
def test_mistakes_are_one_line(pcodec_command, corpus, tmp_path, arguments, word):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("what\nso\n")
    result = pcodec_command("tokens", *arguments, cwd=tmp_path)
    text = result.stderr.decode()
    assert result.returncode == 1 and word in text and len(text.splitlines()) == 1, text
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_loaded_is_no_fault_of_a_clip(codec, corpus, tmp_path):
    (tmp_path / "m").mkdir()
    for path in codec.model.folder.iterdir():
        if path.stem in ("config", "encoder"):
            (tmp_path / "m" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(PcodecError, match=r"codebook\.safetensors"):
        run(corpus, "-o", tmp_path / "out", "--model", tmp_path / "m")
    assert not list((tmp_path / "out").glob("tokens-*"))


def test_without_pyarrow_the_extra_is_named(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PcodecError, match=r"pip install 'pcodec-speech\[tokens\]'"):
        run(corpus, "-o", tmp_path / "out")
