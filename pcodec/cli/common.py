"""What commands share: options, lists of jobs, safe writing, progress."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import click
from tqdm import tqdm

from pcodec.audio.formats import AUDIO_SUFFIXES
from pcodec.cli import EXIT_DAMAGED, EXIT_ERROR, discard_output, error_line
from pcodec.cores import cores
from pcodec.errors import PcodecError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

STREAM = Path("-")


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several option decorators as one."""

    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class _Anything(click.Path):
    """A file, or "-"; one that cannot be read is found out when it is its turn."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, allow_dash=True, readable=False)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        path = super().convert(value, param, ctx)
        # A file of that name, which pathlib would take for the stream.
        return Path.cwd() / path if path == STREAM and os.fspath(value) != "-" else path


_anything = _Anything()
paths_argument = click.argument("paths", nargs=-1, required=True, type=_anything)
files_argument = click.argument("files", nargs=-1, required=True, type=_anything)
output_options = options(
    click.option(
        "-d",
        "--output-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Take many inputs; write the outputs here.",
    ),
    click.option(
        "-r", "--recursive", is_flag=True, help="Take folders; mirror their tree under -d."
    ),
    click.option("-f", "--force", is_flag=True, help="Replace an existing output."),
    click.option("--resume", is_flag=True, help="With -d: pass over what is there already."),
)
run_options = options(
    click.option("--model", metavar="NAME|DIR", help="Model to use (see `pcodec models`)."),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Where the networks run; cuda needs onnxruntime-gpu.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        help="CPU threads (default: one a core; of a single file up to 8).",
    ),
    click.option("-q", "--quiet", is_flag=True, help="No progress, no summary; errors only."),
    click.option("-v", "--verbose", is_flag=True, help="Say more."),
)
raw_options = options(
    click.option("--raw", is_flag=True, help="Headerless mono PCM instead of an audio file."),
    click.option(
        "--format",
        "raw_format",
        type=click.Choice(["s16le", "s32le", "f32le"]),
        help="Sample format with --raw (default: s16le).",
    ),
)


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


def jobs(
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


class Progress:
    """A bar in seconds of audio, on stderr, if that is a terminal.

    Of many files done side by side all share one bar, and one word to stop.
    """

    def __init__(self, name: str, seconds: float | None, quiet: bool, files: int = 1) -> None:
        self.stopped = False
        self._lock, self._files, self._done = threading.Lock(), files, 0
        layout = "{desc}: {n:.1f}/{total_fmt} s {bar:20} [{elapsed}, {rate_fmt} real time]"
        if files > 1:
            layout = "{desc}: {postfix[0]}/{postfix[1]} files, {postfix[2]:.3f} h of audio"
            layout += " [{elapsed}, {rate_fmt} real time]"
        self._bar: Any = tqdm(
            desc=name,
            total=None if seconds is None else round(seconds, 2),
            unit="s",
            disable=quiet or sys.stderr is None or not sys.stderr.isatty(),
            bar_format=layout,
            postfix=[0, files, 0.0] if files > 1 else None,
            leave=False,
        )

    def update(self, seconds: float) -> None:
        """So much more is done; raises KeyboardInterrupt if all is to stop."""
        if self.stopped:
            raise KeyboardInterrupt
        with self._lock:
            self._bar.update(seconds)
            if self._files > 1 and not self._bar.disable:
                self._bar.postfix[2] = self._bar.n / 3600

    def next_file(self) -> None:
        """One more file is done."""
        with self._lock:
            self._done += 1
            if self._files > 1 and not self._bar.disable:
                self._bar.postfix[0] = self._done

    def close(self) -> None:
        self._bar.close()


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
    _umask()  # which only a process that does nothing else can ask for
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
    count = (threads or cores()) if jobs.workers else 1
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


@cache
def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def name_of(source: Path) -> str:
    """What an input is called in messages."""
    return "standard input" if source == STREAM else str(source)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Puts the name of a file before the text of any error."""
    name = name_of(path)
    try:
        yield
    except (PcodecError, OSError) as error:
        known = error.names_file if isinstance(error, PcodecError) else error.filename
        if known or isinstance(error, BrokenPipeError):
            raise
        kind = type(error) if isinstance(error, PcodecError) else PcodecError
        text = error_line(error)
        raise kind.of_file(name, text.removeprefix(f"{name}: ")) from error


