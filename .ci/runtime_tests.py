"""Tests what runs without the extras, with the newest packages or, --lowest, with the oldest.

    python .ci/runtime_tests.py [--lowest]

The newest come from pip. The oldest that pyproject.toml allows are chosen by uv, which must be
there; they have wheels for Python 3.11.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The stream's tests run on any system; those of the command line use signals and limits of Unix.
FOLDERS = ["tests/pcx", *(["tests/cli"] if sys.platform == "linux" else [])]
TOOLS = ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.90"]


def run(*command: Path | str, cwd: Path) -> None:
    """A command whose failure is this program's."""
    print("+", *command, flush=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run([str(word) for word in command], cwd=cwd, env=clean, check=True)


def main(lowest: bool) -> None:
    """Exits with an error if a test fails, or a package cannot be installed."""
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        folder = here / "venv"
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        if lowest:
            uv = shutil.which("uv")
            if uv is None:
                sys.exit("--lowest needs uv: pip install uv")
            run(uv, "venv", "--python", "3.11", folder, cwd=here)
            install = [uv, "pip", "install", "--python", python]
            run(*install, "--resolution", "lowest-direct", ROOT, cwd=here)
        else:
            venv.create(folder, with_pip=True)
            install = [python, "-m", "pip", "install", "--quiet"]
            run(*install, ROOT, cwd=here)
        run(*install, *TOOLS, cwd=here)
        # From a copy of the tests, so that the package is the installed one.
        shutil.copytree(ROOT / "tests", here / "tests")
        shutil.copy(ROOT / "pyproject.toml", here)
        run(python, "-m", "pytest", "-n", "auto", *FOLDERS, cwd=here)


if __name__ == "__main__":
    main("--lowest" in sys.argv)
