import contextlib
import json
import math
import os
import pickle
import re
import signal
import threading
import time

import click
import numpy as np
import pytest
import soundfile
import torch
from conftest import SMALL, SPEECH, TINY_CODEC
from safetensors.torch import load_file

import pcodec
from pcodec import AudioError
from pcodec.audio.clips import find_clips
from pcodec.cli import cli
from pcodec.config import CodecConfig
from pcodec.errors import PcodecError
from pcodec.eval import metrics
from pcodec.models import read_model
from pcodec.networks.checkpoint import Networks
from pcodec.train import loop, report, run
from pcodec.train.data import Batches, Corpus
from pcodec.train.loop import read_clips
from pcodec.train.losses import (
    DisturbanceLoss,
    EnvelopeLoss,
    MelDisturbanceLoss,
    level_loss,
    limit_gradient,
)
from pcodec.train.report import Length
from pcodec.train.stages import STAGES, stage_class
from pcodec.train.stages.base import Settings
from pcodec.train.stages.concealment import ConcealmentModel
from pcodec.train.stages.vocoder import Vocoder
from pcodec.train.stages.vqvae import VqVae
from pcodec.train.stop import Stop

RECIPE = TINY_CODEC + "".join(
    f"""
[{stage}]
steps = 3
batch = 2
columns = 12
options = {{ {options} }}
"""
    for stage, options in {
        "vqvae": "",
        "adversarial": "adversarial = 0.5",
        "vocoder": "free = 0.5",
        "end_to_end": "mel = 2.0, commitment = 1.0, disturbance = 2.0",
        "joint": "mel = 2.0, free = 0.0",
        "refine": "mel = 2.0, adversarial = 1.0, adversarial_items = 1",
        "hifigan": "adversarial = 1.0, envelope = 1.0",
        "concealment": "disturbance = 1.0",
        "entropy": "",
    }.items()
)


@pytest.fixture
def folder(tmp_path, speech):
    """A folder with a recipe, and speech of somebody in data/."""
    data = tmp_path / "data" / "someone"
    data.mkdir(parents=True)
    soundfile.write(data / "long.flac", speech, 16000)
    soundfile.write(data / "short.wav", speech[20000:24000], 8000)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def train(folder, monkeypatch):
    """Runs ``pcodec train``, as a rule from folder/data into folder/out; gives its exit code."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))

    def run(*arguments, config="recipe.toml", data="data", out="out"):
        paths = ("--config", folder / config, "--data", folder / data, "--out", folder / out)
        return cli.main(["train", *map(str, (*arguments, *paths))], standalone_mode=False)

    return run


def records(path):
    """The lines of a STAGE.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_stages_train_from_a_folder_and_make_a_model_that_works(folder, train, capfd, speech):
    code = train("all", "--noise", folder / "data", "--dev", folder / "data/someone/long.flac")
    out = folder / "out"
    assert code == 0
    for stage in STAGES:
        (line,) = records(out / f"{stage}.jsonl")
        assert line["step"] == 3 and np.isfinite(list(line.values())).all()
        assert 0 < line["learning_rate"] < 1e-3
        assert list((out / "logs" / stage).glob("events*"))
    told = capfd.readouterr().err
    assert "speech: 2 files, 0.00 hours, 1 speakers" in told
    assert "noise: 2 files" in told and "dev: 1 clips" in told and "GB are free" in told
    for stage in STAGES:
        assert f"stage {stage}: 3 steps of 2 crops of 0.38 s\n" in told
        assert re.search(rf"^{stage}: done, 3 steps in \d+ s; saved in {out}$", told, re.MULTILINE)
    data = pcodec.encode(speech, 16000, model=str(out))
    for vocoder in ("spectral", "hifigan"):
        codec = pcodec.load(str(out), vocoder=vocoder)
        assert len(codec.from_tokens(codec.to_tokens(speech))) >= len(speech)
    assert len(pcodec.decode(data, model=str(out))[0]) == len(speech)


