"""The training loop: schedule, averaged weights, resumable state, logs."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pcodec.audio.reader import read
from pcodec.errors import PcodecError
from pcodec.files import replaced
from pcodec.train.adversary import Logs, Losses
from pcodec.train.data import Batches, high_passed
from pcodec.train.report import Length, Report, duration, say, words
from pcodec.train.stages.base import Stage
from pcodec.train.stop import Stop

READ_EVERY, LINE_EVERY, MEASURE_EVERY = 50, 100, 1000
"""Steps between readings of the losses, lines of STAGE.jsonl, and measurements."""

SAVE_MINUTES = 10.0


def learning_rate_factor(share: float, step: int, warm_up: float) -> float:
    """Linear warm-up over steps, times half a cosine down to 2 % over the share of the training."""
    rise = min(1.0, (step + 1) / max(1, warm_up))
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def discriminator_file(stage: str) -> str:
    """The name of the file of a stage's discriminator."""
    return f"{stage}.discriminator.safetensors"


class Average:
    """The weights that a stage exports: an exponential moving average of a module's tensors.

    With a share below 1 it is a weighted mean of that and of the tensors at the start.
    """

    def __init__(self, module: torch.nn.Module, decay: float, share: float = 1.0) -> None:
        self.decay, self.share = decay, share
        self.live = [t for t in module.state_dict().values() if t.is_floating_point()]
        self.start = [t.clone() for t in self.live]
        self.mean = [t.clone() for t in self.live]

    def update(self, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.mean, self.live, weight)

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"start": self.start, "mean": self.mean}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        torch._foreach_copy_(self.start, state["start"])
        torch._foreach_copy_(self.mean, state["mean"])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Replaces the live tensors by the average while the context is open."""
        kept = [t.clone() for t in self.live]
        torch._foreach_copy_(self.live, torch._foreach_lerp(self.start, self.mean, self.share))
        try:
            yield
        finally:
            torch._foreach_copy_(self.live, kept)


def read_clips(paths: list[Path], rate: int, column: int, seconds: float = 5.0) -> list[Tensor]:
    """The first seconds of files, for measuring: at a rate in Hz, cut to whole columns.

    Files shorter than a column are left out.
    """
    clips = [torch.from_numpy(read(path, rate)[: int(seconds * rate)]) for path in paths]
    clips = [torch.from_numpy(high_passed(clip.numpy(), rate)) for clip in clips]
    return [clip[: len(clip) // column * column] for clip in clips if len(clip) >= column]


class Means:
    """Means of the losses over some steps, kept on the device."""

    def __init__(self) -> None:
        self.sums: Losses = {}
        self.count = 0

    def add(self, losses: Losses) -> None:
        """Adds the losses of one step; does not wait for the device."""
        self.count += 1
        values = {name: value.float() for name, value in losses.items()}
        self.sums = {name: self.sums.get(name, 0) + value for name, value in values.items()}

    def finite(self) -> bool:
        """Whether all totals are finite; waits for the device."""
        return self.count == 0 or bool(torch.isfinite(self.sums["total"]))

    def read(self) -> Logs:
        """The means, then starts anew; waits for the device."""
        means = torch.stack(list(self.sums.values())) / self.count
        logs = dict(zip(self.sums, means.tolist(), strict=True))
        self.sums, self.count = {}, 0
        return logs


def known(value: float) -> float | None:
    """A value of STAGE.jsonl: five digits, or null for NaN and infinity."""
    if isinstance(value, int):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def read_state(path: Path, mmap: bool = False) -> dict[str, Any] | None:
    """The saved state of a stage, None if there is none; PcodecError if it cannot be read.

    mmap: whether its tensors stay in the file.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, "cpu", mmap=mmap, weights_only=True)
        state["step"], state["seconds"], state["stage"], state["average"]
    except Exception as error:
        # torch and pickle raise anything for a file that is not theirs.
        raise PcodecError(
            f"{path}: not the state of a training; delete it to begin anew"
        ) from error
    return state


def state_file(out: Path, stage: str) -> Path:
    """The file of a stage's state."""
    return out / "state" / f"{stage}.pt"


