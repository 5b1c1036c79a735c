import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import SPEECH

from pcodec import AudioError
from pcodec.audio.clips import find_clips
from pcodec.cli.train import STAGES
from pcodec.config import CodecConfig
from pcodec.errors import PcodecError
from pcodec.eval import metrics
from pcodec.models import read_model
from pcodec.networks.checkpoint import Networks
from pcodec.train.data import Batches, Corpus
from pcodec.train.loop import read_clips
from pcodec.train.losses import DisturbanceLoss, MelDisturbanceLoss, limit_gradient
from pcodec.train.stages import STAGES as TRAIN_STAGES
from pcodec.train.stages.base import Settings
from pcodec.train.stages.concealment import ConcealmentModel
from pcodec.train.stages.vocoder import Vocoder

RECIPE = """
[codec]
encoder_width = 32
encoder_blocks = 1
decoder_width = 32
decoder_blocks = 1
decoder_fine_width = 16
decoder_fine_blocks = 1
vocoder_width = 32
vocoder_blocks = 1
hifigan_width = 32
""" + "".join(
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
        "refine": "mel = 2.0, adversarial = 1.0, judged = 1",
        "hifigan": "adversarial = 1.0",
        "concealment": "disturbance = 1.0",
    }.items()
)


@pytest.fixture
def folder(tmp_path, speech):
    data = tmp_path / "data" / "someone"
    data.mkdir(parents=True)
    soundfile.write(data / "long.flac", speech, 16000)
    soundfile.write(data / "short.wav", speech[20000:24000], 8000)
    return tmp_path


def test_all_stages_train_from_a_folder_and_make_a_model_that_works(
    folder, pcodec_command, monkeypatch
):
    (folder / "recipe.toml").write_text(RECIPE)
    out = folder / "out"
    result = pcodec_command(
        "train", "all", "--config", folder / "recipe.toml", "--data", folder / "data",
        "--noise", folder / "data", "--dev", folder / "data" / "someone" / "long.flac",
        "--out", out, "--threads", "1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert tuple(TRAIN_STAGES) == STAGES
    for stage in STAGES:
        line = json.loads((out / f"{stage}.jsonl").read_text())
        assert line["step"] == 3 and np.isfinite(list(line.values())).all()
        assert list((out / "logs" / stage).glob("events*"))
    coded, decoded = folder / "a.pcx", folder / "a.wav"
    assert pcodec_command("encode", "--model", out, SPEECH, coded).returncode == 0
    for vocoder in ("spectral", "hifigan"):
        arguments = ("decode", "-f", "--model", out, "--vocoder", vocoder, coded, decoded)
        assert pcodec_command(*arguments).returncode == 0
        assert soundfile.info(decoded).frames == soundfile.info(SPEECH).frames


def test_an_interrupted_stage_goes_on_where_it_was_saved(folder, pcodec_command):
    (folder / "recipe.toml").write_text(RECIPE)

    def train(out, steps):
        arguments = ("train", "vqvae", "--config", folder / "recipe.toml", "--threads", "1")
        data = ("--data", folder / "data", "--out", folder / out, "--steps", steps)
        assert pcodec_command(*arguments, *data).returncode == 0
        return torch.load(folder / out / "state" / "vqvae.pt", weights_only=True)

    assert train("parts", 2)["step"] == 2
    parts = train("parts", 4)
    assert parts["step"] == 4
    lines = (folder / "parts" / "vqvae.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_a_stage_that_is_done_leaves_what_came_after_it_alone(folder, pcodec_command):
    (folder / "recipe.toml").write_text(RECIPE)
    arguments = ("train", "vqvae", "--config", folder / "recipe.toml", "--threads", "1")
    arguments += ("--data", folder / "data", "--out", folder / "done", "--steps", 2)
    assert pcodec_command(*arguments).returncode == 0
    made = Networks(read_model(folder / "done").config)
    with torch.no_grad():  # as another stage would
        made.decoder.refine.weight.add_(1.0)
    made.save(folder / "done", ("decoder",))
    kept = {p: p.read_bytes() for p in (folder / "done").glob("*.*")}
    result = pcodec_command(*arguments)
    assert result.returncode == 0 and b"has taken its steps" in result.stderr
    assert {p: p.read_bytes() for p in (folder / "done").glob("*.*")} == kept


def test_an_adversary_may_come_in_when_a_stage_goes_on(folder, pcodec_command):
    out = folder / "game"
    arguments = ("train", "--config", folder / "recipe.toml", "--threads", "1")
    arguments += ("--data", folder / "data", "--out", out)
    (folder / "recipe.toml").write_text(RECIPE)
    for stage in ("vqvae", "vocoder"):
        assert pcodec_command(*arguments, stage, "--steps", 1).returncode == 0
    own = "free = 0.5"
    (folder / "recipe.toml").write_text(RECIPE.replace(own, f"{own}, adversarial = 0.1"))
    result = pcodec_command(*arguments, "vocoder", "--steps", 2)
    assert result.returncode == 0, result.stderr
    assert (out / "vocoder.discriminator.safetensors").exists()


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("[vqvae]", "[vqvea]", "no stage is called vqvea"),
        ("steps = 3", "steps = '3'", "steps = '3'"),
        ("steps = 3", "steps = 3\noptions = { mell = 1.0 }", "no option mell"),
        ("[codec]", "[codec]\nmel_bands = 72", "22 x 10 bits"),
        ("[codec]", "[codec]\nhop = 160", "multiple of hop"),
    ],
)
def test_a_wrong_recipe_is_one_line_before_any_training(folder, pcodec_command, old, new, word):
    recipe = "[codec]\n[vqvae]\nsteps = 3\nbatch = 2\ncolumns = 8\n"
    (folder / "wrong.toml").write_text(recipe.replace(old, new))
    arguments = ("--config", folder / "wrong.toml", "--data", folder / "data")
    result = pcodec_command("train", "all", *arguments, "--out", folder / "none")
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 1 and len(lines) == 1 and word in lines[0]
    assert not (folder / "none").exists()


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
    assert torch.equal(next(one.stream(5)), one.at(5))


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
        Corpus(tmp_path, tmp_path / "cache", 16000)


def test_a_file_that_has_changed_is_read_again(tmp_path, speech):
    for samples in (speech[:16000], speech[:24000]):
        soundfile.write(tmp_path / "x.wav", samples, 16000)
        assert len(Corpus(tmp_path, tmp_path / "cache", 16000).samples) == len(samples)


def test_what_fails_while_batches_are_made_ends_the_training(folder):
    corpus = Corpus(folder / "data", folder / "cache", 16000)
    corpus.ends = corpus.ends[:0]
    with pytest.raises(IndexError):
        next(Batches(corpus, None, 4, 9000, seed=1).stream(0))


def test_bad_training_data_is_named(folder):
    (folder / "short.tsv").write_text("speaker\tpath\na\tdata/someone/long.flac\nb\n")
    with pytest.raises(AudioError, match="line 3 has no path"):
        Corpus(folder / "short.tsv", folder / "cache", 16000)
    (folder / "data" / "bad.wav").write_bytes(b"nothing")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        Corpus(folder / "data", folder / "cache", 16000)
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


@pytest.fixture
def mel(speech):
    frames = Networks(CodecConfig(), ("encoder",)).mel(torch.tensor(speech)[None])
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


def test_losses_are_drawn_in_every_share_up_to_a_third_and_in_bursts():
    torch.manual_seed(0)
    lost = ConcealmentModel.draw_losses(400, 200)
    shares = lost.float().mean(1)
    assert shares.min() < 0.05 and 0.25 < shares.max() < 0.5
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
