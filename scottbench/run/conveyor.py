"""The way of a chunk after the networks that made it: copied from the device, looked at, encoded, stored, turned into features.

On a GPU that is done while the next chunk is sampled, by one thread that takes chunk after chunk in order and by writer threads that take
images (PIL, hashing and numpy let other threads run meanwhile). One chunk waits at most, so memory is bounded, and a kill loses that chunk
and the one in work. On a CPU the networks have all cores, and a thread beside them would slow them down: there a chunk is stored before
the next is begun, and only its images are encoded side by side.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from scottbench.store.environment import cores, flush_denormals

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan

MOST_THREADS = 16
"""Writer threads at most: 16 encode more images of 512x512 than any GPU makes."""
AHEAD = 1
"""Chunks that may wait to be stored while the next is sampled, on a GPU."""


class Conveyor:
    """Threads behind the networks; used as a context manager. The default has none: each job is done at once, by who brings it.

    threads: that take images. ahead: chunks that may wait; 0: none, a chunk is stored before `put` returns. device: of the features, which
    have a stream of their own there.
    """

    def __init__(self, threads: int = 0, ahead: int = 0, device: str = "cpu"):
        self.threads, self.ahead, self.device = threads, ahead, device
        self.stream: Any = None
        self.writers: ThreadPoolExecutor | None = None
        self.order: ThreadPoolExecutor | None = None
        self.waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Conveyor:
        # threads round as the main one does
        if self.threads > 1:
            self.writers = ThreadPoolExecutor(self.threads, "writer", flush_denormals)
        if self.ahead > 0:
            self.order = ThreadPoolExecutor(1, "chunk", flush_denormals)
            self.stream = torch.cuda.Stream(self.device) if self.device.startswith("cuda") else None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pool in (self.order, self.writers):
            if pool is not None:
                pool.shutdown(wait=True)
        self.order = self.writers = None

    def each(self, function: Callable[..., Any], *rows: Iterable[Any]) -> Iterator[Any]:
        """Apply a function to each image of a chunk, as `map` does and in the same order, by the writer threads where there are some."""
        return map(function, *rows) if self.writers is None else self.writers.map(function, *rows)

    def put(self, job: Callable[[], None]) -> None:
        """Do a job after all that were put before it. Returns when at most `ahead` are left to do.

        Raises what the first job that failed has raised; those behind it are done all the same, so that nothing computed is lost.
        """
        if self.order is None:
            job()
            return
        self.waiting.append(self.order.submit(self._do, job))
        while len(self.waiting) > self.ahead:
            self.waiting.popleft().result()

    def _do(self, job: Callable[[], None]) -> None:
        with contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            job()

    @contextlib.contextmanager
    def drained(self) -> Iterator[None]:
        """Leave the block when all jobs that were put within it are done. Raises the block's own failure, else that of the first job."""
        try:
            yield
        except BaseException:
            while self.waiting:
                with contextlib.suppress(Exception):  # the first failure is the one to report
                    self.waiting.popleft().result()
            raise
        failures: list[BaseException] = []
        while self.waiting:
            try:
                self.waiting.popleft().result()
            except Exception as error:  # those behind it are waited for
                failures.append(error)
        if failures:
            raise failures[0]


def conveyor_of(plan: Plan) -> Conveyor:
    """Return the threads that a run of a plan has, not yet started."""
    # an extractor's TF32 is a switch of the whole process, and U-Nets in float32 must not see it
    apart = plan.record["dtype"] == "float32" and any(source.precision == "tf32" for source in plan.sources.values())
    return Conveyor(min(cores(), MOST_THREADS), AHEAD if plan.device.startswith("cuda") and not apart else 0, plan.device)
