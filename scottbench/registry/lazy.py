"""Functions given by name, so that registering them imports nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


class lazy:
    """A function given by name, `lazy("package.module:function")`; the module is imported at the first call."""

    def __init__(self, target: str) -> None:
        self.target = target

    def resolve(self) -> Callable[..., Any]:
        """Import the module and return the function. Raises ImportError or AttributeError where there is none."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.resolve()(*args, **kwargs)

    def __repr__(self) -> str:
        return f"lazy({self.target!r})"
