"""Signals that end a training after the current step, and after saving."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """Catches SIGINT, SIGTERM and SIGHUP while its context is open.

    The number of the signal is kept in `number`. While `patient` is True, the first signal does
    nothing else, so that a step can be finished. All others raise KeyboardInterrupt.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

    def __init__(self) -> None:
        self.number: int | None = None
        """Number of the signal; None until one comes."""
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is not threading.main_thread():
            return self  # other threads get no signals
        for name in self.NAMES:
            number = getattr(signal, name, None)
            # A signal that nohup ignores stays ignored.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        first, self.number = self.number is None, number
        if not (first and self.patient):
            raise KeyboardInterrupt
        # Not through sys.stderr: the signal may have interrupted a write to it.
        text = "\npcodec: stopping after this step, then saving; once more, and nothing is saved\n"
        os.write(2, text.encode())
