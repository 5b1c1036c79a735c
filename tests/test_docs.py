import ast
import html
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
import soundfile
from conftest import TINY_CODEC

import pcodec
from pcodec.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OUTSIDE = ("CONTRIBUTING", "SECURITY", "RELEASE", "CODE_OF_CONDUCT")
TOOLS = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers", "mkdocs_click")
SHELL = ("", "sh", "bash", "console")
ARGUMENTS = {"paths": "IN"}  # what an argument is called in the help, where it is not its name


GROUP = click.Context(cli, **cli.context_settings)


def all_commands():
    """Every command by its name."""
    return {name: cli.get_command(GROUP, name) for name in cli.list_commands(GROUP)}


def parameters():
    """Pytest parameters (name of the command, its parameter), one for each."""
    commands = all_commands().items()
    contexts = {"": GROUP, **{name: click.Context(c, parent=GROUP) for name, c in commands}}
    return [
        pytest.param(name, parameter, id=f"{name} {parameter.opts[-1]}".strip())
        for name, context in contexts.items()
        for parameter in context.command.get_params(context)
    ]


def fences(path):
    """(language, text) of the fenced blocks of a page."""
    text = path.read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shell_lines(path):
    """Lines of a page's fenced shell blocks, those that a backslash continues joined."""
    for language, text in fences(path):
        if language in SHELL:
            yield from text.replace("\\\n", " ").splitlines()


def unfenced(path):
    """A page without its fenced blocks."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def inline_code(path):
    """What stands between single backticks outside of fenced blocks."""
    return [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", unfenced(path))]


def calls(line):
    """The arguments of each call of pcodec in a line of shell."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set("|&;()"):
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)  # a variable for this call
            if words and words[0] == "pcodec":
                yield words[1:]
            words = []
        elif word not in ("<", ">", ">>"):
            words.append(word)


def wrong_with(arguments):
    """Why a call of pcodec cannot be: an unknown command or option, or a value of no choice."""
    if not arguments or arguments[0] in ("--help", "-h", "--version"):
        return None
    command = all_commands().get(arguments[0])
    if command is None:
        return f"no command {arguments[0]!r}"
    context = click.Context(command, parent=GROUP, info_name=arguments[0])
    try:
        values, rest, _ = command.make_parser(context).parse_args(arguments[1:])
        for parameter in command.params:
            value = values.get(parameter.name)
            chosen = isinstance(parameter.type, click.Choice) and isinstance(value, str)
            if chosen and not value.isupper():  # a word in capitals stands for something
                parameter.type.convert(value, parameter, context)
    except click.UsageError as error:
        return error.format_message()
    return f"too many arguments: {rest}" if rest else None


def command_lines():
    """(page, line) of each line in the documentation that calls pcodec."""
    found = []
    for path in PAGES:
        lines = [line for line in shell_lines(path) if re.search(r"(^|[|&;( ])pcodec ", line)]
        lines += [code for code in inline_code(path) if re.search(r"(^|\| )pcodec [a-z-]", code)]
        found += [pytest.param(line, id=f"{path.relative_to(ROOT)}: {line}") for line in lines]
    return found


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_in_the_documentation_names_what_there_is(line):
    for arguments in calls(line):
        assert wrong_with(arguments) is None, line


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("pcodec encode in.wav out.pcx", None),
        ("cat in.wav | pcodec encode --live - - | pcodec decode -f - out.wav", None),
        ("FOO=1 pcodec info --json out.pcx > about.json  # as JSON", None),
        ("pcodec train STAGE", None),
        ("pcodec encode -h", None),
        ("pcodec squeeze in.wav", "no command 'squeeze'"),
        ("true && pcodec encode --fast in.wav", "No such option"),
        ("pcodec decode --on-error shrug in.pcx", "'shrug' is not one of"),
    ],
)
def test_this_check_of_command_lines_finds_what_is_wrong(line, complaint):
    found = [wrong_with(arguments) for arguments in calls(line)]
    assert found
    if complaint is None:
        assert found == [None] * len(found)
    else:
        assert any(complaint in text for text in found if text)


