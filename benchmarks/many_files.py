"""Ten thousand files in one call: memory and open files must not grow.

    python benchmarks/many_files.py [FILES]

Makes tiny audio files and runs `pcodec encode -r -d` over all of them in one call, once more when
all outputs are there (each file is then an error), and `pcodec decode -r -d`. Looks at the process
from outside while it works, so it needs /proc. Writes a markdown table; fails if anything grows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

RATE, SAMPLES, FOLDERS = 16000, 480, 100
"""Hz; of a file: less than a column; among which the files are spread"""
ROOM = 8.0
"""MB that the memory may grow in the second half of a command"""


class Look(NamedTuple):
    """A process at one moment."""

    memory: float
    """MB"""
    descriptors: int


def look(pid: int) -> Look | None:
    """The process now; None if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (OSError, IndexError):
        return None
    return Look(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, descriptors) if pages else None


def run(command: str, source: Path, out: Path, code: int) -> list[Look]:
    """Runs a command over a folder; what it looked like from its first error or output on."""
    arguments = ["-m", "pcodec", command, "-q", "-r", "-d", str(out), str(source)]
    looks: list[Look] = []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([sys.executable, *arguments], stderr=errors)
        while process.poll() is None:
            time.sleep(0.005)
            begun = os.fstat(errors.fileno()).st_size or (
                not code and (looks or any(out.rglob("*.*")))
            )
            if begun and (now := look(process.pid)):
                looks.append(now)
    assert process.returncode == code, f"{command} gave {process.returncode}"
    names = sorted(path.relative_to(source).with_suffix("") for path in source.rglob("*.*"))
    there = sorted(path.relative_to(out).with_suffix("") for path in out.rglob("*.*"))
    assert there == names, f"{command}: outputs are missing"
    return looks


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="?", default=10_000)
    count = parser.parse_args().files
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, SAMPLES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k in range(count):
            path = folder / "in" / f"{k % FOLDERS}" / f"{k}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.roll(noise, k), RATE)
        print("| command | seconds | memory in the first half, MB | in the second | open files |")
        print("|---|---|---|---|---|")
        for name, command, source, out, code in (
            ("encode", "encode", "in", "coded", 0),
            ("encode, all are there", "encode", "in", "coded", 1),
            ("decode", "decode", "coded", "decoded", 0),
        ):
            started = time.perf_counter()
            looks = run(command, folder / source, folder / out, code)
            took = time.perf_counter() - started
            assert len(looks) > 4, "too few files to see anything"
            half = len(looks) // 2
            before, after = (max(x.memory for x in part) for part in (looks[:half], looks[half:]))
            files = max(now.descriptors for now in looks)
            print(f"| {name} | {took:.0f} | {before:.0f} | {after:.0f} | {files} |")
            assert after - before < ROOM, f"{name}: the memory grew"
            assert files < 64, f"{name}: {files} open files"


if __name__ == "__main__":
    main()
