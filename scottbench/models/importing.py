"""Imports of the large libraries, made a little cheaper."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Pause the garbage collector while the block imports a large library.

    An import makes hundreds of thousands of objects that live as long as the process; looking through them again and again takes an eighth
    of its time. A process that has called `gc.freeze` before, as the command line does, leaves them out of later collections too. Load no
    weights in the block: those must be given back when they are no longer used.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count():
            gc.freeze()
        if was_on:
            gc.enable()
