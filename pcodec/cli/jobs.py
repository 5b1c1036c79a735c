"""Which files a command is to do, and doing them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click

from pcodec.audio.formats import AUDIO_SUFFIXES
from pcodec.cli import EXIT_DAMAGED, EXIT_ERROR, error_line
from pcodec.cli.output import STREAM, umask
from pcodec.cli.progress import Progress
from pcodec.cores import threads_for
from pcodec.errors import PcodecError


class Jobs(NamedTuple):
    """What there is to do."""

    todo: list[tuple[Path, Path]]
    """(input, output) of each file"""
    many: bool
    """whether a folder is filled, and a bad file does not stop the rest"""
    done: int
    """files passed over, their outputs being there"""
    unreadable: tuple[OSError, ...] = ()
    """why folders could not be looked into"""

    @property
    def workers(self) -> bool:
        """Whether files are done side by side, each on one core."""
        return self.many and len(self.todo) > 1


def find_jobs(
    paths: tuple[Path, ...],
    output_dir: Path | None,
    recursive: bool,
    suffix: str,
    is_input: Callable[[Path], bool],
    is_output: Callable[[Path], bool],
    resume: bool = False,
) -> Jobs:
    """The files to do; raises UsageError before anything is done.

    `is_input` chooses files in a folder; `is_output` keeps an input from being taken for
    an output.
    """
    if output_dir is None:
        if recursive or resume:
            raise click.UsageError(f"{'-r' if recursive else '--resume'} needs -d DIR")
        if len(paths) > 2:
            raise click.UsageError("for more than one input, give -d DIR")
        source = paths[0]
        if not source.name:
            raise click.UsageError(f"{source}: not the name of a file")
        if len(paths) == 2:
            target = STREAM if paths[1] == Path("/dev/stdout") else paths[1]
            regular = target != STREAM and not (target.exists() and not target.is_file())
            if target.is_dir():
                raise click.UsageError(f"{target} is a folder; give it with -d")
            if regular and not is_output(target):
                raise click.UsageError(
                    f"{target}: not a name for an output here; for more than one input, give -d DIR"
                )
        else:
            target = STREAM if source == STREAM else source.with_suffix(suffix)
        return Jobs([(source, target)], False, 0)
    found: list[tuple[Path, Path]] = []
    unreadable: list[OSError] = []
    for path in paths:
        if path == STREAM:
            raise click.UsageError("standard input cannot be used with -d")
        if path.is_dir():
            if not recursive:
                raise click.UsageError(f"{path} is a folder; give -r to take what is in it")
            tree = os.walk(path, onerror=unreadable.append)  # links to folders are not followed
            here = (Path(folder, name) for folder, _, names in tree for name in names)
            files = sorted(p for p in here if is_input(p) and (p.is_file() or not p.exists()))
            found += [(p, output_dir / p.relative_to(path).with_suffix(suffix)) for p in files]
        else:
            found.append((path, output_dir / path.with_suffix(suffix).name))
    if not found and not unreadable:
        raise click.UsageError(f"nothing to do in {', '.join(map(str, paths))}")
    targets: dict[Path, Path] = {}
    for source, target in found:
        if target in targets:
            raise click.UsageError(f"{targets[target]} and {source} would both become {target}")
        targets[target] = source
    # An output appears under its name only when it is whole.
    todo = [(source, target) for source, target in found if not (resume and target.is_file())]
    return Jobs(todo, True, len(found) - len(todo), tuple(unreadable))


def run_jobs(
    jobs: Jobs,
    threads: int | None,
    quiet: bool,
    do: Callable[[Path, Path, Progress | None], bool],
) -> int:
    """Does each job; ``do`` says whether its input was whole. Returns the exit code.

    One job raises its error; among many, a bad file is reported and the rest goes on.
    ``do`` is given the bar that many files share.
    """
    umask()  # which only a process that does nothing else can ask for
    if not jobs.many:
        return 0 if do(*jobs.todo[0], None) else EXIT_DAMAGED

    def job(source: Path, target: Path) -> int:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return 0 if do(source, target, bar) else EXIT_DAMAGED
        except (PcodecError, OSError, click.UsageError) as error:
            click.echo(f"pcodec: {error_line(error)}", err=True)
            return EXIT_ERROR
        finally:
            bar.next_file()

    for error in jobs.unreadable:
        click.echo(f"pcodec: {error_line(error)}", err=True)
    bar = Progress("all", None, quiet, len(jobs.todo))
    count = threads_for(threads) if jobs.workers else 1
    pool = ThreadPoolExecutor(count)
    with pool, contextlib.closing(bar):
        futures = [pool.submit(job, *files) for files in jobs.todo]
        try:
            codes = [future.result() for future in futures]
        except BaseException:
            bar.stopped = True
            pool.shutdown(cancel_futures=True)
            raise
    failed, damaged = codes.count(EXIT_ERROR), codes.count(EXIT_DAMAGED)
    counts = [f"{len(codes) - failed - damaged} ok"]
    failed += len(jobs.unreadable)
    counts += [f"{jobs.done} there already"] * bool(jobs.done)
    counts += [f"{damaged} damaged"] * bool(damaged) + [f"{failed} failed"] * bool(failed)
    if failed or damaged or not quiet:
        click.echo(", ".join(counts), err=True)
    return EXIT_ERROR if failed else EXIT_DAMAGED if damaged else 0


def is_audio(path: Path) -> bool:
    """Whether a name is that of an audio file."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def is_raw(path: Path) -> bool:
    """Whether a name is that of headerless samples."""
    return path.suffix.lower() in (".raw", ".pcm")


def is_pcx(path: Path) -> bool:
    """Whether a name is that of a coded file."""
    return path.suffix.lower() == ".pcx"


def is_neither(path: Path) -> bool:
    """Whether a name promises no kind of file that headerless samples are not."""
    return not (is_audio(path) or is_pcx(path))
