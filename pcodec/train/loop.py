"""The training loop: schedule, averaged weights, resumable state, logs."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from pcodec.audio.reader import read
from pcodec.networks.checkpoint import replaced
from pcodec.train.adversary import Logs
from pcodec.train.data import Batches, high_passed
from pcodec.train.stages.base import Stage


def learning_rate_factor(step: int, steps: int, warm_up: int) -> float:
    """Linear warm-up, then a half cosine down to 2 %."""
    rise = min(1.0, (step + 1) / max(1, warm_up))
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def discriminator_file(stage: str) -> str:
    """The name of the file with the discriminator of a stage."""
    return f"{stage}.discriminator.safetensors"


class Average:
    """What a stage ships: an exponential moving average of a module's tensors.

    Or, with a share below 1, a mean of that and of the tensors as they were at the start.
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
        """Puts it in the place of the live tensors, for a while."""
        kept = [t.clone() for t in self.live]
        torch._foreach_copy_(self.live, torch._foreach_lerp(self.start, self.mean, self.share))
        try:
            yield
        finally:
            torch._foreach_copy_(self.live, kept)


def read_clips(paths: list[Path], rate: int, column: int, seconds: float = 5.0) -> list[Tensor]:
    """The starts of files, for measuring: at a rate in Hz, cut to whole columns of samples.

    Without those that hold none.
    """
    clips = [torch.from_numpy(read(path, rate)[: int(seconds * rate)]) for path in paths]
    clips = [torch.from_numpy(high_passed(clip.numpy(), rate)) for clip in clips]
    return [clip[: len(clip) // column * column] for clip in clips if len(clip) >= column]


def run(
    stage: Stage,
    batches: Batches,
    out: Path,
    clips: list[Tensor],
    evaluate_every: int = 1000,
    save_minutes: float = 10.0,
) -> None:
    """Runs a stage to its last step, from where the state in ``out`` stopped.

    One that has taken it already is left alone, with what other stages made of its parts since.
    """
    from torch.utils.tensorboard import SummaryWriter

    settings, networks = stage.settings, stage.networks
    state_file = out / "state" / f"{stage.name}.pt"
    state_file.parent.mkdir(parents=True, exist_ok=True)
    average = Average(stage.trained, settings.ema, settings.share)
    step, seconds = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, map_location="cpu", weights_only=True)
        if state["step"] >= settings.steps:
            text = f"{stage.name} has taken its steps; without {state_file} it begins anew"
            print(text, file=sys.stderr)
            return
        step, seconds = state["step"], state["seconds"]
        stage.load_state(state["stage"])
        average.load_state_dict(state["average"])

    def save() -> None:
        with average.applied():
            networks.save(out, stage.parts)
        if stage.game is not None:
            stage.game.save(out / discriminator_file(stage.name))
        # Last, as a stage whose state is that of its last step is done.
        state = {"step": step, "seconds": seconds, "stage": stage.state()}
        state["average"] = average.state_dict()
        with replaced(state_file) as part:
            torch.save(state, part)

    def evaluate() -> Logs:
        with average.applied(), torch.no_grad():
            return stage.evaluate(clips)

    writer = SummaryWriter(str(out / "logs" / stage.name))
    record = (out / f"{stage.name}.jsonl").open("a")
    bar = tqdm(total=settings.steps, initial=step, desc=stage.name, disable=None)
    started = saved = time.monotonic()
    stream = batches.stream(step)
    while step < settings.steps:
        factor = learning_rate_factor(step, settings.steps, settings.warm_up)
        stage.set_learning_rate(settings.learning_rate * factor)
        logs = stage.step(next(stream))
        average.update(step)
        step += 1
        bar.update()
        if step % 50 == 0 or step == settings.steps:
            now = time.monotonic()
            seconds, started = seconds + now - started, now
            bar.set_postfix({k: f"{v:.3f}" for k, v in logs.items()}, refresh=False)
            for name, value in logs.items():
                writer.add_scalar(name, value, step)
        if step % evaluate_every == 0 or step == settings.steps:
            scores = evaluate() if clips else {}
            for name, value in scores.items():
                writer.add_scalar(f"dev/{name}", value, step)
            line = {"step": step, "seconds": round(seconds), **logs, **scores}
            known = {k: round(v, 4) if math.isfinite(v) else None for k, v in line.items()}
            record.write(json.dumps(known) + "\n")
            record.flush()
            started = time.monotonic()
        if time.monotonic() - saved > 60 * save_minutes:
            save()
            saved = time.monotonic()
    save()
    record.close()
    writer.close()
    bar.close()
