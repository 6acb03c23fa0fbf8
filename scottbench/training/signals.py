"""Ctrl-C and SIGTERM that wait until a training's step is finished and saved."""

from __future__ import annotations

import signal
import threading


class Interruption:
    """Holds Ctrl-C and SIGTERM back until the step in hand is finished and saved; a second one acts at once."""

    def __init__(self):
        self.signal, self.before = 0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number, frame):
        second, self.signal = self.signal != 0, number
        if second:
            self.act(number)

    def act(self, number: int) -> None:
        if number:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
