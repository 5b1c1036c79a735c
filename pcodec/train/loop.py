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
"""Steps between readings of the losses, lines of STAGE.jsonl, and measurements of quality."""

SAVE_MINUTES = 10.0
"""Minutes between saves."""


def learning_rate_factor(share: float, step: int, warm_up: float) -> float:
    """Linear warm-up over ``warm_up`` steps, times a half cosine from 1 to 0.02 over the training.

    share: of the training that is done, 0 to 1.
    """
    rise = min(1.0, (step + 1) / max(1, warm_up))
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def discriminator_file(stage: str) -> str:
    """Name of the file with a stage's discriminator."""
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
    """The first ``seconds`` of each file, to measure quality on; none of files below a column.

    rate: Hz. column: samples per column; the clips are cut to whole columns.
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
        """Whether the total loss was finite in all steps; waits for the device."""
        return self.count == 0 or bool(torch.isfinite(self.sums["total"]))

    def read(self) -> Logs:
        """Returns the means and resets them; waits for the device."""
        means = torch.stack(list(self.sums.values())) / self.count
        logs = dict(zip(self.sums, means.tolist(), strict=True))
        self.sums, self.count = {}, 0
        return logs


def json_number(value: float) -> float | None:
    """A number for JSON: five significant digits, or null for NaN and infinity."""
    if isinstance(value, int):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def read_state(path: Path, mmap: bool = False) -> dict[str, Any] | None:
    """The saved state of a stage, None if there is none; PcodecError if it cannot be read.

    mmap: whether to leave its tensors in the file until they are used.
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


class Log:
    """The logs of a stage: TensorBoard, STAGE.jsonl, and the progress on the terminal."""

    def __init__(self, name: str, out: Path, length: Length, step: int, seconds: float) -> None:
        """step, seconds: taken in earlier runs."""
        self.report = Report(name, length, step, seconds)
        self._writer = SummaryWriter(str(out / "logs" / name))
        self._lines = (out / f"{name}.jsonl").open("a")

    def scalars(self, values: Logs, step: int, prefix: str = "") -> None:
        """Writes values to TensorBoard."""
        for name, value in values.items():
            self._writer.add_scalar(f"{prefix}{name}", value, step)

    def line(self, values: Logs) -> None:
        """Writes values as a line of STAGE.jsonl."""
        self._lines.write(json.dumps({k: json_number(v) for k, v in values.items()}) + "\n")
        self._lines.flush()

    def close(self) -> None:
        self._lines.close()
        self._writer.close()
        self.report.close()