def test_the_documentation_mentions_every_command():
    named = {arguments[0] for p in command_lines() for arguments in calls(*p.values) if arguments}
    assert set(all_commands()) <= named


@pytest.mark.parametrize("name", all_commands())
def test_every_command_says_what_it_does(name):
    assert all_commands()[name].help.strip()


@pytest.mark.parametrize("name", ["tokens", "models", "train", "eval", "report"])
def test_the_help_of_a_command_has_examples_that_there_can_be(name):
    text = inspect.cleandoc(all_commands()[name].help)
    block = text.partition("Examples:\n\n\b\n")[2]
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    assert 2 <= len(lines) <= 4
    for line in lines:
        assert line.startswith(f"pcodec {name}")
        assert [wrong_with(arguments) for arguments in calls(line)] == [None]


@pytest.mark.parametrize(("name", "parameter"), parameters())
def test_every_option_has_help_and_every_argument_is_explained(name, parameter):
    if isinstance(parameter, click.Option):
        assert parameter.help and parameter.help.strip(), f"{parameter.opts[-1]} has no help"
        assert "|" not in parameter.help, "a bar would end the cell in the table of options"
    else:
        word = ARGUMENTS.get(parameter.name, parameter.name.removesuffix("s"))
        text = all_commands()[name].help
        assert re.search(rf"\b{word}s?\b", text, re.IGNORECASE), f"{word} is not explained"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_line_within_code_begins_as_a_list_or_a_heading_would(path):
    # Markdown ends the paragraph there, and its code with it.
    for paragraph in unfenced(path).split("\n\n"):
        for end in re.finditer(r"\n(?=\s*([-+*>#]|\d+\.) )", paragraph):
            assert paragraph[: end.start()].count("`") % 2 == 0, paragraph


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_python_of_the_documentation_is_python(path):
    for language, text in fences(path):
        if language == "python":
            is_entry = re.match(r'"\w+": ', text)  # a line for a dictionary
            ast.parse(f"{{{text}}}" if is_entry else text)


