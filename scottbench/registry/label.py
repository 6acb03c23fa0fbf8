"""A label: the name of a method or metric with the options that the user wrote behind it, "scott@eta=0.3,h=1"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scottbench.errors import UsageError
from scottbench.registry.options import parse_pairs
from scottbench.text import one_line


@dataclass(frozen=True)
class Label:
    """A name with inline options. Two labels are equal where name and options are, in whatever order they were written."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Label:
        """Read "scott@eta=0.3,h=1" or "cd". Raises UsageError: nothing after the "@", or a piece that is not key=value."""
        name, at, pairs = text.partition("@")
        if at and not pairs.strip():
            raise UsageError(f"'{one_line(text)}': key=value must follow the @")
        return cls(name.strip(), parse_pairs(pairs.split(",")) if at else {})

    @property
    def chosen(self) -> str:
        """The options alone, by their names: "eta=0.3,h=1", or "" where there are none."""
        return ",".join(f"{key}={value}" for key, value in sorted(self.options.items()))

    @property
    def file_name(self) -> str:
        """The label as a part of file names and ids: "scott-eta=0.3-h=1"; "acme+scott" of acme/scott."""
        name = self.name.replace("/", "+")  # of the name alone: an option with a slash stays none of a file's
        return name + str(self).removeprefix(self.name).replace("@", "-").replace(",", "-")

    def without(self, *keys: str) -> Label:
        """Return the label without some of its options."""
        return Label(self.name, {key: value for key, value in self.options.items() if key not in keys})

    def __str__(self) -> str:
        return f"{self.name}@{self.chosen}" if self.options else self.name

    def __hash__(self) -> int:
        return hash(str(self))
