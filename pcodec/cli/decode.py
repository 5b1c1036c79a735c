"""``pcodec decode``"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click

from pcodec import models
from pcodec.audio.formats import AUDIO_SUFFIXES, SUBTYPES
from pcodec.cli import options
from pcodec.cli.jobs import (
    Outcome,
    check_streams,
    find_jobs,
    is_audio,
    is_pcx,
    may_be_raw,
    run_jobs,
)
from pcodec.cli.output import STREAM, name_of, named, open_input, open_output
from pcodec.cli.progress import Progress, progress, summary


class Time(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """Seconds, mm:ss.s or hh:mm:ss.s"""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        if not re.fullmatch(r"(\d+:){0,2}(\d+\.?\d*|\.\d+)", value):
            self.fail(f"{value!r} is not a time such as 12.5 or 1:02.5", param, ctx)
        seconds = 0.0
        for part in value.split(":"):
            seconds = seconds * 60 + float(part)
        if seconds > 1e9:
            self.fail(f"{value} is more than 1e9 seconds", param, ctx)
        return seconds


def check_subtype(subtype: str, suffixes: set[str]) -> None:
    """UsageError if the files with one of these suffixes cannot have this sample format."""
    import soundfile

    for kind in sorted(AUDIO_SUFFIXES.get(suffix, "WAV") for suffix in suffixes):
        if subtype.upper() not in soundfile.available_subtypes(kind):
            known = ", ".join(soundfile.available_subtypes(kind))
            raise click.UsageError(f"--subtype {subtype}: the subtypes of {kind} are {known}")


@click.command()
@options.paths_argument([".pcx"])
@options.output_options
@click.option(
    "--to",
    type=click.Choice([suffix[1:] for suffix in AUDIO_SUFFIXES]),
    help="File type of outputs without a given name, and of standard output.  [default: wav]",
)
@click.option("--start", type=Time(), default=0.0, help="Where to start, in seconds or mm:ss.s.")
@click.option("--end", type=Time(), help="Where to stop.")
@click.option("--duration", type=Time(), help="How much to decode.")
@click.option(
    "--rate",
    type=click.IntRange(1000, 768000),
    help="Sample rate of the output in Hz (default: the source's).",
)
@click.option(
    "--subtype", help="Sample format of the output, such as PCM_24 (default: the file type's)."
)
@click.option(
    "--on-error",
    type=click.Choice(["conceal", "silence", "stop"]),
    default="conceal",
    show_default=True,
    help="What to do where the input is damaged.",
)
@click.option(
    "--vocoder",
    type=click.Choice(models.VOCODERS),
    default="spectral",
    show_default=True,
    help="Network that turns mels into sound; `pcodec models` lists those of each model.",
)
@options.raw_options
@options.run_options
def decode(
    paths: tuple[Path, ...],
    output: Path | None,
    output_dir: Path | None,
    recursive: bool,
    force: bool,
    resume: bool,
    remove: bool,
    as_json: bool,
    to: str | None,
    start: float,
    end: float | None,
    duration: float | None,
    rate: int | None,
    subtype: str | None,
    on_error: str,
    vocoder: str,
    raw: bool,
    raw_format: str | None,
    model: str | None,
    device: str,
    threads: int | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Decode .pcx into audio: IN [OUT], or many inputs with -d DIR.

    The suffix of OUT, or --to, chooses the file type. "-" is standard input or output (WAV
    unless --to or --raw say otherwise). A damaged input is decoded all the same, its lost parts
    are listed on standard error, and the exit code is 3. The output keeps the modification time
    of IN, and the tags that its own file type can hold.

    Examples:

    \b
      pcodec decode talk.pcx
      pcodec decode talk.pcx part.wav --start 1:30 --duration 20
      pcodec decode -r -d decoded coded --to flac
      pcodec decode talk.pcx - | aplay
    """
    if duration is not None:
        if end is not None:
            raise click.UsageError("--end and --duration exclude each other")
        end = start + duration
    if end is not None and end < start:
        raise click.UsageError("--end is before --start")
    if raw_format and not raw:
        raise click.UsageError("--format is for --raw; see --subtype")
    if raw and subtype:
        raise click.UsageError("--subtype is for audio files; with --raw, give --format")
    if raw and to:
        raise click.UsageError("--to and --raw exclude each other")
    if remove and (start or end is not None):
        raise click.UsageError("--rm is for whole files, not for parts of them")
    is_output = may_be_raw if raw else is_audio
    suffix = ".raw" if raw else f".{to or 'wav'}"
    jobs = find_jobs(paths, output, output_dir, recursive, suffix, is_pcx, is_output, resume)
    check_streams(jobs, as_json, remove)
    if (
        to
        and not jobs.many
        and jobs.todo[0][1] != STREAM
        and jobs.todo[0][1] in (*paths[1:], output)
    ):
        raise click.UsageError("--to is for outputs without a given name; this one has a suffix")
    if subtype:
        targets = (suffix if target == STREAM else target.suffix for _, target in jobs.todo)
        check_subtype(subtype, {target.lower() for target in targets})
    chosen = models.find(model) if model else None
    codec_threads = 1 if jobs.parallel else threads
    codec: Any = None
    loading = threading.Lock()

    def do(source: Path, target: Path, shared: Progress | None) -> Outcome:
        nonlocal codec
        started = time.perf_counter()
        with open_input(source) as stream, named(source):
            from pcodec import audio
            from pcodec.pcx.transcode import PcxReader

            with loading:  # one codec for all files
                decoding = PcxReader(
                    stream,
                    chosen,
                    vocoder,
                    rate,
                    start,
                    end,
                    on_error,
                    device,
                    codec_threads,
                    codec,
                )
                codec = decoding.codec
            header = decoding.header
            total = None
            if header.samples is not None:
                whole = header.samples / header.sample_rate
                total = max(0.0, (whole if end is None else min(whole, end)) - start)
            with (
                open_output(target, source, force, keep_times=True) as out,
                progress(source, total, quiet, shared) as bar,
            ):
                ending = suffix if target == STREAM else target.suffix.lower()
                kind, samples_as = (
                    AUDIO_SUFFIXES.get(ending, "WAV"),
                    subtype or SUBTYPES.get(ending),
                )
                raw_as = (raw_format or "s16le") if raw else None
                position = 0
                frames = None if total is None else round(total * decoding.rate)
                blocks = read(source, decoding)
                first = list(islice(blocks, 1))  # reads the tags, which come before it
                with audio.Writer(
                    out, decoding.rate, kind, samples_as, raw_as, frames, decoding.tags
                ) as writer:
                    for block in chain(first, blocks):
                        writer.write(block)
                        position += len(block)
                        bar.update(len(block) / decoding.rate)
        if writer.rate != decoding.rate and not quiet:
            text = f"written at {writer.rate} Hz, since its type cannot have {decoding.rate} Hz"
            click.echo(f"pcodec: {name_of(target)}: {text}", err=True)
        lost_tags = [] if target == STREAM else writer.lost_tags
        if lost_tags and not quiet:
            text = f"{'raw' if raw else kind} cannot hold the tags {', '.join(lost_tags)}"
            click.echo(f"pcodec: {name_of(target)}: {text}", err=True)
        if verbose:
            summary(target, position / decoding.rate, started)
        damages = []
        for fault in decoding.damages:
            lost = ""
            if fault.end > fault.start:
                lost = f"{fault.start:.2f} s to {fault.end:.2f} s lost: "
            damages.append(f"{lost}{fault.reason}")
            click.echo(f"pcodec: {name_of(source)}: {damages[-1]}", err=True)
        return Outcome(position / decoding.rate, damages, lost_tags)

    def read(source: Path, decoding: Any) -> Iterator[Any]:
        with named(source):  # errors name the input here, although the output is open
            yield from decoding.blocks()

    return run_jobs(jobs, threads, quiet, as_json, remove, do)
