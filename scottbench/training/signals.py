"""Ctrl-C and SIGTERM that wait until a training's step is finished and saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interruption:
    """Holds Ctrl-C and SIGTERM back until the step in hand is finished and saved; a second one acts at once."""

    def __init__(self) -> None:
        self.signal = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            wanted = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
            self.before = {number: signal.signal(number, self.note) for number in wanted}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal; act on the second one."""
        second, self.signal = self.signal != 0, number
        if second:
            self.act(number)

    def act(self, number: int) -> None:
        """Do what the signal asks for, as it was before; 0 asks for nothing. Raises KeyboardInterrupt or SystemExit, or as the handler that
        was there before."""
        if number:
            handler = self.before.get(number)
            if callable(handler):
                handler(number, None)
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
