"""Progress on stderr: a bar on a terminal, else a line when a part is done and one every half minute.

Of a run there is one bar for all of it, with the time that is left; the part in work stands beside it in words."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scottbench.text.names import printable
from scottbench.text.numbers import estimated

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


WINDOW = 300.0
"""Seconds over which the speed is taken that the time left is estimated by."""
SURE = 5.0
"""Seconds of work before there is an estimate."""


class Overall:
    """How much of all parts is done, and how long the rest will take at the speed of the last minutes."""

    def __init__(self, parts: Mapping[str, tuple[str, float]]):
        """parts: key -> (what it is in words, its share of the work in any unit)."""
        self.parts = parts
        self.done = dict.fromkeys(parts, 0.0)
        self.seen: deque[tuple[float, float]] = deque()

    def note(self, key: str, fraction: float, now: float) -> None:
        """Note that `fraction` (0..1) of a part is done at a time, seconds of a monotonic clock."""
        self.done[key] = max(self.done[key], min(1.0, fraction))
        self.seen.append((now, self.fraction))
        while len(self.seen) > 2 and now - self.seen[0][0] > WINDOW:
            self.seen.popleft()

    @property
    def fraction(self) -> float:
        """The done part of all, 0..1."""
        whole = sum(share for _, share in self.parts.values())
        return sum(self.done[key] * share for key, (_, share) in self.parts.items()) / whole if whole else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None while too little was seen to tell."""
        if len(self.seen) < 2:
            return None
        (then, before), (now, done) = self.seen[0], self.seen[-1]
        return (1 - done) * (now - then) / (done - before) if now - then >= SURE and done > before else None


class Progress:
    """Show one part after another on stderr; used as a context manager. quiet: nothing is written."""

    def __init__(self, quiet: bool):
        self.quiet = quiet
        self.bar: Bar | None = None
        self.task: TaskID | None = None
        self.label: str | None = None
        self.overall: Overall | None = None
        self.paces: dict[str, Overall] = {}
        """Stage of a training -> how fast it goes."""
        self.started = self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, ProgressColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            head, tail = (TextColumn(f"{{task.{part}}}", markup=False) for part in ("description", "fields[text]"))
            columns: list[ProgressColumn] = [head, BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), tail]
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

    def expect(self, parts: Mapping[str, tuple[str, float]]) -> None:
        """Show one bar for all of a run from now on. parts: as of `Overall`; keys: cells' ids, or "stage", or "stage cell"."""
        self.overall = Overall(parts)

    def _show_overall(self, overall: Overall, key: str, event: Mapping[str, Any]) -> None:
        """Show how far the run is, in one bar; else in a line when a part is done, and every half minute."""
        now, part = time.monotonic(), event["done"] / max(1, event["total"])
        overall.note(key, part, now)
        words, left = printable(overall.parts[key][0]), overall.left
        rest = "" if left is None or overall.fraction >= 1 else f"about {estimated(left)} left"
        if self.bar is not None:
            if self.task is None:
                self.task = self.bar.add_task(words, total=1.0, text="")
            self.bar.update(self.task, completed=overall.fraction, description=words, text=rest)
        elif part >= 1 or now - self.printed >= EVERY:
            self.printed = now
            told = [words, f"{event['done']}/{event['total']}", f"{100 * overall.fraction:.0f} % of the run", f"{now - self.started:.0f} s"]
            sys.stderr.write("  ".join([*told, *([rest] if rest else [])]) + "\n")
            sys.stderr.flush()

    def run_event(self, event: Mapping[str, Any]) -> None:
        """Show an event of a run: {"stage", "cell": id or None, "done", "total"}."""
        key = event["cell"] if event["stage"] == "cell" else " ".join(filter(None, [event["stage"], event["cell"]]))
        if self.overall is not None and key in self.overall.parts:
            if not self.quiet:
                self._show_overall(self.overall, key, event)
            return
        self.show(key, event["done"] / max(1, event["total"]), f"{event['done']}/{event['total']}")

    def train_event(self, stage: str, *values: Any) -> None:
        """Show an event of a training: ("encode", done, total) or ("train", step, spent part of the budget, seconds, {name: logged})."""
        if stage != "train":
            done, total = values
            pace = self.paces.setdefault(stage, Overall({stage: (stage, 1.0)}))
            pace.note(stage, done / max(1, total), time.monotonic())
            rest = "" if pace.left is None or done >= total else f"  about {estimated(pace.left)} left"
            self.show(stage, done / max(1, total), f"{done}/{total}{rest}")
            return
        step, fraction, _, logged = values
        losses = "  ".join(f"{name} {value:.4g}" for name, value in logged.items())
        self.show(stage, fraction, f"step {step}  {losses}")


@contextlib.contextmanager
def progress_of(quiet: bool) -> Iterator[Progress]:
    """Show progress while a block runs; libraries that print in it write to stderr, not between our tables or into a JSON document."""
    with contextlib.redirect_stdout(sys.stderr), Progress(quiet) as progress:
        yield progress
