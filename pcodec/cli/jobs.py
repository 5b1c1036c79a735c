"""Finds the files that a command processes, and processes them."""

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
    """The contents of one or more folders."""

    files: list[Path]
    """Files of the type that the command reads."""
    passed_over: list[Path]
    """Files of other types, and links to folders."""
    unreadable: list[OSError]
    """One error per folder that could not be listed."""


class Jobs(NamedTuple):
    """The files that a command processes."""

    todo: list[tuple[Path, Path]]
    """(input, output) of each file to process."""
    many: bool
    """Whether the outputs go into a folder. Then a bad file does not stop the others."""
    existing: Sequence[tuple[Path, Path]] = ()
    """(input, output) of each file whose output exists, with --resume."""
    passed_over: Sequence[Path] = ()
    unreadable: Sequence[OSError] = ()
    """Both as in `Found`."""

    @property
    def parallel(self) -> bool:
        """Whether several files are processed at a time, each on one core."""
        return self.many and len(self.todo) > 1


class Outcome(NamedTuple):
    """The result of processing one file."""

    seconds: float
    """Seconds of audio."""
    damages: Sequence[str] = ()
    """Damages of the input, one line each."""
    losses: Sequence[str] = ()
    """What the output lacks although the input is intact, such as tags; one line each."""


def list_folder(folder: Path, is_input: Callable[[Path], bool]) -> Found:
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
    """The files among ``paths`` and in the folders among them, and the folder of each file.

    UsageError if there is a folder and ``recursive`` is False, or if no file is found.
    """
    found, roots = Found([], [], []), list[Path]()
    for path in paths:
        here = Found([path], [], [])
        if path != STREAM and path.is_dir():
            if not recursive:
                raise click.UsageError(f"{path} is a folder; give -r to take the files in it")
            here = list_folder(path, is_input)
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
    """Pairs inputs with outputs; UsageError, before any work, if the arguments do not fit.

    is_input: which files in a folder are inputs. is_output: which names an output may have, so
    that a second input is not taken for one.
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
    # An output that exists is complete: it gets its name last.
    pairs = list(zip(found.files, targets, strict=True))
    todo = [(source, target) for source, target in pairs if not (resume and target.is_file())]
    existing = [(source, target) for source, target in pairs if resume and target.is_file()]
    outputs = {os.path.abspath(target) for target in targets}  # noqa: PTH100 (links are kept)
    passed_over = [
        path
        for path in found.passed_over
        if os.path.abspath(path) not in outputs  # noqa: PTH100
    ]
    return Jobs(todo, True, existing, passed_over, found.unreadable)


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
            f"{target}: the suffix is not that of an output; for more than one input, give -d DIR"
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
    """The output of each file. Equal names keep their suffixes: a.wav.pcx and a.flac.pcx."""
    pairs = list(zip(sources, folders, strict=True))
    whole = [folder / (source.name + suffix) for source, folder in pairs]
    targets = [folder / _renamed(source, suffix) for source, folder in pairs]
    while True:
        counts = Counter(targets)
        kept = [w if counts[t] > 1 else t for w, t in zip(whole, targets, strict=True)]
        if kept == targets:
            break
        targets = kept
    if resume:  # the file whose equal name made another keep its suffix may have been removed
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
    """UsageError if --json or --rm meets a standard stream, or --rm a device."""
    for source, target in jobs.todo:
        if as_json and target == STREAM:
            raise click.UsageError("--json needs standard output, but the output goes there")
        for path in (source, target):
            if remove and (path == STREAM or (path.exists() and not path.is_file())):
                raise click.UsageError(f"--rm is for files, and {name_of(path)} is not a file")


def run_jobs(
    jobs: Jobs,
    threads: int | None,
    quiet: bool,
    as_json: bool,
    remove: bool,
    do: Callable[[Path, Path, Progress | None], Outcome],
) -> int:
    """Processes the files, and removes each input after it if ``remove``. Returns the exit code.

    A single file raises its error. Of many files, a bad one is reported and the others go on.
    do: processes one file (input, output, the progress bar that many files share).
    """
    umask()  # cached now: to read it later would change it for a moment in all threads
    tally = Tally(as_json)

    def one(source: Path, target: Path, bar: Progress | None) -> Outcome:
        before = source.stat() if remove else None
        outcome = do(source, target, bar)
        if before is not None and not (outcome.damages or outcome.losses):
            remove_source(source, target, before)
        elif before is not None and not quiet:
            click.echo(f"pcodec: {name_of(source)}: is kept, as its output is incomplete", err=True)
        return outcome

    def add(source: Path, target: Path, outcome: Outcome | str) -> None:
        if isinstance(outcome, str):  # the line of an error
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
            hint = ", --resume skips it" * isinstance(error, OutputExistsError)
            click.echo(f"pcodec: {error_line(error)}{hint}", err=True)
            return error_line(error)
        finally:
            bar.next_file(source)

    tally.add_passed_over(jobs.passed_over, quiet)
    tally.add_unreadable(jobs.unreadable)
    for source, target in jobs.existing:
        tally.add("there already", source, target)
    bar = Progress("all", None, quiet, [source for source, _ in jobs.todo])
    count = threads_for(threads) if jobs.parallel else 1
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
    """Whether a file name has a suffix of audio files."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def is_raw(path: Path) -> bool:
    """Whether a file name has a suffix of headerless samples."""
    return path.suffix.lower() in (".raw", ".pcm")


def is_pcx(path: Path) -> bool:
    """Whether a file name has the suffix .pcx."""
    return path.suffix.lower() == ".pcx"


def may_be_raw(path: Path) -> bool:
    """Whether a file of headerless samples may have this name: no suffix of audio, no .pcx."""
    return not (is_audio(path) or is_pcx(path))
