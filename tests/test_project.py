"""What the project's own pages say of the project."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pcodec

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("models/*/*.md"), *ROOT.glob("docs/**/*.md")]
    if "site" not in path.parts
)


def layout():
    """The paths of the tree in CONTRIBUTING.md."""
    tree = CONTRIBUTING.partition("## How the code is laid out")[2].partition("```text\n")[2]
    paths, parents = [], []
    for line in tree.partition("```")[0].splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth:] = [name]
        paths.append("".join(parents))
    return paths


def in_git(*folders):
    """The files of some folders that are, or are to be, in the repository."""
    run = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a clone")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def test_every_file_and_folder_of_the_layout_is_there_and_of_its_kind():
    paths = layout()
    assert len(paths) > 30 and len(set(paths)) == len(paths)
    for path in paths:
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path


def test_every_module_is_named_in_the_layout_or_lies_in_a_named_folder():
    paths = set(layout())
    for module in in_git("pcodec"):
        folder = f"{Path(module).parent.as_posix()}/"
        named = folder in paths - {"pcodec/"} or module in paths
        assert named, f"{module} is not in the layout of CONTRIBUTING.md"


def test_every_folder_with_files_is_in_the_layout():
    paths = set(layout())
    for name in in_git():
        top = name.partition("/")[0]
        assert "/" not in name or f"{top}/" in paths, f"{top}/ is not in CONTRIBUTING.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_the_project_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    tops = "pcodec|models|tests|docs|benchmarks|.ci|.github"
    named = re.findall(rf"`((?:{tops})/[\w./-]*)`|`python ((?:{tops})/[\w./-]+)", text)
    for place in (a or b for a, b in named):
        assert (ROOT / place).exists(), place


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_leads_out_of_the_repository(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"`[^`\n]*\.\./shared|/work/|\.\./\.\./\.\./", text)
    for target in re.findall(r"\]\((?!\w+:)([^)#\s]+)", re.sub(r"```.*?```", "", text, flags=re.S)):
        path = (page.parent / target).resolve()
        if not (page.parent == ROOT / "docs" and target in ("changelog.md", "model-card.md")):
            assert path.is_relative_to(ROOT) and path.exists(), target


def test_the_version_is_said_once_and_the_same_elsewhere():
    version = pcodec.__version__
    assert "version" not in (ROOT / "pyproject.toml").read_text().partition("dynamic")[0]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[1]
    assert newest == version


def test_the_version_is_told_without_an_installation(tmp_path):
    # Without site-packages' own metadata: -S leaves only the clone and the packages by path.
    packages = [path for path in sys.path if "site-packages" in path]
    script = (
        "import sys, importlib.metadata as m\n"
        f"sys.path += {packages!r}\n"
        "def gone(name): raise m.PackageNotFoundError(name)\n"
        "m.version = m.distribution = gone\n"
        "import runpy; sys.argv = ['pcodec', '--version']\n"
        "runpy.run_module('pcodec', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"pcodec, version {pcodec.__version__}\n"
