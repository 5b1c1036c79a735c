"""The campaigns of docs/endurance.md, each for a moment: that they run, and still hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
    """What a script of the benchmarks prints; it fails if a promise is broken."""
    command = [sys.executable, ROOT / "benchmarks" / script, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks into /proc")
def test_memory_and_open_files_do_not_grow_with_the_number_of_files():
    rows = run("many_files.py", 40).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| encode",
        "| encode, all are there",
        "| decode",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
def test_kills_leave_no_half_file_and_break_no_later_command():
    text = run("kill.py", 6)
    assert "0 half files, 0 commands that failed after a kill" in text
    assert "killed while it wrote" in text and "1 command repeated in full" in text


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks into /proc")
def test_a_long_stream_is_written_read_and_entered_in_little_memory(tmp_path):
    text = run("week.py", tmp_path / "long.pcx", "--seconds", 3000)
    assert "93750 columns" in text and "every column as it was written" in text
    assert text.count("entered at column") == 4
