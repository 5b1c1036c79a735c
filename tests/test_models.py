"""Which models are found, and installing more."""

import os
import shutil

import click
import pytest

import pcodec
from pcodec import models
from pcodec.cli import cli
from pcodec.errors import PcodecError
from pcodec.eval import peers


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user who has nothing installed yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path / "share" / "pcodec" / "models"


def command(*arguments):
    return cli.main(["models", *map(str, arguments)], standalone_mode=False)


def names():
    return [model.name for model in models.installed()]


def test_a_model_that_was_added_is_found_by_name_until_it_is_removed(home, small_model, capsys):
    before = names()
    assert command("--add", small_model, "--name", "mine") == 0
    assert capsys.readouterr().err == f"{home / 'mine'}: installed; --model mine uses it\n"
    assert names() == [*before, "mine"] and models.find("mine").folder == home / "mine"
    assert command() == 0 and "\nmine\n" in capsys.readouterr().out
    assert command("--remove", "mine") == 0
    assert names() == before and not (home / "mine").exists()
    with pytest.raises(PcodecError, match="no model 'mine'; installed: speech16k"):
        models.find("mine")


def test_what_was_made_with_an_added_model_is_decoded_without_naming_it(small_model, speech):
    data = pcodec.encode(speech[:16000], 16000, model=str(small_model))
    header = models.find(str(small_model)).header(16000)
    with pytest.raises(pcodec.ModelMismatchError):
        pcodec.decode(data)
    models.add(small_model, "mine")
    assert models.for_header(header).name == "mine"
    assert len(pcodec.decode(data)[0]) == 16000
    assert pcodec.encode(speech[:16000], 16000, model="mine") == data


def test_only_what_a_model_needs_is_copied(home, small_model, tmp_path):
    made = tmp_path / "made"
    shutil.copytree(small_model, made)
    (made / "state").mkdir()
    for name in ("train.toml", "MODEL_CARD.md", "vqvae.jsonl", "refine.discriminator.safetensors"):
        (made / name).write_text("a = 1")
    models.add(made)
    kept = {path.name for path in (home / "made").iterdir()}
    needed = {path.name for end in ("safetensors", "onnx") for path in small_model.glob(f"*.{end}")}
    assert kept == {"config.json", "train.toml", "MODEL_CARD.md", *needed}
    assert [path.name for path in home.parent.iterdir()] == ["models"]


def test_a_link_follows_the_folder(home, small_model, tmp_path):
    made = tmp_path / "made"
    shutil.copytree(small_model, made)
    assert command("--add", made, "--link") == 0
    assert (home / "made").is_symlink() and "made" in names()
    models.remove("made")
    assert made.exists() and "made" not in names()


def test_a_model_that_cannot_be_used_or_hides_another_is_not_added(home, small_model, tmp_path):
    young = tmp_path / "young"
    shutil.copytree(small_model, young)
    for name in ("decoder", "spectral", "hifigan"):
        (young / f"{name}.safetensors").unlink()
    with pytest.raises(PcodecError, match="young: has no weights of decoder, spectral yet"):
        models.add(young)
    with pytest.raises(PcodecError, match="speech16k: a model of this name is installed"):
        models.add(small_model, "speech16k")
    for name in ("../out", "a/b", ".hidden", "-f", ".."):
        with pytest.raises(PcodecError, match="cannot be the name"):
            models.add(small_model, name)
    with pytest.raises(PcodecError, match=r"config\.json: not the configuration"):
        models.add(tmp_path)
    assert not home.exists() or not list(home.iterdir())


def test_only_what_was_added_is_removed(home, small_model, monkeypatch):
    monkeypatch.setenv("PCODEC_MODELS", str(small_model.parent))
    for name in ("speech16k", "small", "none", "../models", "."):
        with pytest.raises(PcodecError, match="--add has installed no model"):
            models.remove(name)
    with pytest.raises(PcodecError, match="it lies in"):
        models.remove("small")


def test_folders_of_models_are_named_by_the_environment(small_model, tmp_path, monkeypatch):
    path = os.pathsep.join(["", str(tmp_path / "none"), str(small_model.parent)])
    monkeypatch.setenv("PCODEC_MODELS", path)
    assert names()[-1] == "small" and names()[0] == "speech16k"
    assert models.find("small").folder == small_model


def test_a_broken_model_is_named_and_in_no_other_ones_way(home, small_model, capsys):
    models.add(small_model, "mine")
    (home / "broken").mkdir()
    (home / "broken" / "config.json").write_text("{}")
    assert models.find("mine").name == "mine"
    with pytest.raises(PcodecError, match=r"broken.config\.json: not the configuration"):
        models.find("broken")
    assert command() == 1
    said = capsys.readouterr()
    assert "\nmine\n" in said.out and "\nbroken\n" not in said.out
    assert said.err.startswith(f"pcodec: {home / 'broken' / 'config.json'}: not the config")


@pytest.mark.parametrize(
    "arguments", [("--name", "a"), ("--link",), ("--add", ".", "--remove", "a")]
)
def test_options_that_say_nothing_together_are_refused(arguments):
    with pytest.raises(click.UsageError):
        command(*arguments)


def test_two_models_are_measured_side_by_side(small_model, speech):
    models.add(small_model, "mine")
    for spec in (f"own=model:{small_model}", "other=model:mine"):
        coder = peers.make(spec)
        assert coder.name == spec.partition("=")[0] == peers.name_of(spec)
        coded = coder.run(speech[:16000])
        assert coded.payload_bits == 240 * 32 and len(coded.decoded) == 16000
    assert peers.make("other=model:mine").about == "mine, vocoder spectral"
    with pytest.raises(PcodecError, match="no model 'nothing'"):
        peers.make("a=model:nothing")
