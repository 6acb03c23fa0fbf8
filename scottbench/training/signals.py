"""Ctrl-C, SIGTERM and SIGUSR1 that wait until a training's step is finished and saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

MAKE_ROOM = int(getattr(signal, "SIGUSR1", 0))
"""A scheduler's warning that the machine is wanted back; 0 where the system has no such signal."""
CODES = {MAKE_ROOM: 138}
"""Exit codes that are no sum of 128 and the signal on every system."""


class Interruption:
    """Holds signals that end a training back until the step in hand is finished and saved; a second Ctrl-C or SIGTERM acts at once.

    After SIGUSR1 no SIGTERM does: schedulers send both within a moment, and wait with SIGKILL until the time to make room is over.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in (signal.SIGINT, signal.SIGTERM, MAKE_ROOM) if number]
            wanted = [number for number in heeded if signal.getsignal(number) is not signal.SIG_IGN]
            self.before = {number: signal.signal(number, self.note) for number in wanted}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal; act on the second one, unless one of the two says to make room and the other is none of the user's."""
        if self.signal == 0 or number == MAKE_ROOM:
            self.signal = number
        elif self.signal != MAKE_ROOM or number == signal.SIGINT:
            self.act(number)

    def act(self, number: int) -> None:
        """Do what the signal asks for, as it was before; 0 asks for nothing. Raises KeyboardInterrupt or SystemExit, or as the handler that
        was there before."""
        if number:
            handler = self.before.get(number)
            if callable(handler):
                handler(number, None)
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(CODES.get(number, 128 + number))
