"""Progress on stderr: a bar on a terminal, else a line when a part is done and one every half minute."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scottbench.text.names import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


class Progress:
    """Show one part after another on stderr; used as a context manager. quiet: nothing is written."""

    def __init__(self, quiet: bool):
        self.quiet = quiet
        self.bar: Bar | None = None
        self.task: TaskID | None = None
        self.label: str | None = None
        self.started = self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, ProgressColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            head, tail = (TextColumn(f"{{task.{part}}}", markup=False) for part in ("description", "fields[text]"))
            columns: list[ProgressColumn] = [head, BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(), tail]
            self.bar = Bar(*columns, console=Console(stderr=True, emoji=False, markup=False, highlight=False))
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, label: str, fraction: float, text: str) -> None:
        """Show that `label` is `fraction` (0..1) done; `text` says it in units."""
        label, text = printable(label), printable(text)
        if self.quiet:
            return
        if self.bar is not None:
            if label != self.label or self.task is None:
                self.task = self.bar.add_task(label, total=1.0, text="")
            self.bar.update(self.task, completed=min(fraction, 1.0), text=text)
        elif fraction >= 1 or time.monotonic() - self.printed >= EVERY:
            self.printed = time.monotonic()
            sys.stderr.write(f"{label}  {text}  {self.printed - self.started:.0f} s\n")
            sys.stderr.flush()
        self.label = label

    def run_event(self, event: Mapping[str, Any]) -> None:
        """Show an event of a run: {"stage", "cell": id or None, "done", "total"}."""
        label = event["cell"] if event["stage"] == "cell" else " ".join(filter(None, [event["stage"], event["cell"]]))
        self.show(label, event["done"] / max(1, event["total"]), f"{event['done']}/{event['total']}")

    def train_event(self, stage: str, *values: Any) -> None:
        """Show an event of a training: ("encode", done, total) or ("train", step, spent part of the budget, seconds, {name: logged})."""
        if stage != "train":
            done, total = values
            self.show(stage, done / max(1, total), f"{done}/{total}")
            return
        step, fraction, _, logged = values
        losses = "  ".join(f"{name} {value:.4g}" for name, value in logged.items())
        self.show(stage, fraction, f"step {step}  {losses}")


@contextlib.contextmanager
def progress_of(quiet: bool) -> Iterator[Progress]:
    """Show progress while a block runs; libraries that print in it write to stderr, not between our tables or into a JSON document."""
    with contextlib.redirect_stdout(sys.stderr), Progress(quiet) as progress:
        yield progress
