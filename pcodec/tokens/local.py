"""The engine "local": makes shards of tokens in processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import NamedTuple, TypeVar

from pcodec.errors import PcodecError
from pcodec.tokens.job import Job, Step
from pcodec.tokens.rows import Row, Tokenizer
from pcodec.tokens.sources import Clip, Part

CLIPS_AHEAD = 4
"""Clips per process that are read ahead, so that no process waits."""
_T = TypeVar("_T")


class _Pending(NamedTuple):
    """A clip that is being encoded, or, if ``row`` is None, the end of a shard."""

    shard: int
    done: float
    """Share of the shard that is done after this clip."""
    row: Callable[[], Row] | None


def run(job: Job, todo: Mapping[int, Part], model: str | None, workers: int) -> Iterator[Step]:
    """Makes the shards one by one, their clips in parallel; yields the progress.

    PcodecError if a process dies. OSError if an output cannot be written or a remote input
    cannot be reached. Finished shards stay.
    """
    with _coder(model, workers) as begin:
        rows: list[Row] = []
        before = 0.0
        for shard, done, row in _ahead(_all(todo, begin), CLIPS_AHEAD * workers):
            if row is None:
                job.write(shard, rows)
                yield Step(1.0 - before, 0, 0, 0.0)
                rows, before = [], 0.0
            else:
                rows.append(row())
                yield Step(done - before, 1, rows[-1].error is not None, rows[-1].seconds)
                before = done


def _all(
    todo: Mapping[int, Part], begin: Callable[[Clip], Callable[[], Row]]
) -> Iterator[_Pending]:
    for shard, part in todo.items():
        for clip, done in part():
            yield _Pending(shard, done, begin(clip))
        yield _Pending(shard, 1.0, None)


def _ahead(items: Iterable[_T], count: int) -> Iterator[_T]:
    """The items in order, with ``count`` of them read ahead."""
    waiting: deque[_T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


@contextlib.contextmanager
def _coder(model: str | None, workers: int) -> Iterator[Callable[[Clip], Callable[[], Row]]]:
    """A function that starts a clip and returns a function that waits for its row."""
    if workers == 1:
        yield partial(partial, Tokenizer(model))
        return
    # spawn, since a fork would copy memory that threads of this process are changing.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start, (model,))
    try:
        yield lambda clip: pool.submit(_code, clip).result
    except BrokenProcessPool as error:
        text = "a worker process died, perhaps for lack of memory; the same command continues"
        raise PcodecError(text) from error
    finally:
        pool.shutdown(cancel_futures=True)


_tokenizer: Tokenizer


def _start(model: str | None) -> None:
    """Prepares a worker: it ignores Ctrl-C, which the parent handles, and ends with the parent."""
    global _tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _tokenizer = Tokenizer(model)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _code(clip: Clip) -> Row:
    return _tokenizer(clip)
