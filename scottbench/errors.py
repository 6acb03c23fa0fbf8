"""Errors that are meant for the user: one clear message and a documented exit code, never a traceback.

A message says what was found, what is allowed and what to do next. What is neither a `ScottbenchError` nor an answer of the system is
a bug of ours: exit code 70, and the traceback goes to a file to attach to a report.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator


class ScottbenchError(Exception):
    """The base of all errors shown to the user. Exit code 1: some cells failed."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Give IPython and Jupyter the message in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(ScottbenchError):
    """A wrong flag, an unknown name, an unusable folder. Exit code 2."""

    exit_code = 2


class MissingAsset(ScottbenchError):
    """Weights, data or a package that the plan needs are not here. Exit code 3; the message says how to get them."""

    exit_code = 3


class DamagedAsset(MissingAsset):
    """Weights or data are here but are truncated or have another digest than expected. Exit code 3."""


class Unfit(MissingAsset):
    """A model or student is whole, but of another kind than is supported. Exit code 3; the message names field, value and what is."""


class Incomplete(ScottbenchError):
    """Work stopped early and can be resumed (disk full, a shard that is missing). Exit code 4."""

    exit_code = 4


class Busy(Incomplete):
    """Another process holds the run folder. Exit code 4; the message names the process."""


class OutOfMemory(Incomplete):
    """A GPU or this machine has not enough memory. Exit code 4; what was stored is kept, and the message says what to lower."""


class IntegrityError(ScottbenchError):
    """Something here is not what the run was made of or wrote: weights, data, code, a stored file. Exit code 5."""

    exit_code = 5


class Mismatch(ScottbenchError):
    """Records must not be put together: values of different N or fingerprints, other prompts. Exit code 5."""

    exit_code = 5


class GateNotMet(ScottbenchError):
    """The condition that `--gate` asks for does not hold. Exit code 6."""

    exit_code = 6


class TrainingDiverged(ScottbenchError):
    """A loss term became NaN or infinite; the last good checkpoint is kept. Exit code 1."""


class ScottbenchWarning(UserWarning):
    """A warning that is meant for the user; the command line prints it as one line on stderr."""


EXIT_CODES = {
    0: "complete",
    1: "some cells failed, a plug-in failed, training diverged, or doctor found something wrong",
    2: "usage: unknown name, wrong value, unusable folder",
    3: "missing prerequisite: weights, data or a package absent, damaged or of a kind that is not supported, or a student of another model",
    4: "incomplete but resumable: disk full, not enough memory, a shard missing, the folder in use by another process",
    5: "mismatch: weights, data, code or a stored file differ from those of the run, or values of different N, fingerprints or prompts",
    6: "gate not met (compare --gate, claims --gate)",
    70: "unexpected: a bug of ours; scottbench-crash.txt, in the current folder, has versions and traceback to attach to a report",
    130: "interrupted by Ctrl-C; finished chunks are kept, the message says how to go on",
    138: "asked to make room (SIGUSR1: a scheduler's pre-emption or end of time); what is finished is kept, start the same job again",
    143: "terminated (SIGTERM); finished chunks are kept, the message says how to go on",
}


LOWER = "try a smaller --batch-size or --limit, or a machine with more."
"""Advice of a verb that makes or measures images."""


def lack_of_memory(error: BaseException) -> str | None:
    """Return in words of which device the memory was not enough, and for how much, where that is the error: Python's MemoryError, or
    torch's OutOfMemoryError, which is known by its name since torch is not imported here. None for any other error."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if not any(kind.__name__ == "OutOfMemoryError" and kind.__module__.partition(".")[0] == "torch" for kind in type(error).__mro__):
        return None
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ [KMGT]?i?B)", str(error))
    return "not enough memory on the GPU" + (f" ({asked[1]} more were asked for)" if asked else "")


@contextlib.contextmanager
def telling_memory(advice: str) -> Iterator[None]:
    """Raise OutOfMemory, one line that ends with the advice, for a lack of memory inside."""
    try:
        yield
    except Exception as error:
        lack = lack_of_memory(error)
        if lack is None:
            raise
        told = OutOfMemory(f"{lack}. What was stored is kept; {advice}")
    else:
        return
    raise told