def test_hifigan_has_the_pitch_of_the_spectral_vocoder_and_is_not_resumed_with_another(
    folder, train
):
    assert train("all", "--skip", "concealment", "--skip", "entropy") == 0
    spectral, hifigan = (
        load_file(folder / f"out/{x}.safetensors") for x in ("spectral", "hifigan")
    )
    pitch = {name: x for name, x in spectral.items() if ".excitation." in name}
    assert pitch
    for name, tensor in pitch.items():
        assert torch.equal(tensor, hifigan[name.replace("spectral.", "hifigan.source.")])
    (folder / "out/state/refine.pt").unlink()
    assert train("refine", "--steps", 4) == 0
    with pytest.raises(PcodecError, match=r"hifigan\.pt: the state of other networks"):
        train("hifigan", "--steps", 4)


def test_refining_trains_the_encoder_and_keeps_the_codebook(folder, train):
    assert train("all", "--skip", "refine", "--skip", "hifigan", "--skip", "entropy") == 0
    out = folder / "out"
    codebook, encoder = (
        (out / f"{part}.safetensors").read_bytes() for part in ("codebook", "encoder")
    )
    about = json.loads((out / "config.json").read_text())
    assert train("refine", "--steps", 4) == 0
    assert (out / "codebook.safetensors").read_bytes() == codebook
    assert (out / "encoder.safetensors").read_bytes() != encoder
    assert json.loads((out / "config.json").read_text())["bitstream_id"] == about["bitstream_id"]


def test_the_adversary_of_refine_hears_nothing_below_4_khz():
    torch.manual_seed(0)
    stage = stage_class("refine")(Networks(SMALL), Settings(steps=1, options={"adversarial": 1.0}))
    time = torch.arange(16000) / 16000
    noise = 0.1 * torch.randn(1, 16000)
    scores = []
    for hertz in (3000, 6000):
        tone = (2 * math.pi * hertz * time).sin()
        with torch.no_grad():
            outputs = stage.adversary._discriminate(torch.cat([noise, noise + tone]))
        scores.append(max(float((x.scores[0] - x.scores[1]).abs().max()) for x in outputs))
    below, above = scores
    assert below < 0.05 * above


def test_a_stage_goes_on_where_it_was_saved(folder, train):
    assert train("vqvae", "--steps", 2) == 0
    assert train("vqvae", "--steps", 4) == 0
    assert torch.load(folder / "out/state/vqvae.pt", weights_only=True)["step"] == 4
    assert [line["step"] for line in records(folder / "out/vqvae.jsonl")] == [2, 4]


