import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pcodec

pytest.importorskip("mypy")

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def errors(pytestconfig):
    """(file, line, kind) of what mypy finds in the two programs beside this file."""
    cache = pytestconfig.cache.mkdir("mypy")
    # Not from the root: there pcodec would be the user's own source, and py.typed not asked for.
    run = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-color-output"]
    result = subprocess.run(
        [*run, "--cache-dir", cache, "user.py", "wrong.py"],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not result.stderr
    found = re.findall(r"^(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", result.stdout, re.MULTILINE)
    assert len(found) == result.stdout.count(": error: "), result.stdout
    return {(file, int(line), kind) for file, line, kind in found}


def test_a_users_program_passes_mypy_in_strict_mode(errors):
    assert not [error for error in errors if error[0] == "user.py"]


def test_the_users_program_uses_every_public_name():
    text = (HERE / "user.py").read_text()
    assert {name for name in pcodec.__all__ if f"pcodec.{name}" not in text} == set()


def test_mypy_finds_each_error_of_a_wrong_program_and_no_other(errors):
    lines = (HERE / "wrong.py").read_text().splitlines()
    marked = {
        ("wrong.py", number, line.partition("# E: ")[2])
        for number, line in enumerate(lines, 1)
        if "# E: " in line
    }
    assert len(marked) > 10
    assert {error for error in errors if error[0] == "wrong.py"} == marked
