"""Ctrl-C and other requests to end: the training finishes its step, and saves."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """Catches the signals that ask to end, as long as it is entered.

    While `patient`, the first one is only noted, in `number`; what is being done may be
    finished. Any other raises KeyboardInterrupt.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

    def __init__(self) -> None:
        self.number: int | None = None
        """of the signal that came"""
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is not threading.main_thread():
            return self  # which gets no signals
        for name in self.NAMES:
            number = getattr(signal, name, None)
            # nohup has it ignored, and so it stays.
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
        # Not through sys.stderr, in the middle of whose work this may be.
        text = "\npcodec: stopping after this step, then saving; once more, and nothing is saved\n"
        os.write(2, text.encode())
