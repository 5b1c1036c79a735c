"""Commands that are killed while they write: never a half file under a final name.

    python benchmarks/kill.py [TIMES] [--seed N]

Each turn begins a command in a process of its own and ends it by SIGKILL: mostly while its
output is being written, at a random moment of that, else at a random moment of the whole run.
After each kill every name must hold what it held before, or all of what it is to hold; after each
sixth the same command must succeed beside what the killed ones left. Needs os.fork. Writes the
counts.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile

# So that each process has them already. None of them is used here: what has run networks once
# must not be forked.
from pcodec.cli import main as command_line

SECONDS, FILES = 1.0, 3
"""of speech; of the command that fills a folder"""
TICK = 0.002
"""seconds between two looks at a folder"""
OLD = b"what was there before"


class Case(NamedTuple):
    """A command, and what it leaves."""

    name: str
    arguments: list[str]
    again: list[str]
    """the same after a kill"""
    outputs: dict[Path, bytes | None]
    """what the outputs hold before"""


def begin(arguments: list[str]) -> int:
    """Runs the command line in a new process; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        sys.argv = ["pcodec", *arguments]
        command_line()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def parts(case: Case) -> set[str]:
    """What is being written beside the outputs, or was when it was killed."""
    folder = next(iter(case.outputs)).parent
    names = os.listdir(folder) if folder.exists() else []  # noqa: PTH208 (it is asked often)
    return {name for name in names if name.startswith(".pcodec-") and name.endswith(".part")}


def follow(case: Case, pid: int, seconds: float) -> tuple[float | None, int | None]:
    """Watches a process for so long: seconds until it wrote, and its status once it ended."""
    before, started, wrote = parts(case), time.perf_counter(), None
    while (now := time.perf_counter() - started) < seconds:
        if wrote is None and parts(case) - before:
            wrote = now
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return wrote, status
        time.sleep(TICK)
    return wrote, None


def run(case: Case, arguments: list[str]) -> tuple[float, float]:
    """Runs a command to its end; seconds until it wrote, and from then until it ended."""
    started = time.perf_counter()
    wrote, status = follow(case, begin(arguments), float("inf"))
    took = time.perf_counter() - started
    assert status is not None and os.waitstatus_to_exitcode(status) == 0, f"{case.name} failed"
    return wrote or took, took - (wrote or 0)


def reset(case: Case) -> None:
    """Puts the outputs back to what they were."""
    for path, content in case.outputs.items():
        path.unlink(missing_ok=True)
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def cases(folder: Path, speech: Path) -> list[Case]:
    """The commands, with their inputs made."""
    inputs = folder / "in"
    (inputs / "many").mkdir(parents=True)
    samples, rate = soundfile.read(speech, dtype="float32")
    size = round(SECONDS * rate)
    wav, pcx = inputs / "speech.wav", inputs / "speech.pcx"
    soundfile.write(wav, samples[:size], rate)
    for k in range(FILES):
        soundfile.write(
            inputs / "many" / f"{k}.wav", np.roll(samples, -k * size)[: size // 4], rate
        )
    made = Case("made", ["encode", str(wav), str(pcx)], [], {pcx: None})
    run(made, made.arguments)
    out = folder / "many"
    many: dict[Path, bytes | None] = {out / f"{k}.pcx": None for k in range(FILES)}
    fill = ["encode", "-r", "-d", str(out), str(inputs / "many")]

    def case(name: str, content: bytes | None, *arguments: str) -> Case:
        path = folder / name / f"out{'.pcx' if arguments[0] == 'encode' else '.flac'}"
        path.parent.mkdir()
        words = [*arguments, str(path)]
        return Case(name, words, words, {path: content})

    return [
        case("encode", None, "encode", str(wav)),
        case("encode -f", OLD, "encode", "-f", str(wav)),
        case("decode", None, "decode", str(pcx)),
        case("decode -f", OLD, "decode", "-f", str(pcx)),
        Case("encode -r -d", fill, [*fill, "--resume"], many),
    ]


def kill(case: Case, moments: tuple[float, float], r: random.Random) -> tuple[bool, bool]:
    """Begins a command and kills it; whether the kill came in time, and while it wrote."""
    before, (wrote, writing) = parts(case), moments
    pid = begin(case.arguments)
    status = None
    if r.random() < 0.8:
        while status is None and not parts(case) - before:
            _, status = follow(case, pid, TICK)
        moment = r.uniform(0, writing)
    else:
        moment = r.uniform(0, wrote + writing)
    if status is None:
        _, status = follow(case, pid, moment)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL, bool(parts(case) - before)


def check(case: Case, wanted: dict[Path, bytes]) -> bool:
    """Whether all outputs are there; AssertionError if one is there by half, or a strange file."""
    whole = True
    for path, old in case.outputs.items():
        content = path.read_bytes() if path.exists() else None
        assert content in (old, wanted[path]), f"{case.name}: half a file under {path.name}"
        whole = whole and content == wanted[path]
    folder = next(iter(case.outputs)).parent
    there = set(folder.iterdir()) if folder.exists() else set()
    strange = {path.name for path in there - set(case.outputs)} - parts(case)
    assert not strange, f"{case.name}: left {strange}"
    return whole


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("times", type=int, nargs="?", default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speech", type=Path, default=Path("tests/speech.flac"))
    arguments = parser.parse_args()
    r, counts = random.Random(arguments.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        todo, wanted, moments = cases(Path(name), arguments.speech), {}, {}
        for case in todo:
            reset(case)
            moments[case.name] = run(case, case.arguments)
            wanted |= {path: path.read_bytes() for path in case.outputs}
        kills = 0
        while kills < arguments.times:
            case = todo[sum(counts.values()) % len(todo)]
            reset(case)
            killed, writing = kill(case, moments[case.name], r)
            whole = check(case, wanted)
            kills += killed
            counts[
                "ended before the kill"
                if not killed
                else "killed after the output had its name"
                if whole
                else "killed while it wrote"
                if writing
                else "killed before it wrote"
            ] += 1
            if killed and kills % 6 == 0:
                for path in case.outputs if case.again == case.arguments else ():
                    path.unlink(missing_ok=True)  # what a kill left whole would be kept
                # A busy machine changes its pace: the next kill comes by the latest measure.
                moments[case.name] = run(case, case.again)
                assert check(case, wanted), f"{case.name}: wrong after a kill"
                counts["command repeated in full"] += 1
        litter = sum(len(parts(case)) for case in todo)
    for what, count in sorted(counts.items()):
        print(f"{count} {what}")
    print(f"0 half files, 0 commands that failed after a kill; {litter} .part files left")


if __name__ == "__main__":
    main()
