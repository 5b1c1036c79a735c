import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pesq
import pystoi
import pytest
import soundfile
import torch
from conftest import SPEECH, of_no_model
from matplotlib import image
from test_cli import one_line

from pcodec import models
from pcodec.audio.pcm import int16
from pcodec.errors import PcodecError
from pcodec.eval import metrics, peers
from pcodec.eval.evaluate import align, code, delay, interval, score
from pcodec.networks.checkpoint import Networks
from pcodec.report import drawings
from pcodec.runtime.decoder import entry_patches

RATE = 16000
QUICK = "pesq,stoi,mcd,log_mel,f0_cents,f0_gross,voicing"


@pytest.fixture(scope="session")
def clips(tmp_path_factory, speech):
    """Four files by hand: three pieces of speech, louder and softer, and silence."""
    folder = tmp_path_factory.mktemp("clips")
    for name, gain, piece in zip("abc", (1, 0.1, 0.5), np.array_split(speech, 3), strict=True):
        soundfile.write(folder / f"{name}.flac", gain * piece, RATE)
    soundfile.write(folder / "silence.flac", np.zeros(RATE // 2, np.float32), RATE)
    return folder


@pytest.fixture(scope="session")
def evaluated(clips, tmp_path_factory):
    """(document, folder, what was said) of one run over our codec and three of others."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "halves.py").write_text(
        "def half(samples):\n    return samples / 2, 8 * len(samples)\n"
    )
    copy = f"copy={shutil.which('cp')} {{in}} {{bits}} ;; {shutil.which('cp')} {{bits}} {{out}}"
    command = ["eval", clips, "-o", "r.json", "--metrics", QUICK, "--samples", "4", "-q"]
    command += ["--codec", "pcodec", "--codec", copy, "--codec", "half=python:halves:half"]
    command += ["--codec", "gone=no-such-encoder {in} {bits} ;; no-such-decoder {bits} {out}"]
    done = subprocess.run(
        [sys.executable, "-m", "pcodec", *map(str, command), "--workers", "1"],
        cwd=folder,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads((folder / "r.json").read_text()), folder, done


def codec_of(document, name):
    return next(c for c in document["codecs"] if c["name"] == name)


def test_the_scores_are_those_of_the_packages_called_by_hand(evaluated, clips):
    document, folder, _ = evaluated
    for file in document["files"][:3]:
        reference, _ = soundfile.read(clips / file["name"], dtype="float32")
        decoded, _ = soundfile.read(folder / file["samples"]["codecs"]["pcodec"], dtype="float32")
        scores = file["codecs"]["pcodec"]["scores"]
        assert scores["pesq"] == pytest.approx(pesq.pesq(RATE, reference, decoded, "wb"), abs=0.05)
        assert scores["stoi"] == pytest.approx(pystoi.stoi(reference, decoded, RATE), abs=0.005)


def test_a_lossless_codec_is_perfect_in_every_metric(evaluated):
    document, _, _ = evaluated
    scores = codec_of(document, "copy")["scores"]
    assert scores["pesq"]["mean"] == pytest.approx(4.64, abs=0.01)
    assert scores["stoi"]["mean"] == pytest.approx(1)
    assert all(scores[m]["mean"] == 0 for m in ("mcd", "log_mel", "f0_cents", "voicing"))


def test_the_rate_counts_payload_and_container(evaluated, clips):
    document, _, _ = evaluated
    seconds = sum(file["seconds"] for file in document["files"])
    ours = codec_of(document, "pcodec")
    # Whole columns of 240 bits.
    columns = sum(-(-round(file["seconds"] * RATE) // 512) for file in document["files"])
    assert ours["kbit_s"] == pytest.approx(columns * 240 / seconds / 1000)
    assert ours["kbit_s"] < ours["kbit_s_container"] < ours["kbit_s"] + 1.5
    copied = codec_of(document, "copy")
    assert copied["kbit_s_container"] == pytest.approx(256, rel=0.01)


def test_a_level_does_not_change_what_a_cepstrum_without_c0_says(evaluated):
    document, _, _ = evaluated
    assert codec_of(document, "half")["scores"]["mcd"]["mean"] < 0.5
    assert codec_of(document, "half")["scores"]["log_mel"]["mean"] > 0.4


def test_what_a_metric_refuses_is_listed_with_its_reason(evaluated):
    document, _, done = evaluated
    silent = next(f for f in document["files"] if f["name"] == "silence.flac")
    assert {"codec": "pcodec", "metric": "pesq", "why": "the original is silent"} in silent[
        "refused"
    ]
    assert silent["codecs"]["pcodec"]["scores"]["pesq"] is None
    assert codec_of(document, "pcodec")["scores"]["pesq"]["files"] == 3
    assert b"scores are missing" in done.stderr


def test_a_file_that_cannot_be_read_is_listed_and_the_others_go_on(pcodec_command, tmp_path):
    data, out = tmp_path / "data", tmp_path / "r.json"
    data.mkdir()
    (data / "bad.wav").write_bytes(b"nothing")
    soundfile.write(data / "empty.wav", np.zeros(0), 16000)
    command = ["eval", data, "-o", out, "--metrics", "log_mel", "--no-cache", "--workers", 1, "-q"]
    assert one_line(pcodec_command(*command), "bad.wav")
    assert not out.exists()
    shutil.copy(SPEECH, data / "good.flac")
    done = pcodec_command(*command)
    assert done.returncode == 1 and b"2 scores are missing, such as pcodec: " in done.stderr
    bad, empty, good = json.loads(out.read_text())["files"]
    assert "bad.wav" in bad["refused"][0]["why"] and not bad["codecs"]
    assert "no samples" in empty["refused"][0]["why"]
    assert good["codecs"]["pcodec"]["scores"]["log_mel"] < 0.5 and not good["refused"]


def test_a_codec_that_is_not_here_is_reported_absent(evaluated):
    document, _, done = evaluated
    assert codec_of(document, "gone")["absent"] == "gone: no command 'no-such-encoder'"
    assert b"gone: absent" in done.stderr


def test_all_codecs_are_vocoders_and_rates_of_the_model_and_all_peers():
    own = ["pcodec", "pcodec-hifigan", "pcodec-compact", "pcodec-5.5", "pcodec-5", "pcodec-4.5"]
    assert sorted(peers.expand(("all",))) == sorted(own + peers.peer_names())


def test_no_codec_at_all_is_a_failure(pcodec_command):
    done = pcodec_command(
        "eval", SPEECH, "--codec", "x=no-such {in} {bits} ;; no-such {bits} {out}"
    )
    assert done.returncode == 1 and b"x: absent" in done.stderr


def test_a_command_whose_program_changed_is_measured_anew(tmp_path):
    program = tmp_path / "encode.sh"
    program.write_text("#!/bin/sh\ncp $1 $2\n")
    program.chmod(0o755)
    spec = f"mine={program} {{in}} {{bits}} ;; cp {{bits}} {{out}}"
    before = peers.make(spec).identity
    assert peers.make(spec).identity == before
    program.write_text("#!/bin/sh\ncp -p $1 $2\n")
    assert peers.make(spec).identity != before


def test_the_codebook_is_measured_from_the_streams(evaluated, codec, clips):
    document, _, _ = evaluated
    use = codec_of(document, "pcodec")["codebook"]
    tokens = [codec.to_tokens(soundfile.read(p)[0]) for p in sorted(clips.glob("*.flac"))]
    counts = np.bincount(np.concatenate(tokens).ravel(), minlength=1024)
    assert use["entropy_bits"] == pytest.approx(metrics.entropy_bits(counts))
    assert use["unused"] == (counts == 0).sum()


def test_a_second_run_takes_everything_from_the_cache_and_says_the_same(evaluated, clips):
    document, folder, _ = evaluated
    before = {p: p.stat().st_mtime_ns for p in (folder / ".cache").rglob("*") if p.is_file()}
    assert before
    done = subprocess.run(
        [sys.executable, "-m", "pcodec", "eval", clips, "--json", "--metrics", QUICK, "-q"],
        cwd=folder,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        timeout=300,
    )
    assert json.loads(done.stdout)["scores"] == codec_of(document, "pcodec")["scores"]
    after = {p: p.stat().st_mtime_ns for p in (folder / ".cache").rglob("*") if p.is_file()}
    assert after == before


def test_the_patch_grid_is_drawn_as_a_picture(pcodec_command, coded_file, tmp_path):
    out = tmp_path / "grid.png"
    done = pcodec_command("info", "--grid", out, coded_file)
    assert done.returncode == 0 and b"7500 bit/s" in done.stdout
    picture = image.imread(out)
    assert picture.shape[0] == 1040 and picture.std() > 0.1
    assert one_line(pcodec_command("info", "--grid", out, coded_file), "exists")
    other = tmp_path / "other.pcx"
    other.write_bytes(of_no_model(coded_file.read_bytes()))
    assert one_line(pcodec_command("info", "--grid", tmp_path / "o.png", other), f"{other}: the")
    assert pcodec_command("info", "--grid", out, coded_file, coded_file).returncode == 2


def test_lost_columns_stay_white_in_the_picture(pcodec_command, coded, tmp_path):
    whole, damaged = tmp_path / "whole.pcx", tmp_path / "damaged.pcx"
    whole.write_bytes(coded)
    damaged.write_bytes(coded[:1200] + bytes(20) + coded[1220:])
    shown = []
    for path, expected in ((whole, 0), (damaged, 3)):
        done = pcodec_command("info", "--grid", path.with_suffix(".png"), path)
        assert done.returncode == expected, done.stderr
        shown.append(image.imread(path.with_suffix(".png")))
    assert shown[0].shape == shown[1].shape
    white = [(picture[..., :3] == 1).all(-1).mean() for picture in shown]
    assert white[1] > white[0] + 0.05


def test_the_codebook_is_drawn_entry_by_entry():
    model = models.find()
    shown = entry_patches(model.config, model.folder)
    assert shown.shape == (1024, 4, 4)
    # As the linear path of the decoder places it: a patch's first frame is its first column.
    parts = ("codebook", "decoder")
    networks = Networks(model.config, parts)
    networks.load(model.folder, parts)
    first = networks.decoder.skip(networks.quantizer.lookup(torch.tensor(7))).detach()
    assert shown[7] == pytest.approx(first.reshape(4, 4).T.numpy() * 3 - 4, abs=1e-4)
    out = io.BytesIO()
    drawings.draw_codebook(model, out)
    assert out.getvalue().startswith(b"\x89PNG")


def test_a_metric_that_failed_is_tried_again(tmp_path, monkeypatch, speech):
    (tmp_path / "s16").write_bytes(int16(speech).tobytes())

    def fail(*_, **__):
        raise MemoryError("for now")

    for broken, expected in ((True, (None, "MemoryError: for now")), (False, (1.0, None))):
        with monkeypatch.context() as patch:
            if broken:
                patch.setattr(pystoi, "stoi", fail)
            value, why = score(SPEECH, str(tmp_path / "s16"), 0, ["stoi"], tmp_path)["stoi"]
        assert (value if value is None else round(value, 3), why) == expected


def test_an_existing_result_is_kept_unless_forced(pcodec_command, tmp_path):
    kept = tmp_path / "r.json"
    kept.write_text("mine")
    done = pcodec_command("eval", SPEECH, "-o", kept)
    assert done.returncode == 1
    assert done.stderr.decode() == f"pcodec: {kept}: exists; -f replaces it\n"
    assert kept.read_text() == "mine"


def test_what_a_package_prints_is_not_among_the_json(pcodec_process, tmp_path):
    (tmp_path / "chatty.py").write_text(
        "print('hello')\ndef same(x):\n    print('hello', flush=True)\n    return x, 8 * len(x)\n"
    )
    command = ("--codec", "same=python:chatty:same", "--metrics", "stoi", "--no-cache", "--json")
    done = pcodec_process("eval", SPEECH, *command, cwd=tmp_path)
    assert json.loads(done.stdout)["scores"]["stoi"]["mean"] > 0.99, done.stderr


def test_a_result_that_could_not_be_written_is_refused_before_the_work(pcodec_command, tmp_path):
    done = pcodec_command("eval", SPEECH, "-o", tmp_path / "no" / "r.json")
    assert done.returncode == 1 and one_line(done, "no: cannot be written to")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("nonsense", "no codec 'nonsense'"),
        ("opus-x", "no codec 'opus-x'"),
        ("speex-7", "the rates in kbit/s are"),
        ("x=cp {in} {out}", "must have the form"),
        ("x=python:no_such_module:f", "No module named"),
        ("x=python:json:nothing", "nothing"),
        ("x=cp 'a {in} {bits} ;; cp {bits} {out}", "No closing quotation"),
        ("x=cp '{in} {bits} ;; cp' {bits} {out}", "No closing quotation"),
        ("opus", "no codec 'opus'"),
        ("opus-inf", "no codec 'opus-inf'"),
        ("opus--8", "no codec 'opus--8'"),
    ],
)
def test_a_wrong_codec_is_one_line(spec, word):
    with pytest.raises(PcodecError, match=word):
        peers.make(spec)


@pytest.mark.parametrize(
    ("body", "word"),
    [("1 / 0", "ZeroDivisionError"), ("x", "ValueError"), ("(x[:0], 8)", "returned no samples")],
)
def test_a_function_that_fails_is_one_line(tmp_path, monkeypatch, speech, body, word):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"fails_{word.split()[0].lower()}"
    (tmp_path / f"{name}.py").write_text(f"def f(x): return {body}\n")
    with pytest.raises(PcodecError, match=f"bad: .*{word}"):
        peers.make(f"bad=python:{name}:f").run(speech)


def test_a_codec_that_fails_names_its_command(speech):
    coder = peers.make("bad=false {in} {bits} ;; true {bits} {out}")
    with pytest.raises(PcodecError, match="bad: false failed"):
        coder.run(speech)


@pytest.mark.parametrize("spec", peers.peer_names())
def test_each_peer_gives_speech_back_at_its_rate(spec, speech):
    try:
        coder = peers.make(spec)
    except peers.AbsentError as error:
        pytest.skip(str(error))
    coded, again = coder.run(speech), coder.run(speech)
    assert coded.payload_bits == again.payload_bits
    if not spec.startswith("codec2"):  # whose phases are random
        assert np.array_equal(coded.decoded, again.decoded)
    late = delay(speech, coded.decoded)
    assert abs(late) < 0.03 * RATE
    decoded = align(coded.decoded, late, len(speech))
    assert metrics.stoi(speech, decoded) > 0.65
    rate = float(spec.partition("-")[2] or 256)
    seconds = len(speech) / RATE
    assert coded.payload_bits / seconds / 1000 == pytest.approx(rate, rel=0.08)
    assert coded.container_bytes * 8 > coded.payload_bits


def test_short_clips_have_no_delay_to_themselves(speech):
    for size in (900, 1600):
        clip = speech[8000 : 8000 + size]
        assert delay(clip, clip) == 0
        assert delay(clip, np.pad(clip, (100, 0))) == 100


def test_a_function_is_measured_anew_when_a_module_beside_it_changed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside_it.py").write_text("GAIN = 1\n")
    (tmp_path / "adapts.py").write_text("import beside_it\ndef f(x): return x, 8\n")
    before = peers.make("x=python:adapts:f").identity
    (tmp_path / "beside_it.py").write_text("GAIN = 2\n")
    assert peers.make("x=python:adapts:f").identity != before


def test_what_was_taken_out_of_the_cache_is_made_again(tmp_path):
    copy = "copy=cp {in} {bits} ;; cp {bits} {out}"
    first = code(SPEECH, copy, None, tmp_path / "one")
    Path(first["samples"]).unlink()
    (tmp_path / "one").rename(tmp_path / "two")
    again = code(SPEECH, copy, None, tmp_path / "two")
    assert Path(again["samples"]).parent.parent == tmp_path / "two"
    assert Path(again["samples"]).stat().st_size == 2 * again["length"]


def test_a_delay_is_found_and_taken_away(speech):
    for late in (-300, 0, 1234):
        moved = align(speech, -late, len(speech))
        assert delay(speech, moved) == late
        back = align(moved, late, len(speech))
        assert np.array_equal(back[2000:-2000], speech[2000:-2000])


def test_a_delay_is_found_though_most_phases_are_made_up(speech, codec):
    decoded = codec.from_tokens(codec.to_tokens(speech))[: len(speech)]
    assert abs(delay(speech, decoded)) <= 2  # the high pass moves the low band by some samples
    assert delay(speech, align(decoded, -800, len(speech))) == pytest.approx(800, abs=40)


def test_the_interval_covers_the_mean_about_95_times_in_100():
    rng = np.random.default_rng(5)
    hits = [
        low < 0 < high for low, high in (interval(rng.normal(size=50), 500) for _ in range(300))
    ]
    assert 0.9 < np.mean(hits) < 0.98


def test_the_warped_cepstrum_is_the_spectrum_at_warped_frequencies():
    """A spectrum that is a warped cosine has that one coefficient."""
    bins = 513
    omega = np.linspace(0, np.pi, bins)
    a = metrics.ALPHA
    warped = omega + 2 * np.arctan2(a * np.sin(omega), 1 - a * np.cos(omega))
    for order in (1, 3, 10):
        found = metrics._warping(bins) @ (2 * np.cos(order * warped))
        wanted = np.zeros(metrics.ORDER + 1)
        wanted[order] = 2
        assert found == pytest.approx(wanted, abs=1e-3)


def test_pitch_errors_are_measured_in_cents_and_gross_ones_apart():
    time = np.arange(RATE) / RATE
    tone = [
        sum(np.sin(2 * np.pi * f * k * time) / k for k in range(1, 9)).astype(np.float32) * 0.1
        for f in (150, 150 * 2 ** (50 / 1200), 300)
    ]
    assert metrics.f0_cents(tone[0], tone[1]) == pytest.approx(50, abs=3)
    assert metrics.f0_gross(tone[0], tone[1]) < 5
    assert metrics.f0_gross(tone[0], tone[2]) > 90
    with pytest.raises(metrics.MetricUndefined, match="no voiced frame"):
        metrics.f0_cents(tone[0], tone[0] * 0)
