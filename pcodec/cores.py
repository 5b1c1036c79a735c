"""How many cores there are for us."""

from __future__ import annotations

import os


def cores() -> int:
    """That this process may use: of a machine's, those that taskset, Slurm, ... leave it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
