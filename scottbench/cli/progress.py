"""Progress on stderr: a bar on a terminal, else a line when a part is done and one every half minute."""

from __future__ import annotations

import sys
import time

from scottbench.text import printable

EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


class Progress:
    """`show` one part after another; use as a context manager. quiet: nothing is written."""

    def __init__(self, quiet: bool):
        self.quiet, self.bar, self.task, self.label = quiet, None, None, None
        self.started = self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            text = [TextColumn(f"{{task.{part}}}", markup=False) for part in ("description", "fields[text]")]
            columns = [text[0], BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(), text[1]]
            self.bar = Bar(*columns, console=Console(stderr=True, emoji=False, markup=False, highlight=False))
            self.bar.start()
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, label: str, fraction: float, text: str) -> None:
        """`label` is `fraction` (0..1) done; `text` says it in units."""
        label, text = printable(label), printable(text)
        if self.quiet:
            return
        if self.bar is not None:
            if label != self.label:
                self.task = self.bar.add_task(label, total=1.0, text="")
            self.bar.update(self.task, completed=min(fraction, 1.0), text=text)
        elif fraction >= 1 or time.monotonic() - self.printed >= EVERY:
            self.printed = time.monotonic()
            print(f"{label}  {text}  {self.printed - self.started:.0f} s", file=sys.stderr, flush=True)
        self.label = label

    def run_event(self, event: dict) -> None:
        """An event of scottbench.run.execute.execute: {"stage", "cell": id or None, "done", "total"}."""
        label = event["cell"] if event["stage"] == "cell" else " ".join(filter(None, [event["stage"], event["cell"]]))
        self.show(label, event["done"] / max(1, event["total"]), f"{event['done']}/{event['total']}")

    def train_event(self, stage: str, *values) -> None:
        """An event of scottbench.training.train.train: ("encode", done, total) or ("train", step, budget, seconds, logged)."""
        if stage != "train":
            done, total = values
            self.show(stage, done / max(1, total), f"{done}/{total}")
            return
        step, budget, seconds, logged = values
        losses = "  ".join(f"{name} {value:.4g}" for name, value in logged.items())
        self.show(stage, budget.fraction(seconds, step), f"step {step}  {losses}")