@pytest.fixture
def heeded():
    """Signals that end a training are not ignored, as those of background jobs are."""
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_training_after_its_step_with_all_saved(
    folder, train, heeded, monkeypatch, capfd, name
):
    monkeypatch.setattr(loop, "LINE_EVERY", 2)
    number, record = getattr(signal, name), folder / "out" / "vqvae.jsonl"

    def send():
        deadline = time.monotonic() + 60
        while not (record.exists() and record.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    monkeypatch.setattr("sys.argv", ["pcodec", "train", "vqvae", "--out", "my out"])
    assert train("vqvae", "--steps", 100000) == 128 + number
    sender.join()
    assert signal.getsignal(number) is signal.default_int_handler
    told = capfd.readouterr().err
    assert "pcodec: stopping after this step" in told
    assert "to continue: pcodec train vqvae --out 'my out'\n" in told
    step = torch.load(folder / "out/state/vqvae.pt", weights_only=True)["step"]
    assert step >= 2 and f"vqvae: stopped after step {step}; saved in {folder / 'out'}\n" in told
    assert read_model(folder / "out").bitstream_id
    assert train("vqvae", "--steps", step + 1) == 0
    assert f"continues after step {step}\n" in capfd.readouterr().err


def test_a_signal_that_finds_nothing_to_save_or_comes_again_ends_at_once(heeded):
    with Stop() as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
    with Stop() as stop:
        stop.patient = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_by_the_clock_a_stage_ends_with_its_minutes_and_is_done_then(folder, train, capfd):
    assert train("vqvae", "--minutes", 0.05) == 0
    told = capfd.readouterr().err
    assert "stage vqvae: 3 s of 2 crops" in told and "vqvae: done" in told
    line = records(folder / "out/vqvae.jsonl")[-1]
    assert line["seconds"] in (3, 4) and line["learning_rate"] < 0.05 * 1e-3
    assert train("vqvae", "--minutes", 0.05) == 0
    assert "vqvae is done" in capfd.readouterr().err


def test_the_learning_rate_follows_the_share_that_is_done():
    factors = [loop.learning_rate_factor(share, 1000, 10) for share in (0, 0.5, 1)]
    assert factors == pytest.approx([1, 0.51, 0.02])
    assert loop.learning_rate_factor(0, 4, 10) == 0.5
    assert Length(100, 2.0).share(99, 60.0) == 0.5 and Length(100).share(50, 1e9) == 0.5


def test_minutes_are_divided_as_the_recipe_says_the_stages_took():
    tables = {"vqvae": {"steps": 10, "batch": 4}, "joint": {"steps": 20, "batch": 6}}
    assert run.shares(["vqvae", "joint"], tables, 8) == {"vqvae": 2, "joint": 6}
    tables["vqvae"]["minutes"], tables["joint"]["minutes"] = 30, 10
    assert run.shares(["vqvae", "joint"], tables, 8) == {"vqvae": 6, "joint": 2}
    assert run.shares(["joint"], tables, 8) == {"joint": 8}


def test_stages_can_be_skipped_unless_others_need_them(folder, train, capfd):
    skipped = [word for stage in list(STAGES)[1:-1] for word in ("--skip", stage)]
    assert train("all", *skipped) == 0
    made = {path.name for path in (folder / "out").glob("*.jsonl")}
    assert made == {"vqvae.jsonl", "entropy.jsonl"}
    with pytest.raises(PcodecError, match="vocoder needs a trained encoder: train vqvae before"):
        train("all", "--skip", "vqvae", "--skip", "adversarial", out="other")


def test_without_a_terminal_a_line_a_minute_says_where_it_stands(train, monkeypatch, capfd):
    monkeypatch.setattr(report, "LINE_SECONDS", 0.0)
    assert train("vqvae", "--steps", 60) == 0
    lines = capfd.readouterr().err.splitlines()
    shape = r"vqvae: [\d.]+ steps per second: about \d+ s for 50 more, .*"
    assert any(re.fullmatch(shape, line) for line in lines)
    there = [line for line in lines if line.startswith("vqvae 55/60")]
    shape = r"vqvae 55/60  92%, mel \d\.\d+ .*total [\d.]+.*, [\d.]+ steps/s, \d+ s left"
    assert len(there) == 1 and re.fullmatch(shape, there[0]), there
    assert not any("\r" in line for line in lines)


def test_a_training_that_diverges_ends_and_keeps_what_was_saved(folder, train, monkeypatch):
    assert train("vqvae", "--steps", 2) == 0
    kept = {p: p.read_bytes() for p in (folder / "out").rglob("*") if p.suffix in (".pt", ".json")}
    monkeypatch.setattr(loop, "READ_EVERY", 2)
    wild = RECIPE.replace("steps = 3", "steps = 30\nlearning_rate = 1e36\nwarm_up = 0")
    (folder / "wild.toml").write_text(wild)
    with pytest.raises(PcodecError, match="the loss is NaN or infinite"):
        train("vqvae", config="wild.toml")
    assert {p: p.read_bytes() for p in kept} == kept


def test_the_stages_are_listed_with_what_the_recipe_says_they_cost(folder, train, capsys):
    text = RECIPE.replace("steps = 3", "steps = 3\nminutes = 24", 1)
    (folder / "recipe.toml").write_text(text)
    assert train("--list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == ["stage", *STAGES]
    assert re.search(r"^vqvae +3 +2 +24  encoder", lines["vqvae"])
    assert re.search(r"^vocoder +3 +2 +-  the spectral vocoder", lines["vocoder"])


def test_a_model_made_from_another_one_is_whole(folder, train, small_model):
    about = json.loads((small_model / "config.json").read_text())["codec"]
    config = "[codec]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in about.items())
    (folder / "more.toml").write_text(f"{config}[joint]\nsteps = 2\nbatch = 2\ncolumns = 12\n")
    assert train("joint", "--init", small_model, config="more.toml") == 0
    made, old = read_model(folder / "out"), read_model(small_model)
    assert made.bitstream_id == old.bitstream_id
    assert {p.stem for p in (folder / "out").glob("*.safetensors")} == {
        *("encoder", "codebook", "decoder", "spectral")
    }
    with pytest.raises(PcodecError, match="other sizes: encoder_blocks is 2 there, 1 in the rec"):
        train("joint", "--init", small_model, out="other")


def test_a_stage_that_is_done_leaves_what_came_after_it_alone(folder, train, capfd):
    assert train("vqvae", "--steps", 2) == 0
    made = Networks(read_model(folder / "out").config)
    with torch.no_grad():  # as another stage would
        made.decoder.refine.weight.add_(1.0)
    made.save(folder / "out", ("decoder",))
    kept = {p: p.read_bytes() for p in (folder / "out").glob("*.*")}
    assert train("vqvae", "--steps", 2) == 0
    assert "vqvae is done" in capfd.readouterr().err
    assert {p: p.read_bytes() for p in (folder / "out").glob("*.*")} == kept


def test_an_adversary_may_come_in_when_a_stage_goes_on(folder, train):
    assert train("vqvae", "--steps", 1) == 0
    assert train("vocoder", "--steps", 1) == 0
    own = "free = 0.5"
    (folder / "recipe.toml").write_text(RECIPE.replace(own, f"{own}, adversarial = 0.1"))
    assert train("vocoder", "--steps", 2) == 0
    assert (folder / "out" / "vocoder.discriminator.safetensors").exists()


def test_a_state_of_something_else_is_named(folder, train):
    (folder / "out/state").mkdir(parents=True)
    (folder / "out/state/vqvae.pt").write_bytes(b"nothing")
    with pytest.raises(PcodecError, match=r"vqvae\.pt: not the state of a training; delete it"):
        train("vqvae")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("[vqvae]", "[vqvea]", "no stage is called vqvea; did you mean vqvae?"),
        ("[codec]\n[vqvae]", "vqvae = 3\n[joint]", "vqvae is not a table"),
        ("steps = 3", "steps = '3'", "steps = '3'"),
        ("steps = 3", "step = 3", "stage vqvae needs steps"),
        ("batch = 2", "bach = 2", "stage vqvae has no bach; did you mean batch?"),
        ("steps = 3", "steps = 3\noptions = { mell = 1.0 }", "no option mell; did you mean mel?"),
        ("steps = 3", "steps = 3\noptions = { mel = 'a' }", "option mel = 'a': must be a number"),
        ("[codec]", "[codec]\nmel_bands = 72", "22 x 10 bits"),
        (
            "[codec]",
            "[codec]\nmelbands = 72",
            r"\[codec\] has no melbands; did you mean mel_bands?",
        ),
        ("[codec]", "[codec]\nhop = 160", "multiple of hop"),
    ],
)
def test_a_wrong_recipe_is_an_error_before_any_training(folder, train, old, new, word):
    recipe = "[codec]\n[vqvae]\nsteps = 3\nbatch = 2\ncolumns = 8\n"
    (folder / "wrong.toml").write_text(recipe.replace(old, new))
    with pytest.raises(PcodecError, match=word):
        train("all", config="wrong.toml")
    assert not (folder / "out").exists()