class Training:
    """A stage in training: its progress, averaged weights, and state on disk."""

    def __init__(
        self, stage: Stage, out: Path, clips: list[Tensor], length: Length, stop: Stop
    ) -> None:
        """Resumes from the state in ``out`` if there is one; PcodecError if it does not fit."""
        self.stage, self.out, self.clips, self.length, self.stop = stage, out, clips, length, stop
        self.path = state_file(out, stage.name)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.average = Average(stage.trained, stage.settings.ema, stage.settings.share)
        self.step, self.seconds = 0, 0.0
        self.samples: Tensor | None = None
        """The last batch."""
        self._resume()
        self.first = self.step
        """Steps taken in earlier runs."""
        self.means, self.losses = Means(), Logs()
        self.measured, self.measuring = -math.inf, 0.0
        """When the last measurement ended, and how long it took, seconds."""

    @property
    def share(self) -> float:
        """Share of the stage that is done; 1 at its end."""
        return self.length.share(self.step, self.seconds)

    def run(self, stream: Iterator[Tensor], log: Log) -> None:
        """Trains on batches to the end of the stage, or until a signal comes."""
        started = saved = time.monotonic()
        while self.share < 1 and self.stop.number is None:
            rate = self._update(stream)
            if self.step > self.first + 1:  # the first step includes compiling
                self.seconds += time.monotonic() - started
            if self.step == self.first + 10 and self.share < 1:
                log.report.estimate(self.step, self.seconds)
            if self.step % READ_EVERY == 0 or self.share == 1:
                self._read_losses(log)
            scores = self._measure(log)
            if self.step % LINE_EVERY == 0 or scores or self.share == 1:
                line = {"step": self.step, "seconds": round(self.seconds), **self.losses}
                log.line({**line, "learning_rate": rate, **scores})
            log.report.update(self.step, self.seconds, self.losses)
            if time.monotonic() - saved > 60 * SAVE_MINUTES:
                self.save()
                saved = time.monotonic()
            started = time.monotonic()

    def save(self) -> None:
        """Writes the averaged weights as a model, and the state; PcodecError if the loss is NaN."""
        self._check_losses()
        with self.average.applied():
            if self.samples is not None:
                self.stage.calibrate(self.samples)
            self.stage.networks.save(self.out, self.stage.parts)
        if self.stage.adversary is not None:
            self.stage.adversary.save(self.out / discriminator_file(self.stage.name))
        # The state comes last, since it says that the stage is done.
        state = {"step": self.step, "seconds": self.seconds, "stage": self.stage.state()}
        state["average"] = self.average.state_dict()
        with replaced(self.path) as part:
            torch.save(state, part)

    def _resume(self) -> None:
        state = read_state(self.path)
        if state is None:
            return
        self.step, self.seconds = state["step"], state["seconds"]
        try:
            self.stage.load_state(state["stage"])
            self.average.load_state_dict(state["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            text = f"{self.path}: the state of other networks or options; delete it to begin anew"
            raise PcodecError(text) from error

    def _update(self, stream: Iterator[Tensor]) -> float:
        """One step of the optimiser on the next batch; returns its learning rate."""
        settings = self.stage.settings
        rate = settings.learning_rate
        rate *= learning_rate_factor(self.share, self.step, settings.warm_up)
        self.stage.set_learning_rate(rate)
        # While the first step compiles, there is nothing yet that a signal could lose.
        self.stop.patient = self.step > self.first
        self.samples = next(stream)
        self.means.add(self.stage.step(self.samples))
        self.average.update(self.step)
        self.step += 1
        self.stop.patient = True
        return rate

    def _read_losses(self, log: Log) -> None:
        """Logs the mean losses since the last reading."""
        self._check_losses()
        self.losses = self.means.read()
        log.scalars(self.losses, self.step)

    def _check_losses(self) -> None:
        if self.means.finite():
            return
        text = f"{self.stage.name}: the loss is NaN or infinite before step {self.step}; what was"
        raise PcodecError(
            f"{text} saved before stays in {self.out}: lower learning_rate, and run it again"
        )

    def _measure(self, log: Log) -> Logs:
        """Scores on the clips, if they are due: every so many steps, and at the end."""
        if not self.clips or self.stop.number is not None:
            return {}
        now = time.monotonic()
        # Measuring takes at most a fifth of the time.
        due = self.step % MEASURE_EVERY == 0 and now - self.measured > 4 * self.measuring
        if not due and self.share < 1:
            return {}
        scores = self._evaluate()
        self.measured = time.monotonic()
        self.measuring = self.measured - now
        log.scalars(scores, self.step, "dev/")
        if scores:
            say(f"{self.stage.name} step {self.step}, measured: {words(scores)}")
        return scores

    def _evaluate(self) -> Logs:
        """Scores of the averaged weights; none if a signal interrupts, as it may take minutes."""
        self.stop.patient = False
        try:
            with self.average.applied(), torch.no_grad():
                return self.stage.evaluate(self.clips)
        except KeyboardInterrupt:
            if self.stop.number is None:
                raise
            return {}
        finally:
            self.stop.patient = True


def run(
    stage: Stage, batches: Batches, out: Path, clips: list[Tensor], length: Length, stop: Stop
) -> None:
    """Runs a stage from its state in ``out`` to its end, or until a signal comes."""
    training, name = Training(stage, out, clips, length, stop), stage.name
    first = training.step
    with contextlib.ExitStack() as stack:
        log = Log(name, out, length, first, training.seconds)
        stack.enter_context(contextlib.closing(log))
        stack.callback(setattr, stop, "patient", False)
        stream = stack.enter_context(contextlib.closing(batches.stream(first, stage.device)))
        if stage.compiles:
            where = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "torch's cache")
            say(f"{name}: compiling the training step: minutes on a CPU, once (kept in {where})")
        training.run(stream, log)
        stream.close()
        if training.step > first:
            training.save()
        if training.share < 1:
            say(f"{name}: stopped after step {training.step}; saved in {out}")
        else:
            took = duration(training.seconds)
            say(f"{name}: done, {training.step} steps in {took}; saved in {out}")
