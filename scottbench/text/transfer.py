"""Progress of bytes on stderr: one bar for all files with speed and time left on a terminal, else a line every half minute."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from scottbench.text.numbers import bytes_in_words, estimated

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""
REDRAWN = 0.1
"""Seconds between two looks of the bar."""


class Transfer:
    """Count bytes of several files that come at once; used as a context manager, told from any thread. quiet: nothing is written."""

    def __init__(self, total: int, quiet: bool = False):
        self.total, self.quiet, self.done = total, quiet, 0
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.lock = threading.Lock()
        self.started = self.printed = time.monotonic()

    def __enter__(self) -> Transfer:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

            columns = [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
            self.bar = Progress(*columns, console=Console(stderr=True, emoji=False, markup=False, highlight=False))
            self.task = self.bar.add_task("", total=self.total)
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self.lock:
            self._show(time.monotonic())
        if self.bar is not None:
            self.bar.stop()

    def moved(self, count: int) -> None:
        """Count bytes that came, or that were thrown away (a negative number)."""
        with self.lock:
            self.done += count
            now = time.monotonic()
            if now - self.printed >= (EVERY if self.bar is None else REDRAWN):
                self._show(now)

    def expect(self, more: int) -> None:
        """Add bytes to the total: of a file whose size was not known before, or that is fetched again."""
        with self.lock:
            self.total += more

    @property
    def left(self) -> float | None:
        """Return the seconds that the rest will take at the mean speed so far; None while nothing came."""
        spent = time.monotonic() - self.started
        return None if self.done <= 0 else max(0, self.total - self.done) * spent / self.done

    def _show(self, now: float) -> None:
        self.printed = now
        if self.quiet:
            return
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=max(0, self.done), total=max(self.total, self.done))
            return
        left = self.left
        rest = "" if left is None or self.done >= self.total else f"  about {estimated(left)} left"
        sys.stderr.write(f"{bytes_in_words(max(0, self.done))} of {bytes_in_words(max(self.total, self.done))}{rest}\n")
        sys.stderr.flush()
