"""The engine "ray": makes shards of tokens on a cluster whose machines see the same files."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pcodec.errors import PcodecError
from pcodec.tokens.job import Job, Step
from pcodec.tokens.rows import Tokenizer
from pcodec.tokens.sources import Part


class Worker:
    """An actor with a loaded model; it makes whole shards."""

    def __init__(self, job: Job, model: str | None) -> None:
        self.job, self.tokenizer = job, Tokenizer(model)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Makes a shard; returns the progress."""
        part: Part = pickle.loads(row["part"])
        rows = [self.tokenizer(clip) for clip, _ in part()]
        self.job.write(row["shard"], rows)
        return {
            "clips": len(rows),
            "failed": sum(done.error is not None for done in rows),
            "seconds": sum(done.seconds for done in rows),
        }


def run(
    job: Job, todo: Mapping[int, Part], model: str | None, workers: int | None, address: str | None
) -> Iterator[Step]:
    """Makes shards in parallel; yields the progress.

    If a worker or its machine is lost, another one makes its shard again. workers: most
    processes; None for one per core of the cluster. address: of the cluster; None to start one on
    this machine. PcodecError if Ray is not installed, or fails.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy
        from ray.exceptions import RayError
    except ImportError as error:
        text = f"--engine ray needs pip install 'pcodec-speech[ray]' ({error})"
        raise PcodecError(text) from error
    if not todo:
        return
    if model is not None and Path(model).is_dir():
        model = str(Path(model).resolve())
    ours = not ray.is_initialized()
    try:
        if ours:
            ray.init(address, logging_level="ERROR", log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        workers = workers or int(ray.cluster_resources()["CPU"])
        shards = [{"shard": i, "part": pickle.dumps(part)} for i, part in todo.items()]
        done = ray.data.from_items(shards, override_num_blocks=len(shards)).map(
            Worker,
            fn_constructor_args=(job, model),
            compute=ActorPoolStrategy(min_size=1, max_size=min(workers, len(shards))),
            num_cpus=1,
        )
        for row in done.iter_rows():
            yield Step(1.0, row["clips"], row["failed"], row["seconds"])
    except (RayError, ConnectionError) as error:
        raise PcodecError(f"Ray: {' '.join(str(error).split())}") from error
    finally:
        if ours:
            ray.shutdown()
