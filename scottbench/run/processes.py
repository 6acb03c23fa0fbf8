"""Whose chunks are whose: shards on any machines, and the processes that `torchrun` or `accelerate launch` started.

Both divide the same list: process r of w that works on shard i of k makes every (k w)-th chunk. Nothing is sent between processes but
who failed and how long it took; chunks meet in the run folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from scottbench.errors import ScottbenchError

PATIENCE = timedelta(days=30)
"""How long a worker waits for the others; the libraries' half an hour is less than one may have to do more than another."""


class Workers:
    """The processes of one run. Alone, unless a launcher has set RANK and WORLD_SIZE."""

    def __init__(self, device: str):
        self.rank, self.count = 0, 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
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
