"""Functions given by name, so that registering them imports nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable


class lazy:
    """A function given by name, `lazy("package.module:function")`; the module is imported at the first call."""

    def __init__(self, target: str):
        self.target = target

    def resolve(self) -> Callable:
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args, **kwargs):
        return self.resolve()(*args, **kwargs)

    def __repr__(self) -> str:
        return f"lazy({self.target!r})"