def test_what_is_wrong_is_one_line_and_an_exit_code(folder, pcodec_command):
    (folder / "none").mkdir()
    arguments = ("--config", folder / "recipe.toml", "--data", folder / "none")
    result = pcodec_command("train", "all", *arguments, "--out", folder / "out")
    assert result.returncode == 1 and b"none: no audio files found" in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "STAGE"),
        (("vqvae", "--skip", "hifigan"), "--skip is for all"),
        (("vqvae", "--steps", "3", "--minutes", "1"), "exclude each other"),
    ],
)
def test_a_wrong_call_is_a_usage_error(train, arguments, word):
    with pytest.raises(click.UsageError, match=word):
        train(*arguments)


def test_a_larger_batch_takes_fewer_and_larger_steps_over_as_many_crops():
    settings = Settings(1001, 12, learning_rate=1e-3, options={"adversarial_items": 6, "mel": 2.0})
    scaled = settings.scaled(4)
    assert (scaled.steps, scaled.batch, scaled.warm_up) == (251, 48, 50)
    assert scaled.learning_rate == pytest.approx(2e-3)
    assert scaled.ema**251 == pytest.approx(settings.ema**1001, rel=0.01)
    assert (
        scaled.options == {"adversarial_items": 24, "mel": 2.0}
        and settings.options["adversarial_items"] == 6
    )


