"""``pcodec encode``"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pcodec import models
from pcodec.audio.formats import AUDIO_SUFFIXES
from pcodec.cli import options
from pcodec.cli.info import scan
from pcodec.cli.jobs import Outcome, check_streams, find_jobs, is_audio, is_pcx, is_raw, run_jobs
from pcodec.cli.output import STREAM, named, open_output, unbuffered_stdin
from pcodec.cli.progress import Progress, progress, summary
from pcodec.errors import PcodecError

if TYPE_CHECKING:
    from pcodec.pcx.writer import Writer


class Channel(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """The number of a channel, or "mix"."""

    name = "N|mix"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        if value == "mix":
            return None
        if not (value.isdecimal() and int(value)):
            self.fail(f"{value!r} is neither a channel number (1, 2, ...) nor 'mix'", param, ctx)
        return int(value) - 1


class KilobitsPerSecond(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A bit rate in kbit/s, such as 5, or from 200 on in bit/s, such as 5000; becomes bit/s."""

    name = "kbit/s"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(str(value).removesuffix("k"))
        except ValueError:
            number = 0.0
        if not 0 < number < math.inf:
            self.fail(f"{value!r} is not a bit rate in kbit/s, such as 5", param, ctx)
        return number if number >= 200 else 1000 * number


@click.command()
@options.paths_argument(AUDIO_SUFFIXES)
@options.output_options
@options.raw_options
@click.option(
    "--rate", type=click.IntRange(1000, 768000), help="Sample rate of --raw input, in Hz."
)
@click.option(
    "--compact",
    is_flag=True,
    help="Fewer bytes for the same sound, by entropy coding; encoding takes about twice as long.",
)
@click.option(
    "--bitrate",
    type=KilobitsPerSecond(),
    help="Average bit rate for speech in kbit/s, below that of --compact, at some loss of quality.",
)
@click.option(
    "--search",
    type=click.IntRange(1, 100),
    metavar="N",
    help="Better sound at the same bit rate: decode N times while encoding, to find better indices."
    " 8 take about 0.6 times as long as the audio, on one core. Needs torch (the extra [train]).",
)
@click.option("--live", is_flag=True, help="Pass audio on as it arrives, in blocks of 160 ms.")
@click.option(
    "--block",
    type=click.IntRange(1, 255),
    help="Columns of 32 ms per block: more save bytes, fewer shorten the delay (default: 32; with"
    " --compact 64, with --live 5).",
)
@click.option(
    "--channel",
    type=Channel(),
    metavar="N|mix",
    default="mix",
    show_default=True,
    help="Which channel to take, from 1; mix is the mean of all.",
)
@click.option("--no-tags", is_flag=True, help="Leave out title, artist and other tags.")
@click.option(
    "--ignore-length",
    is_flag=True,
    help="Read samples to the end of the input, whatever length its header states.",
)
@options.run_options
def encode(
    paths: tuple[Path, ...],
    output: Path | None,
    output_dir: Path | None,
    recursive: bool,
    force: bool,
    resume: bool,
    remove: bool,
    as_json: bool,
    raw: bool,
    raw_format: str | None,
    rate: int | None,
    compact: bool,
    bitrate: float | None,
    search: int | None,
    live: bool,
    block: int | None,
    channel: int | None,
    no_tags: bool,
    ignore_length: bool,
    model: str | None,
    device: str,
    threads: int | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Encode audio into .pcx: IN [OUT], or many inputs with -d DIR.

    IN is any file that libsndfile reads (WAV, FLAC, Ogg, MP3, ...), of any rate and channel
    count; it is resampled to 16 kHz and mixed down to mono. "-" is standard input or output.
    The output keeps the modification time and the tags (title, artist, ...) of IN.

    Examples:

    \b
      pcodec encode talk.wav
      pcodec encode talk.flac talk.pcx --compact
      pcodec encode -r -d coded recordings --resume
      arecord -f S16_LE -r 16000 | pcodec encode --live - - > talk.pcx
    """
    if raw and rate is None:
        raise click.UsageError("--raw needs --rate")
    if not raw and (rate or raw_format):
        raise click.UsageError("--rate and --format are for --raw; an audio file states its own")
    if search and live:
        raise click.UsageError("--search looks seconds ahead, so it is not for --live")
    is_input = is_raw if raw else is_audio
    jobs = find_jobs(paths, output, output_dir, recursive, ".pcx", is_input, is_pcx, resume)
    check_streams(jobs, as_json, remove)
    chosen = models.find(model)

    from pcodec import audio
    from pcodec.codec import Codec, checked_rate
    from pcodec.pcx.compact import load as load_entropy
    from pcodec.pcx.compact import strength_for
    from pcodec.pcx.transcode import encode_stream, load_search

    codec = Codec(chosen, device=device, threads=1 if jobs.parallel else threads)
    if search:
        load_search(chosen)  # fails before the work if it cannot

        import torch

        torch.set_num_threads(codec.processor.threads)
    if bitrate is not None:
        strength_for(chosen, bitrate)  # fails before the work if the model cannot
    elif compact:
        load_entropy(chosen)

    def do(source: Path, target: Path, shared: Progress | None) -> Outcome:
        started = time.perf_counter()
        raw_as = (rate or 0, raw_format or "s16le") if raw else None
        with named(source):
            # Unbuffered, so that a live stream is passed on as it arrives.
            stream = unbuffered_stdin() if source == STREAM else source
            reader = audio.Reader(stream, raw_as, channel, ignore_length)
        with contextlib.closing(reader):
            with named(source):
                checked_rate(reader.rate)
                tags = None if raw or no_tags else reader.tags()
            if reader.channels > 1 and channel is None and not quiet:
                text = f"{reader.channels} channels are mixed down to one"
                click.echo(f"{reader.name}: {text}", err=True)
            seconds = reader.frames / reader.rate if reader.frames is not None else None
            with (
                open_output(target, source, force, keep_times=True) as out,
                progress(source, seconds, quiet, shared) as bar,
            ):

                def blocks() -> Iterator[audio.Samples]:
                    size = audio.BLOCK_SECONDS if source.is_file() and not live else 512 / 16000
                    if search:  # so that the progress is seen, and can be interrupted
                        size = min(size, 1.0)
                    with named(source):  # errors name the input here, although the output is open
                        for block in reader.blocks(size):
                            yield block
                            bar.update(len(block) / reader.rate)

                serial = int.from_bytes(os.urandom(4), "little") if target == STREAM else 0
                writer = encode_stream(
                    codec,
                    blocks(),
                    reader.rate,
                    out,
                    block or (5 if live else None),
                    serial,
                    tags=tags,
                    compact=compact,
                    bit_rate=bitrate,
                    search=search or 0,
                )
        if remove:
            check_written(target, writer)
        for remark in reader.remarks if not quiet else ():
            click.echo(f"pcodec: {reader.name}: {remark}", err=True)
        if verbose:
            summary(target, reader.taken / reader.rate, started)
        for damage in reader.damages:
            click.echo(f"pcodec: {reader.name}: {damage}", err=True)
        return Outcome(reader.taken / reader.rate, reader.damages, reader.remarks)

    return run_jobs(jobs, threads, quiet, as_json, remove, do)


def check_written(path: Path, writer: Writer) -> None:
    """PcodecError unless a file, read back, is intact and has all columns that were written."""
    chain = scan(path)
    if chain.faults or (chain.number, chain.columns) != (1, writer.columns):
        raise PcodecError.of_file(path, "is not intact when read back; its source is kept")