@pytest.mark.parametrize("page", ["tutorial.md", "howto/python.md"])
def test_the_python_of_the_tutorial_and_the_guide_runs(page, tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    blocks = [text for language, text in fences(ROOT / "docs" / page) if language == "python"]
    names = {}
    exec(compile("\n".join(blocks), page, "exec"), names)
    if page == "tutorial.md":
        assert names["tokens"].shape == (143, 24)  # as the page says
    else:
        assert (names["stored"] == names["tokens"]).all()
        assert (names["streamed"] == names["tokens"]).all()
        assert len(names["concealed"]) == len(names["decoded"])


def test_the_guide_to_gradients_runs_and_its_table_is_what_it_prints(tmp_path, monkeypatch):
    for name in ("torch", "pesq"):
        pytest.importorskip(name)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "howto" / "torch.md"
    names = {}
    for language, text in fences(page):
        if language == "python":
            exec(compile(text, "torch.md", "exec"), names)
    assert pcodec.load("mine").model.bitstream_id == names["codec"].model.bitstream_id
    # Tolerances: a rounding tips tokens and moves pulses, elsewhere others than here.
    limits = {"tokens equal": 0.3, "PESQ-WB": 0.03, "SNR": 1.0, "log-mel distance": 0.005}
    told = page.read_text(encoding="utf-8").partition("For the sentence in")[2]
    columns = (names["measured"]["torch.float32"], names["measured"]["torch.bfloat16"])
    for row, (start, limit) in enumerate(limits.items()):
        cells = re.search(rf"^\| {start}.*\|(.*)\|(.*)\|(.*)\|$", told, re.M)
        for cell, column in zip(cells.groups()[1:], columns, strict=True):
            assert float(cell.strip(" %")) == pytest.approx(column[row], abs=limit), start
    pesq, distance = names["measured"]["codec"]
    assert float(re.search(r"^\| PESQ-WB[^|]*\| ([\d.]+)", told, re.M)[1]) == pytest.approx(
        pesq, abs=0.03
    )
    assert float(re.search(r"of coding itself: ([\d.]+)", told)[1]) == pytest.approx(
        distance, abs=0.005
    )


@pytest.mark.filterwarnings("ignore")  # of what the page imports
def test_the_guide_for_language_models_runs(tmp_path, monkeypatch, speech, capsys):
    for name in ("pyarrow", "webdataset", "datasets", "torch"):
        pytest.importorskip(name)
    (tmp_path / "speech").mkdir()
    for i in range(4):
        soundfile.write(tmp_path / "speech" / f"{i}.flac", speech[16000 * i :], 16000)
    (tmp_path / "speech" / "bad.wav").write_bytes(b"nothing")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = {}
    blocks = fences(ROOT / "docs" / "howto" / "language-model.md")
    for language, text in blocks:
        if language == "bash":
            (arguments,) = calls(text.strip())
            assert cli.main([*arguments, "--workers", "1"], standalone_mode=False) == 3
        elif language == "python":
            exec(compile(text, "language-model.md", "exec"), names)
    assert [len(grid) for grid in names["grids"]] == [143, 112, 80, 49]
    assert names["batch"].shape == (4, 148, 24)
    assert names["losses"][-1] < names["losses"][0]
    assert names["tokens"].shape == (48, 24) and names["wav"].shape == (48 * 512,)


def test_the_commands_of_the_tutorial_work_in_their_order(tmp_path):
    # Blocks of `bash` are run, those of `sh` install or play.
    pytest.importorskip("pesq", reason="the tutorial measures")
    blocks = [text for kind, text in fences(ROOT / "docs" / "tutorial.md") if kind == "bash"]
    executable = tmp_path / "bin" / "pcodec"
    executable.parent.mkdir()
    executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pcodec "$@"\n')
    executable.chmod(0o755)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    environment = {
        **os.environ,
        "PATH": f"{executable.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    script = "set -e\n" + "".join(blocks)
    result = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, timeout=900
    )
    assert result.returncode == 0, result.stderr.decode()
    assert b"7500 bit/s" in result.stdout


TINY = f"""
{TINY_CODEC}[vqvae]
steps = 2
batch = 2
columns = 12
[vocoder]
steps = 2
batch = 2
columns = 12
[refine]
steps = 2
batch = 2
columns = 12
"""


def test_the_commands_of_the_guide_to_training_work_in_their_order(
    tmp_path, monkeypatch, speech, capfd
):
    # With a recipe of tiny networks and few steps, but as they stand in all else.
    pytest.importorskip("pesq", reason="training measures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache" / "compiled"))
    (tmp_path / "tiny.toml").write_text(TINY)
    for i, name in enumerate(("anna", "ben", "zoe")):
        (tmp_path / "speech" / name).mkdir(parents=True)
        piece = speech[20000 * i : 20000 * (i + 2)]
        soundfile.write(tmp_path / "speech" / name / "a.wav", piece, 16000)
    soundfile.write(tmp_path / "in.wav", speech[:30000], 16000)
    blocks = [text for kind, text in fences(ROOT / "docs/howto/train.md") if kind == "bash"]
    ran = []
    for line in "".join(blocks).splitlines():
        if not line.startswith("pcodec"):
            subprocess.run(line, shell=True, check=True)
            continue
        (arguments,) = calls(line)
        if arguments[0] == "train":
            arguments += ["--config", "tiny.toml"]
        # Not the shipped model, whose networks take their time.
        place = {"480": "0.01", "60": "0.01", "speech16k": "my-voice", "pcodec": "a=model:mine"}
        arguments = [place.get(word, word) for word in arguments]
        if arguments[0] == "eval":
            arguments += ["--metrics", "log_mel", "--workers", "1"]
        assert not cli.main(arguments, standalone_mode=False), line
        ran.append(arguments[0])
    assert {*ran} == {"train", "encode", "decode", "models", "info", "eval", "report"}
    assert soundfile.info("again.wav").frames == soundfile.info("rec.wav").frames == 30000
    assert "my-voice" in capfd.readouterr().out
    assert (tmp_path / "better" / "decoder.safetensors").exists()