def test_a_step_that_cannot_be_compiled_is_taken_all_the_same(capfd):
    def fails(samples):
        raise torch._dynamo.exc.TorchDynamoException("no C++ compiler\nlong explanations")

    networks = Networks(SMALL)
    stage = VqVae(networks, Settings(steps=1, batch=2, columns=4))
    stage.compiled = fails
    samples = torch.randn(2, 4 * 512 + 2 * networks.mel.overhang)
    assert torch.isfinite(stage.step(samples)["total"])
    assert "cannot be compiled" in capfd.readouterr().err
    assert torch.isfinite(stage.step(samples)["total"])
    assert not capfd.readouterr().err


@pytest.mark.parametrize("name", ["adversarial", "end_to_end", "refine", "hifigan", "concealment"])
def test_a_step_keeps_to_its_device_and_waits_for_nothing(name, monkeypatch):
    # The meta device knows shapes only: what looks at a value fails, as does what mixes it with
    # the CPU. On a GPU either would cost time, or fail.
    kind, adam = stage_class(name), torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *a, fused, **k: adam(*a, **k))
    options = {"adversarial": 1.0, "disturbance": 1.0, "envelope": 1.0}
    options = {k: v for k, v in options.items() if k in kind.options}
    networks = Networks(SMALL).to("meta")
    stage = kind(networks, Settings(steps=1, batch=2, columns=12, options=options))
    for part in (stage, stage.adversary):
        if part is not None:
            part.autocast = contextlib.nullcontext
    if networks.quantizer in stage.trained.values():
        monkeypatch.setattr(networks.quantizer, "update", lambda *_: 0)  # which waits
    means = loop.Means()
    for _ in range(2):
        means.add(stage.step(torch.zeros(2, 12 * 512 + 2 * networks.mel.overhang)))
    assert {value.device.type for value in means.sums.values()} == {"meta"}


def test_clips_too_short_to_measure_on_are_left_out_and_nothing_else_is_refused(folder, speech):
    soundfile.write(folder / "short.wav", speech[:400], 16000)
    paths = [folder / "short.wav", SPEECH]
    assert [len(clip) for clip in read_clips(paths, 16000, 512, 1.0)] == [31 * 512]


def test_batches_depend_on_nothing_but_seed_and_step(folder):
    corpus = Corpus(folder / "data", folder / "cache", 16000)
    one = Batches(corpus, corpus, 4, 9000, seed=1)
    two = Batches(Corpus(folder / "data", folder / "cache", 16000), corpus, 4, 9000, seed=1)
    assert torch.equal(one.at(5), two.at(5))
    assert not torch.equal(one.at(5), one.at(6))
    assert not torch.equal(one.at(5), Batches(corpus, corpus, 4, 9000, seed=2).at(5))
    assert one.at(5).shape == (4, 9000) and one.at(5).abs().max() <= 1
    stream = one.stream(5)
    assert torch.equal(next(stream), one.at(5)) and torch.equal(next(stream), one.at(6))


def test_another_process_maps_the_corpus_itself(folder):
    corpus = Corpus(folder / "data", folder / "cache", 16000)
    assert len(corpus.samples) == corpus.ends[-1]
    packed = pickle.dumps(Batches(corpus, None, 4, 9000, seed=1))
    assert len(packed) < 10_000 < corpus.bytes
    assert torch.equal(pickle.loads(packed).at(3), Batches(corpus, None, 4, 9000, seed=1).at(3))


def test_a_corpus_resamples_and_finds_speakers_in_a_list(folder, speech):
    (folder / "list.tsv").write_text(
        "path\tspeaker\ndata/someone/long.flac\ta\ndata/someone/short.wav\tb\n"
    )
    corpus = Corpus(folder / "list.tsv", folder / "cache", 16000)
    assert len(corpus.samples) == len(speech) + 8000
    assert corpus.shares[0] == pytest.approx(
        len(speech) ** 0.5 / (len(speech) ** 0.5 + 8000**0.5), rel=1e-6
    )


