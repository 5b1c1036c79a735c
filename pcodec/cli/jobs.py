"""Which files a command is to do, and doing them."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click

from pcodec.audio.formats import AUDIO_SUFFIXES
from pcodec.cli import error_line
from pcodec.cli.output import STREAM, OutputExistsError, name_of, remove_source, umask
from pcodec.cli.progress import Progress
from pcodec.cli.tally import Tally
from pcodec.cores import threads_for
from pcodec.errors import PcodecError


class Found(NamedTuple):
    """What is in a folder, or in several."""

    files: list[Path]
    """of the type that is wanted"""
    passed_over: list[Path]
    unreadable: list[OSError]
    """why folders could not be looked into"""


class Jobs(NamedTuple):
    """What there is to do."""

    todo: list[tuple[Path, Path]]
    """(input, output) of each file"""
    many: bool
    """whether a folder is filled, and a bad file does not stop the rest"""
    there: Sequence[tuple[Path, Path]] = ()
    """the same of files whose outputs are there already"""
    passed_over: Sequence[Path] = ()
    """files in folders that are of another type"""
    unreadable: Sequence[OSError] = ()

    @property
    def workers(self) -> bool:
        """Whether files are done side by side, each on one core."""
        return self.many and len(self.todo) > 1


class Outcome(NamedTuple):
    """What became of a file that was done."""

    seconds: float
    """of audio"""
    damages: Sequence[str] = ()
    losses: Sequence[str] = ()
    """What of a whole input did not come through, such as samples that were clipped."""


def look_into(folder: Path, is_input: Callable[[Path], bool]) -> Found:
    """The files below a folder, in the order of their names; links to folders are not followed."""
    files, passed_over, unreadable = list[Path](), list[Path](), list[OSError]()
    for here, folders, names in os.walk(folder, onerror=unreadable.append):
        passed_over += [path for name in folders if (path := Path(here, name)).is_symlink()]
        for name in names:
            path = Path(here, name)
            wanted = is_input(path) and (path.is_file() or not path.exists())
            (files if wanted else passed_over).append(path)
    return Found(sorted(files), sorted(passed_over), unreadable)


def find_files(
    paths: Sequence[Path], recursive: bool, is_input: Callable[[Path], bool]
) -> tuple[Found, list[Path]]:
    """The files of paths and of folders among them, and the folder that each was found in.

    UsageError if a folder is not to be looked into, or there is nothing to do.
    """
    found, roots = Found([], [], []), list[Path]()
    for path in paths:
        here = Found([path], [], [])
        if path != STREAM and path.is_dir():
            if not recursive:
                raise click.UsageError(f"{path} is a folder; give -r to take what is in it")
            here = look_into(path, is_input)
        roots += [path if path.is_dir() else path.parent] * len(here.files)
        found.files.extend(here.files)
        found.passed_over.extend(here.passed_over)
        found.unreadable.extend(here.unreadable)
    if not found.files and not found.unreadable:
        over = f" ({len(found.passed_over)} passed over)" if found.passed_over else ""
        raise click.UsageError(f"nothing to do in {', '.join(map(str, paths))}{over}")
    return found, roots


def find_jobs(
    paths: tuple[Path, ...],
    output: Path | None,
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
        return Jobs([_single(paths, output, suffix, is_output)], False)
    if output is not None:
        raise click.UsageError("-o and -d exclude each other")
    if STREAM in paths:
        raise click.UsageError("standard input cannot be used with -d")
    found, roots = find_files(paths, recursive, is_input)
    folders = [
        output_dir / path.parent.relative_to(root)
        for path, root in zip(found.files, roots, strict=True)
    ]
    targets = _targets(found.files, folders, suffix, resume)
    # An output appears under its name only when it is whole.
    pairs = list(zip(found.files, targets, strict=True))
    todo = [(source, target) for source, target in pairs if not (resume and target.is_file())]
    there = [(source, target) for source, target in pairs if resume and target.is_file()]
    outputs = {os.path.abspath(target) for target in targets}  # noqa: PTH100 (links are kept)
    passed_over = [
        path
        for path in found.passed_over
        if os.path.abspath(path) not in outputs  # noqa: PTH100
    ]
    return Jobs(todo, True, there, passed_over, found.unreadable)


def _single(
    paths: tuple[Path, ...],
    output: Path | None,
    suffix: str,
    is_output: Callable[[Path], bool],
) -> tuple[Path, Path]:
    """The one input, and its output."""
    if len(paths) > (2 if output is None else 1):
        raise click.UsageError("for more than one input, give -d DIR")
    source = paths[0]
    if not source.name:
        raise click.UsageError(f"{source}: not the name of a file")
    if len(paths) == 2:
        output = paths[1]
    if output is None:
        return source, STREAM if source == STREAM else source.with_name(_renamed(source, suffix))
    target = STREAM if output == Path("/dev/stdout") else output
    regular = target != STREAM and not (target.exists() and not target.is_file())
    if target.is_dir():
        raise click.UsageError(f"{target} is a folder; give it with -d")
    if regular and not is_output(target):
        raise click.UsageError(
            f"{target}: not a name for an output here; for more than one input, give -d DIR"
        )
    return source, target


def _renamed(source: Path, suffix: str) -> str:
    """The name of an output: a.wav becomes a.pcx; a.pcx and a.wav.pcx become a.wav."""
    bare = source.with_suffix("")
    if is_pcx(source) and bare.suffix.lower() == suffix:
        return bare.name
    return source.with_suffix(suffix).name


def _targets(
    sources: Sequence[Path], folders: Sequence[Path], suffix: str, resume: bool
) -> list[Path]:
    """The output of each file. Those of one name keep their suffixes: a.wav.pcx, a.flac.pcx."""
    pairs = list(zip(sources, folders, strict=True))
    whole = [folder / (source.name + suffix) for source, folder in pairs]
    targets = [folder / _renamed(source, suffix) for source, folder in pairs]
    while True:
        counts = Counter(targets)
        kept = [w if counts[t] > 1 else t for w, t in zip(whole, targets, strict=True)]
        if kept == targets:
            break
        targets = kept
    if resume:  # what once made a file keep all of its name may be gone
        taken = set(targets)
        targets = [
            w if w not in taken and w.is_file() else t for w, t in zip(whole, targets, strict=True)
        ]
    seen: dict[Path, Path] = {}
    for source, target in zip(sources, targets, strict=True):
        if target in seen:
            raise click.UsageError(
                f"{seen[target]} and {source} would both become {target}; give each its own -d"
            )
        seen[target] = source
    return targets


def check_streams(jobs: Jobs, as_json: bool, remove: bool) -> None:
    """UsageError if a stream is where --json or --rm can have none."""
    for source, target in jobs.todo:
        if as_json and target == STREAM:
            raise click.UsageError(
                "--json needs standard output, which the audio or stream goes to"
            )
        for path in (source, target):
            if remove and (path == STREAM or (path.exists() and not path.is_file())):
                raise click.UsageError(f"--rm is for files, and {name_of(path)} is none")


def run_jobs(
    jobs: Jobs,
    threads: int | None,
    quiet: bool,
    as_json: bool,
    remove: bool,
    do: Callable[[Path, Path, Progress | None], Outcome],
) -> int:
    """Does each job, and removes its source after it if that is wanted. Returns the exit code.

    One job raises its error; among many, a bad file is reported and the rest goes on.
    ``do`` is given the bar that many files share.
    """
    umask()  # which only a process that does nothing else can ask for
    tally = Tally(as_json)

    def one(source: Path, target: Path, bar: Progress | None) -> Outcome:
        before = source.stat() if remove else None
        outcome = do(source, target, bar)
        if before is not None and not (outcome.damages or outcome.losses):
            remove_source(source, target, before)
        elif before is not None and not quiet:
            click.echo(f"pcodec: {name_of(source)}: is kept, since not all came through", err=True)
        return outcome

    def add(source: Path, target: Path, outcome: Outcome | str) -> None:
        if isinstance(outcome, str):  # an error's line, not all that the error holds
            tally.add("failed", source, target, messages=[outcome])
        else:
            status = "damaged" if outcome.damages else "done"
            tally.add(status, source, target, outcome.seconds, outcome.damages)

    if not jobs.many:
        try:
            add(*jobs.todo[0], one(*jobs.todo[0], None))
        except (PcodecError, OSError, click.UsageError) as error:
            add(*jobs.todo[0], error_line(error))
            tally.finish(False)
            raise
        return tally.finish(False)

    def job(source: Path, target: Path) -> Outcome | str:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return one(source, target, bar)
        except (PcodecError, OSError, click.UsageError) as error:
            hint = ", --resume passes over it" * isinstance(error, OutputExistsError)
            click.echo(f"pcodec: {error_line(error)}{hint}", err=True)
            return error_line(error)
        finally:
            bar.next_file(source)

    tally.add_passed_over(jobs.passed_over, quiet)
    tally.add_unreadable(jobs.unreadable)
    for source, target in jobs.there:
        tally.add("there already", source, target)
    bar = Progress("all", None, quiet, [source for source, _ in jobs.todo])
    count = threads_for(threads) if jobs.workers else 1
    pool = ThreadPoolExecutor(count)
    with pool, contextlib.closing(bar):
        futures = [pool.submit(job, *files) for files in jobs.todo]
        try:
            for files, future in zip(jobs.todo, futures, strict=True):
                add(*files, future.result())
        except BaseException:
            bar.stopped = True
            pool.shutdown(cancel_futures=True)
            raise
    return tally.finish(bool(tally.code) or not quiet)


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