def run(
    stage: Stage, batches: Batches, out: Path, clips: list[Tensor], length: Length, stop: Stop
) -> None:
    """Runs a stage from its state in ``out`` to its end, or until a signal comes."""
    settings, networks, name = stage.settings, stage.networks, stage.name
    path = state_file(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    average = Average(stage.trained, settings.ema, settings.share)
    step, seconds = 0, 0.0
    if state := read_state(path):
        step, seconds = state["step"], state["seconds"]
        try:
            stage.load_state(state["stage"])
            average.load_state_dict(state["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            text = f"{path}: the state of other networks or options; delete it to begin anew"
            raise PcodecError(text) from error
        del state
    first, means, logs = step, Means(), Logs()

    def save() -> None:
        if not means.finite():
            text = f"{name}: the loss is NaN or infinite before step {step}; what was saved "
            raise PcodecError(f"{text}before stays in {out}: lower learning_rate, and go on")
        with average.applied():
            networks.save(out, stage.parts)
        if stage.adversary is not None:
            stage.adversary.save(out / discriminator_file(name))
        # The state comes last, as it says that the stage is done.
        state = {"step": step, "seconds": seconds, "stage": stage.state()}
        state["average"] = average.state_dict()
        with replaced(path) as part:
            torch.save(state, part)

    def evaluate() -> Logs:
        stop.patient = False  # it may take minutes
        try:
            with average.applied(), torch.no_grad():
                return stage.evaluate(clips)
        except KeyboardInterrupt:
            if stop.number is None:
                raise
            return {}
        finally:
            stop.patient = True

    with contextlib.ExitStack() as stack:
        report = stack.enter_context(contextlib.closing(Report(name, length, step, seconds)))
        writer = stack.enter_context(SummaryWriter(str(out / "logs" / name)))
        record = stack.enter_context((out / f"{name}.jsonl").open("a"))
        stack.callback(setattr, stop, "patient", False)
        stream = stack.enter_context(contextlib.closing(batches.stream(step, stage.device)))
        if stage.compiles:
            where = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "torch's cache")
            say(f"{name}: compiling the training step: minutes on a CPU, once (kept in {where})")
        mark = saved = time.monotonic()
        measured, took = -math.inf, 0.0
        while (share := length.share(step, seconds)) < 1 and stop.number is None:
            factor = learning_rate_factor(share, step, settings.warm_up)
            stage.set_learning_rate(settings.learning_rate * factor)
            # While the first step compiles, nothing can be lost.
            stop.patient = step > first
            means.add(stage.step(next(stream)))
            average.update(step)
            step += 1
            stop.patient = True
            if step > first + 1:  # the first step includes compiling
                seconds += time.monotonic() - mark
            ends = length.share(step, seconds) == 1
            if step == first + 10 and not ends:
                report.estimate(step, seconds)
            if step % READ_EVERY == 0 or ends:
                if not means.finite():
                    save()  # which raises the error
                logs = means.read()
                for key, value in logs.items():
                    writer.add_scalar(key, value, step)
            scores = Logs()
            # Measuring takes at most a fifth of the time.
            now, due = time.monotonic(), step % MEASURE_EVERY == 0
            if clips and stop.number is None and (ends or (due and now - measured > 4 * took)):
                scores = evaluate()
                measured = time.monotonic()
                took = measured - now
                for key, value in scores.items():
                    writer.add_scalar(f"dev/{key}", value, step)
                if scores:
                    say(f"{name} step {step}, measured: {words(scores)}")
            if step % LINE_EVERY == 0 or scores or ends:
                line = {"step": step, "seconds": round(seconds), **logs}
                line |= {"learning_rate": settings.learning_rate * factor, **scores}
                record.write(json.dumps({k: known(v) for k, v in line.items()}) + "\n")
                record.flush()
            report.update(step, seconds, logs)
            if time.monotonic() - saved > 60 * SAVE_MINUTES:
                save()
                saved = time.monotonic()
            mark = time.monotonic()
        stream.close()
        if step > first:
            save()
        if length.share(step, seconds) < 1:
            say(f"{name}: stopped after step {step}; saved in {out}")
        else:
            say(f"{name}: done, {step} steps in {duration(seconds)}; saved in {out}")