def test_lists_as_spreadsheets_write_them_are_read_and_others_refused(tmp_path):
    (tmp_path / "list.tsv").write_bytes(b"\xef\xbb\xbfpath\tspeaker\r\na.wav\tme\r\n")
    assert find_clips(tmp_path / "list.tsv") == [(tmp_path / "a.wav", "me")]
    (tmp_path / "long.tsv").write_text("path\n" + "x" * 200_000)
    with pytest.raises(AudioError, match="not a tab-separated list"):
        find_clips(tmp_path / "long.tsv")


def test_an_empty_clip_is_never_drawn_and_all_others_are(tmp_path, speech):
    for name, samples in (("a", speech[:0]), ("b", speech[:20000]), ("c", speech[20000:50000])):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "x.wav", samples, 16000)
    corpus, rng = Corpus(tmp_path, tmp_path / "cache", 16000), np.random.default_rng(0)
    first = {float(np.abs(corpus.crop(16000, rng)).sum()) for _ in range(50)}
    assert 0.0 not in first and len(first) == 50
    assert corpus.shares[0] == 0 and 0.4 < corpus.shares[1] < 0.5
    for name in "bc":
        (tmp_path / name / "x.wav").unlink()
    with pytest.raises(AudioError, match="holds no samples"):
        _ = Corpus(tmp_path, tmp_path / "cache", 16000).samples


def test_a_file_that_has_changed_is_read_again(tmp_path, speech):
    for samples in (speech[:16000], speech[:24000]):
        soundfile.write(tmp_path / "x.wav", samples, 16000)
        assert len(Corpus(tmp_path, tmp_path / "cache", 16000).samples) == len(samples)


def test_what_fails_while_batches_are_made_ends_the_training(folder):
    corpus = Corpus(folder / "data", folder / "cache", 16000)
    corpus.shares = corpus.shares[:0]
    corpus.ends = corpus.ends[:0]
    with pytest.raises(IndexError):
        next(Batches(corpus, None, 4, 9000, seed=1).stream(0))


def test_bad_training_data_is_named(folder):
    (folder / "short.tsv").write_text("speaker\tpath\na\tdata/someone/long.flac\nb\n")
    with pytest.raises(AudioError, match="line 3 has no path"):
        Corpus(folder / "short.tsv", folder / "cache", 16000)
    (folder / "data" / "bad.wav").write_bytes(b"nothing")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        _ = Corpus(folder / "data", folder / "cache", 16000).seconds
    (folder / "spoken.tsv").write_text("path\tspeakr\ndata/someone/long.flac\ta\n")
    with pytest.raises(AudioError, match="no column 'speaker', but 'speakr'"):
        Corpus(folder / "spoken.tsv", folder / "cache", 16000)
    (folder / "paths.tsv").write_text("paths\tspeaker\ndata/someone/long.flac\ta\n")
    with pytest.raises(AudioError, match="column 'path', but 'paths'"):
        Corpus(folder / "paths.tsv", folder / "cache", 16000)
    (folder / "none").mkdir()
    with pytest.raises(AudioError, match="none: no audio"):
        Corpus(folder / "none", folder / "cache", 16000)


def test_metrics_know_the_best_and_hear_what_is_worse(speech):
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    worse = speech + 0.02 * noise
    for name, best in {"pesq": 4.64, "stoi": 1.0, "estoi": 1.0, "log_mel": 0.0}.items():
        metric = metrics.METRICS[name].score
        assert metric(speech, speech) == pytest.approx(best, abs=0.01)
        assert abs(metric(speech, worse) - best) > 0.02
    assert np.isnan(metrics.or_nan("pesq", speech * 0, speech * 0))


def test_the_entropy_of_a_histogram_is_in_bits():
    assert metrics.entropy_bits(np.array([1, 1, 1, 1, 0])) == pytest.approx(2)


def test_the_disturbance_puts_noises_into_the_order_that_pesq_does(speech):
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    heard = [speech + level * noise for level in (0.001, 0.004, 0.016)]
    heard += [speech + 0.3 * noise * speech]
    loss = DisturbanceLoss()
    losses = [float(loss(torch.tensor(x)[None], torch.tensor(speech)[None])) for x in heard]
    scores = [metrics.pesq_wb(speech, x) for x in heard]
    assert np.argsort(losses).tolist() == np.argsort(scores)[::-1].tolist()