def unbuffered_stdin() -> BinaryIO:
    """Standard input, giving what there is as it arrives."""
    if sys.stdin is None:
        raise PcodecError.of_file("standard input", "closed")
    return cast(BinaryIO, Arriving(os.dup(sys.stdin.fileno()), "rb"))


class Arriving(io.FileIO):
    """Standard input; where it does not block, for which `read` has None, it is waited for."""

    def read(self, size: int | None = -1) -> bytes:
        while (data := super().read(size)) is None:
            select.select([self], [], [])
        return data


class Appended(io.FileIO):
    """Standard output that appends to a file: whatever is written there cannot be mended."""

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        """All of it: on a disk that fills up, the rest is an error, not a count."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while len(rest):
            rest = rest[super().write(rest) or 0 :]
        return size


@contextlib.contextmanager
def open_input(path: Path) -> Iterator[BinaryIO]:
    """A file, or standard input."""
    if path == STREAM:
        with unbuffered_stdin() as stdin:
            yield stdin
        return
    if path.is_dir():
        raise PcodecError(f"{path}: is a folder")
    with path.open("rb") as file:
        yield file


@contextlib.contextmanager
def open_output(path: Path, source: Path, force: bool) -> Iterator[BinaryIO]:
    """A file that appears under its name only when all has been written, or standard output."""
    if path == STREAM:
        if sys.stdout is None:
            raise PcodecError.of_file("standard output", "closed")
        if sys.stdout.isatty():
            raise _terminal()
        with named(Path("standard output")):
            if fcntl is not None and fcntl.fcntl(sys.stdout, fcntl.F_GETFL) & os.O_APPEND:
                yield cast(BinaryIO, Appended(sys.stdout.fileno(), "wb", closefd=False))
                return
            try:
                yield sys.stdout.buffer
                sys.stdout.buffer.flush()
            except OSError:
                discard_output()
                raise
        return
    if path.exists() and not path.is_file():  # a device or a pipe, which has no other name
        with named(path), path.open("wb") as file:
            if file.isatty():
                raise _terminal()
            yield file
        return
    path = Path(os.path.realpath(path))  # a link stays, what it leads to is replaced
    if path.exists():
        if source != STREAM and source.exists() and path.samefile(source):
            raise click.UsageError(f"{path}: input and output are the same file")
        if not force:
            raise _exists(path)
    try:
        handle, name = tempfile.mkstemp(".part", ".pcodec-", path.parent)
    except OSError as error:
        raise PcodecError.of_file(path, error.strerror or str(error)) from error
    part = Path(name)
    try:
        with named(path), os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        with named(path):
            _put(part, path, force)
    finally:
        part.unlink(missing_ok=True)


def _put(part: Path, path: Path, force: bool) -> None:
    """Gives a finished file its name; unless forced, never the name of another one."""
    if not force:
        try:
            path.hardlink_to(part)
            return
        except FileExistsError:
            raise _exists(path) from None
        except OSError:  # a file system without links
            if path.exists():
                raise _exists(path) from None
    part.replace(path)


def _terminal() -> click.UsageError:
    return click.UsageError("binary data is not written to a terminal; name an output file")


def _exists(path: Path) -> PcodecError:
    return PcodecError.of_file(path, "exists; -f replaces it")


@contextlib.contextmanager
def progress(
    name: Path, seconds: float | None, quiet: bool, shared: Progress | None
) -> Iterator[Progress]:
    """The bar of a file, or the one that many share."""
    if shared is not None:
        yield shared
        return
    with contextlib.closing(Progress(name.name, seconds, quiet)) as bar:
        yield bar


def summary(target: Path, seconds: float, started: float) -> None:
    """One line about a finished job."""
    took = time.perf_counter() - started
    click.echo(f"{target}: {seconds:.2f} s at {seconds / took:.0f} times real time", err=True)


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