# The site.


class Loaded(HTMLParser):
    """Collects what a page loads: what scripts, styles, pictures and frames come from."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            return  # only led to
        self.addresses += [v for k, v in attributes if k in ("src", "srcset", "href", "data") and v]


def text_of(path):
    """The words of a page, without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built with warnings as errors."""
    missing = [name for name in TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the extra 'docs' is not installed: no {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("site")
    run = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    environment.pop("PYTHONWARNINGS", None)
    result = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert result.returncode == 0, result.stderr.decode()
    return folder


def test_the_site_has_every_page(site):
    for path in PAGES[1:]:
        assert (site / path.relative_to(ROOT / "docs").with_suffix(".html")).is_file()
    assert "speech16k" in text_of(site / "model-card.html")
    assert pcodec.__version__ in text_of(site / "changelog.html")
    for name in OUTSIDE:
        title = (ROOT / f"{name}.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        assert title in text_of(site / f"{name.lower().replace('_', '-')}.html")


@pytest.mark.parametrize(("name", "parameter"), parameters())
def test_the_reference_has_every_option_of_every_command(site, name, parameter):
    page = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    part = page.partition(f'id="{f"pcodec-{name}" if name else "pcodec"}"')[2].partition("<h2")[0]
    part = part.partition("<h3")[0]
    assert part, f"no part about {name}"
    if isinstance(parameter, click.Option):
        for option in [*parameter.opts, *parameter.secondary_opts]:
            assert f"<code>{option}</code>" in part
    assert "Sentinel" not in part  # what click says where there is no default


@pytest.mark.parametrize("name", pcodec.__all__)
def test_the_reference_has_every_name_of_the_api(site, name):
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert f'id="pcodec.{name}"' in page


def test_the_site_loads_nothing_from_outside(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for path in pages:
        loaded = Loaded()
        loaded.feed(path.read_text(encoding="utf-8"))
        assert loaded.addresses
        for address in loaded.addresses:
            assert not re.match(r"(\w+:)?//", address), f"{path.name} loads {address}"
    for path in site.rglob("*.css"):
        found = re.findall(r"""url\(["']?((?:\w+:)?//[^)]*)|@import[^;]*""", path.read_text())
        assert not found, f"{path.name} loads {found}"


def test_every_link_of_the_site_that_stays_there_leads_somewhere(site):
    for path in sorted(site.rglob("*.html")):
        if path.name == "404.html":
            continue  # its links count from the root of a server
        for address in re.findall(r'(?:href|src)="([^"#?]+)', path.read_text(encoding="utf-8")):
            known = ":" in address or (path.parent / address).exists()
            assert known, f"{path.name} leads to {address}"


def test_the_tables_of_results_are_those_of_the_results_file():
    result = subprocess.run(
        [sys.executable, ROOT / "docs" / "results.py", "--check"], capture_output=True
    )
    assert result.returncode == 0, result.stdout.decode()
    for page in ("README.md", "docs/results.md", "models/speech16k/MODEL_CARD.md"):
        assert "<!-- results: " in (ROOT / page).read_text(encoding="utf-8")


def test_the_table_of_targets_is_that_of_the_history():
    run = [sys.executable, ROOT / "docs" / "history.py", "--check"]
    result = subprocess.run(run, capture_output=True)
    assert result.returncode == 0, result.stdout.decode()


# The log.

LOG = sorted((ROOT / "docs" / "log").glob("20*.md"))
HEAD = ["Question", "Change", "Result", "Verdict"]


def entries(path):
    """(title, text) of the entries of a day."""
    parts = re.split(r"^## (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("path", LOG, ids=lambda path: path.stem)
def test_every_entry_of_the_log_has_its_four_parts_in_order_and_is_indexed(path):
    index = (ROOT / "docs" / "log" / "index.md").read_text(encoding="utf-8")
    assert entries(path)
    for title, text in entries(path):
        assert re.findall(r"^\*\*(\w+)\.\*\*\s", text, re.MULTILINE) == HEAD, title
        assert f"| {path.stem} | [{title}]({path.name}#" in index, title
