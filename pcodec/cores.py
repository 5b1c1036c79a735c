"""The number of cores and threads that this process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may use, within the limits of taskset, Slurm and the like."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(wanted: int | None) -> int:
    """The threads that are wanted (None: one per core), at most one per core of the machine.

    More threads than cores would wait for each other.
    """
    return min(wanted or cores(), max(cores(), os.cpu_count() or 1))
