"""``pcodec decode``"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pcodec import models
from pcodec.audio.formats import AUDIO_SUFFIXES, SUBTYPES
from pcodec.cli import options
from pcodec.cli.jobs import find_jobs, is_audio, is_neither, is_pcx, run_jobs
from pcodec.cli.output import name_of, named, open_input, open_output
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
            self.fail(f"{value} lies decades ahead", param, ctx)
        return seconds


def check_subtype(subtype: str, suffixes: set[str]) -> None:
    """UsageError if a file of these kinds cannot have such samples."""
    import soundfile

    for kind in sorted(AUDIO_SUFFIXES.get(suffix, "WAV") for suffix in suffixes):
        if subtype.upper() not in soundfile.available_subtypes(kind):
            known = ", ".join(soundfile.available_subtypes(kind))
            raise click.UsageError(f"--subtype {subtype}: of {kind} there are {known}")


@click.command()
@options.paths_argument
@options.output_options
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
    help="What turns mels into sound; `pcodec models` tells which a model has.",
)
@options.raw_options
@options.run_options
def decode(
    paths: tuple[Path, ...],
    output_dir: Path | None,
    recursive: bool,
    force: bool,
    resume: bool,
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

    The suffix of OUT chooses the file type (.wav, .flac, .ogg, ...). "-" is standard input or
    output (as WAV, or bare samples with --raw). A damaged input is decoded all the same, the
    lost parts are named, and the exit code is 3.
    """
    if duration is not None:
        if end is not None:
            raise click.UsageError("--end and --duration exclude each other")
        end = start + duration
    if end is not None and end < start:
        raise click.UsageError("--end lies before --start")
    if raw_format and not raw:
        raise click.UsageError("--format is for --raw; see --subtype")
    if raw and subtype:
        raise click.UsageError("--subtype is for audio files; with --raw, give --format")
    is_output = is_neither if raw else is_audio
    suffix = ".raw" if raw else ".wav"
    jobs = find_jobs(paths, output_dir, recursive, suffix, is_pcx, is_output, resume)
    if subtype:
        check_subtype(subtype, {target.suffix.lower() for _, target in jobs.todo})
    chosen = models.find(model) if model else None
    threads_ = 1 if jobs.workers else threads
    codec: Any = None
    loading = threading.Lock()

    def do(source: Path, target: Path, shared: Progress | None) -> bool:
        nonlocal codec
        started = time.perf_counter()
        with open_input(source) as stream, named(source):
            from pcodec import audio
            from pcodec.pcx.transcode import PcxReader

            with loading:  # one codec for all files
                decoding = PcxReader(
                    stream, chosen, vocoder, rate, start, end, on_error, device, threads_, codec
                )
                codec = decoding.codec
            header = decoding.header
            total = None
            if header.samples is not None:
                whole = header.samples / header.sample_rate
                total = max(0.0, (whole if end is None else min(whole, end)) - start)
            with (
                open_output(target, source, force) as out,
                progress(source, total, quiet, shared) as bar,
            ):
                kind = AUDIO_SUFFIXES.get(target.suffix.lower(), "WAV")
                subtype_ = subtype or SUBTYPES.get(target.suffix.lower())
                raw_format_ = (raw_format or "s16le") if raw else None
                position = 0
                frames = None if total is None else round(total * decoding.rate)
                with audio.Writer(
                    out, decoding.rate, kind, subtype_, raw_format_, frames
                ) as writer:
                    for block in read(source, decoding):
                        writer.write(block)
                        position += len(block)
                        bar.update(len(block) / decoding.rate)
        if writer.rate != decoding.rate and not quiet:
            text = f"at {writer.rate} Hz, since it cannot have {decoding.rate} Hz"
            click.echo(f"pcodec: {name_of(target)}: {text}", err=True)
        if verbose:
            summary(target, position / decoding.rate, started)
        for fault in decoding.damages:
            lost = ""
            if fault.end > fault.start:
                lost = f"{fault.start:.2f} s to {fault.end:.2f} s lost: "
            click.echo(f"pcodec: {name_of(source)}: {lost}{fault.reason}", err=True)
        return not decoding.damages

    def read(source: Path, decoding: Any) -> Iterator[Any]:
        with named(source):  # not the output's, though that is open
            yield from decoding.blocks()

    return run_jobs(jobs, threads, quiet, do)
