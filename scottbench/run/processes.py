"""Whose chunks are whose: shards on any machines, and the processes that `torchrun` or `accelerate launch` started.

Both divide the same list: process r of w that works on shard i of k makes every (k w)-th chunk. Nothing is sent between processes but
who failed and how long it took; chunks meet in the run folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from scottbench.errors import ScottbenchError, UsageError
from scottbench.text import one_line

PATIENCE = timedelta(days=30)
"""How long a worker waits for the others; the libraries' half an hour is less than one may have to do more than another."""


def world_size() -> int:
    """Count the processes that a launcher started; 1 where WORLD_SIZE is not set, or empty. Raises UsageError where it is no number."""
    text = os.environ.get("WORLD_SIZE", "").strip()
    if not text:
        os.environ.pop("WORLD_SIZE", None)  # the libraries would read it too
        return 1
    if not text.isdecimal() or not 1 <= len(text) < 10 or int(text) < 1:
        raise UsageError(f"WORLD_SIZE must be a whole number of at least 1, found '{one_line(text)}'. A launcher (torchrun, accelerate "
                         "launch) sets it: start with one, or unset it.")
    return int(text)


class Workers:
    """The processes of one run. Alone, unless a launcher has set RANK and WORLD_SIZE."""

    def __init__(self, device: str):
        self.rank, self.count = 0, 1
        if (size := world_size()) > 1:
            from accelerate import PartialState

            try:
                state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
            except (ValueError, RuntimeError, KeyError) as error:  # variables of the launcher that are absent or wrong
                raise UsageError(f"WORLD_SIZE={size} asks for that many processes, and they cannot be joined: {one_line(error)} "
                                 "Start with torchrun or accelerate launch, or unset WORLD_SIZE.") from None
            self.rank, self.count = state.process_index, state.num_processes

    @property
    def main(self) -> bool:
        """True in the process that speaks and writes records."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Return one value of every process, by rank; waits for all of them."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])

    def agree(self, make: Callable[[], Any]) -> Any:
        """Return in every process what `make` gives in the main one. Its ScottbenchError ends every process; only the main one shows it."""
        outcome: list[Any] = [None, None]
        if self.main:
            try:
                outcome = [make(), None]
            except ScottbenchError as error:
                outcome = [None, error]
        if self.count > 1:
            from accelerate.utils import broadcast_object_list

            sent = [outcome[0], None if outcome[1] is None else outcome[1].exit_code]
            broadcast_object_list(sent)
            outcome = outcome if self.main else sent
        if outcome[1] is not None:
            self.fail(outcome[1])
        return outcome[0]

    def fail(self, error: ScottbenchError | int) -> None:
        """Raise the error in the main process; raise SystemExit in the others, which end with its exit code and without a word."""
        if isinstance(error, ScottbenchError):
            raise error
        raise SystemExit(error)
