"""Signals that end a training after its step and its saving."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """Catches SIGINT, SIGTERM and SIGHUP while its context is open.

    While `patient`, the first signal is only noted in `number`, so that work can be finished. Any
    other raises KeyboardInterrupt.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

    def __init__(self) -> None:
        self.number: int | None = None
        """Number of the signal that came; None if none did."""
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is not threading.main_thread():
            return self  # other threads get no signals
        for name in self.NAMES:
            number = getattr(signal, name, None)
            # A signal that nohup ignores stays ignored.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._come) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _come(self, number: int, _frame: FrameType | None) -> None:
        first, self.number = self.number is None, number
        if not (first and self.patient):
            raise KeyboardInterrupt
        # Not by sys.stderr, which the signal may have interrupted.
        text = "\npcodec: stopping after this step, then saving; once more, and nothing is saved\n"
        os.write(2, text.encode())
