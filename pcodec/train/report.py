"""Progress of a training: a bar on a terminal, else one line per minute."""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

from tqdm import tqdm

from pcodec.train.adversary import Logs

LINE_SECONDS, BAR_SECONDS = 60.0, 0.5
"""Seconds between lines; between updates of the bar."""


def say(text: str) -> None:
    """A line on stderr, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """Seconds as text: 42 s, 24 min, 5 h 3 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def words(logs: Logs) -> str:
    """Names and values on one line."""
    return " ".join(f"{name} {value:.3f}" for name, value in logs.items())


class Length(NamedTuple):
    """Length of a stage, in steps or in minutes."""

    steps: int
    minutes: float | None = None
    """Minutes instead of steps; compiling, measuring and saving do not count."""

    def share(self, step: int, seconds: float) -> float:
        """Share of the stage that is done after some steps and seconds; 1 at its end."""
        if self.minutes is None:
            return min(1.0, step / self.steps)
        return min(1.0, seconds / (60 * self.minutes))

    def left(self, step: int, seconds: float, rate: float) -> float:
        """Seconds that are left at a rate of steps per second."""
        if self.minutes is None:
            return (self.steps - step) / rate
        return 60 * self.minutes - seconds


class Report:
    """Reports the progress of a stage."""

    def __init__(self, name: str, length: Length, step: int, seconds: float) -> None:
        """step, seconds: taken in earlier runs."""
        self.name, self.length = name, length
        self.first, self.seconds_before = step, seconds
        layout = "{desc} |{bar:20}|"
        self.bar = tqdm(total=1.0, bar_format=layout, disable=None, leave=False, file=sys.stderr)
        self.shown = time.monotonic()

    def rate(self, step: int, seconds: float) -> float:
        """Steps per second since the start of this run."""
        # The first step is left out, as it includes compiling.
        return max(0, step - self.first - 1) / max(1e-9, seconds - self.seconds_before)

    def line(self, step: int, seconds: float, logs: Logs) -> str:
        """One line: step, share, losses, steps per second, time left."""
        of = f"{step}/{self.length.steps}" if self.length.minutes is None else f"step {step}"
        parts = [f"{self.name} {of} {self.length.share(step, seconds):4.0%}"]
        if losses := {k: v for k, v in logs.items() if not k.startswith("norm_")}:
            parts.append(words(losses))
        if rate := self.rate(step, seconds):
            parts.append(f"{rate:.2f} steps/s" if rate < 10 else f"{rate:.0f} steps/s")
            parts.append(f"{duration(self.length.left(step, seconds, rate))} left")
        return ", ".join(parts)

    def update(self, step: int, seconds: float, logs: Logs) -> None:
        """Shows the progress when it is due."""
        now = time.monotonic()
        if now - self.shown < (LINE_SECONDS if self.bar.disable else BAR_SECONDS):
            return
        self.shown = now
        if self.bar.disable:
            say(self.line(step, seconds, logs))
        else:
            self.bar.n = self.length.share(step, seconds)
            self.bar.set_description_str(self.line(step, seconds, logs))

    def estimate(self, step: int, seconds: float) -> None:
        """Prints the estimated duration, once it is known."""
        rate = self.rate(step, seconds)
        left = self.length.left(step, seconds, rate)
        if self.length.minutes is None:
            rest = f"about {duration(left)} for {self.length.steps - step} more"
        else:
            rest = f"about {left * rate:.0f} more in the {duration(left)} that are left"
        say(f"{self.name}: {rate:.2f} steps per second: {rest}, without measuring and saving")

    def close(self) -> None:
        self.bar.close()
