"""How many cores there are for us, and threads."""

from __future__ import annotations

import os


def cores() -> int:
    """That this process may use: of a machine's, those that taskset, Slurm, ... leave it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(wanted: int | None) -> int:
    """As many threads as are wanted, or one a core; never more than the machine has cores.

    More would only wait for each other: ONNX Runtime's do so by spinning, which has no end.
    """
    return min(wanted or cores(), max(cores(), os.cpu_count() or 1))