def test_the_disturbance_of_what_cannot_be_heard_is_nothing(speech):
    loss, target = DisturbanceLoss(), torch.tensor(speech)[None]
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    masked = target * (1 + 1e-4 * noise)
    assert float(loss(masked, target)) == pytest.approx(float(loss(target, target)), rel=0.01)
    assert torch.isfinite(loss(target, torch.zeros_like(target)))


def test_the_disturbance_is_refused_at_rates_that_pesq_does_not_know():
    networks = Networks(CodecConfig(sample_rate=24000))
    with pytest.raises(PcodecError, match="24000"):
        Vocoder(networks, Settings(steps=1, options={"disturbance": 1.0}))


def test_what_is_added_disturbs_more_than_what_is_missing(speech):
    loss, target = DisturbanceLoss(), torch.tensor(speech)[None]
    assert float(loss(3 * target, target)) > 2 * float(loss(target / 3, target))


def test_the_loss_of_envelopes_is_what_stoi_and_estoi_lack(speech, codec, tokens):
    decoded = codec.from_tokens(tokens)[: len(speech)]
    worse = codec.from_tokens(np.roll(tokens, 1, axis=0))[: len(speech)]
    loss = EnvelopeLoss(16000)
    for heard in (decoded, worse):
        scores = [metrics.METRICS[name].score(speech, heard) for name in ("stoi", "estoi")]
        got = float(loss(torch.tensor(heard)[None], torch.tensor(speech)[None]))
        assert got == pytest.approx(1 - np.mean(scores), rel=0.25)


def test_the_loss_of_envelopes_does_not_mind_the_level(speech):
    loss, target = EnvelopeLoss(16000), torch.tensor(speech)[None]
    assert float(loss(0.5 * target, target)) < 0.002
    assert torch.isfinite(loss(target, torch.zeros_like(target)))


@pytest.fixture
def mel(speech):
    frames, _ = Networks(CodecConfig(), ("encoder",)).mel(torch.tensor(speech)[None])
    return frames[:, : len(speech) // 128]


def test_a_guess_disturbs_by_its_shape_and_not_by_its_level(mel):
    loss = MelDisturbanceLoss(CodecConfig())
    shape = torch.tensor([0.5, -0.5]).repeat(mel.shape[2] // 2)
    nothing, level, other = (float(loss(mel + change, mel)) for change in (0.0, 0.5, shape))
    assert level == pytest.approx(nothing, abs=0.01) and other > nothing + 0.1


def test_one_bad_frame_of_a_syllable_disturbs_nearly_as_much_as_five(mel):
    loss, one, five = MelDisturbanceLoss(CodecConfig()), mel.clone(), mel.clone()
    loudest = int(mel[0].sum(-1).argmax()) // 2 * 2
    noise = torch.randn(mel.shape[2], generator=torch.Generator().manual_seed(0))
    one[:, loudest] += noise
    five[:, loudest : loudest + 10] += noise
    assert 1 < float(loss(five, mel)) / float(loss(one, mel)) < 2


def test_losses_are_drawn_in_every_share_up_to_some_forty_percent_and_in_bursts():
    torch.manual_seed(0)
    lost = ConcealmentModel.draw_losses(400, 200)
    shares = lost.float().mean(1)
    assert shares.min() < 0.05 and 0.35 < shares.max() < 0.6
    begins = (lost & ~lost.roll(1, 1)).sum(1)
    bursts = lost.sum(1) / begins.clamp(min=1)
    assert bursts.min() < 1.3 and bursts.max() > 3


def test_no_frame_has_much_more_gradient_than_the_others():
    x = torch.zeros(2, 8, 3, requires_grad=True)
    weights = torch.ones(2, 8, 3)
    weights[1, 4] = 1e6
    (limit_gradient(x) * weights).sum().backward()
    assert torch.equal(x.grad[0], weights[0])
    torch.testing.assert_close(x.grad[1, 4], 10 * weights[0, 0])


def test_the_level_loss_is_the_squared_difference_of_levels_whatever_the_level():
    target = torch.randn(4, 4000, generator=torch.Generator().manual_seed(0))
    for level in (1.0, 0.01):
        loss = level_loss(0.9 * level * target, level * target)
        assert abs(float(loss) - math.log(0.9) ** 2) < 1e-4
    assert float(level_loss(torch.zeros(1, 4000), torch.zeros(1, 4000))) == 0
