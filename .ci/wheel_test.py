"""Builds the wheel from the sources' archive, installs it alone, and tries it: `make wheel-test`.

    python .ci/wheel_test.py [FOLDER]

Runs on any system with Python alone. The archive and the wheel are left in FOLDER (dist/).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEECH = ROOT / "tests" / "speech.flac"
WANTED = {
    "pcodec/py.typed",
    "pcodec/report/report.html",
    "pcodec/models/speech16k/config.json",
    "pcodec/models/speech16k/encoder.safetensors",
    "pcodec/models/speech16k/encoder.onnx",
}
FRAMES = 72880
"""samples of the sentence in tests/"""


def environment(folder: Path) -> Path:
    """A bare environment's folder of programs."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if os.name == "nt" else "bin")


def run(*command: Path | str, cwd: Path) -> str:
    """What a command prints; its failure is this program's."""
    print("+", *command, flush=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=clean, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def main(dist: Path) -> None:
    """Exits with an error at the first thing that is not as it should be."""
    with tempfile.TemporaryDirectory() as temporary:
        # Not where the sources lie: they would be imported in the wheel's place.
        here = Path(temporary)
        builder = environment(here / "builder")
        run(builder / "python", "-m", "pip", "install", "--quiet", "build", cwd=here)
        run(builder / "python", "-m", "build", "--outdir", here / "dist", ROOT, cwd=here)
        (wheel,) = (here / "dist").glob("*.whl")
        names = set(zipfile.ZipFile(wheel).namelist())
        assert names >= WANTED, f"not in the wheel: {sorted(WANTED - names)}"
        manual = {name for name in names if "/share/man/man1/pcodec" in name}
        assert len(manual) > 5, "the wheel has no manual pages"
        strangers = {name for name in names if not name.startswith(("pcodec/", "pcodec_speech-"))}
        assert not strangers, f"in the wheel: {sorted(strangers)}"

        programs = environment(here / "user")
        pip = [programs / "python", "-m", "pip"]
        run(*pip, "install", "--quiet", wheel, cwd=here)
        run(*pip, "check", cwd=here)
        pcodec = programs / "pcodec"
        version = run(
            programs / "python", "-c", "import pcodec; print(pcodec.__version__)", cwd=here
        )
        assert version.strip() in wheel.name
        assert version in run(pcodec, "--version", cwd=here)
        assert "speech16k" in run(pcodec, "models", cwd=here)
        run(pcodec, "encode", SPEECH, "out.pcx", cwd=here)
        about = json.loads(run(pcodec, "info", "--json", "out.pcx", cwd=here))
        assert about["codec_bit_rate"] == 7500 and about["damage"] == [], about
        run(pcodec, "verify", "--full", "out.pcx", cwd=here)
        run(pcodec, "decode", "out.pcx", "rec.wav", cwd=here)
        samples = (here / "rec.wav").stat().st_size // 2 - 22
        assert samples == FRAMES, f"{samples} samples"

        dist.mkdir(exist_ok=True)
        for path in (here / "dist").iterdir():
            (dist / path.name).write_bytes(path.read_bytes())
            print(dist / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
