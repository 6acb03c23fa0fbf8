"""The record of what was fetched: which digest each public file had, and which file on this disk was verified when."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scottbench.store.files import append_line, timestamp, whole_lines

LOCK = threading.Lock()


@dataclass
class Ledger:
    """Lines of fetched.jsonl, the newest of each source last: {"source", "sha256", "bytes", "path", "mtime_ns", "from", "when"}."""

    path: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read it; a file that is not there, or torn lines, are no lines."""
        return cls(path, [line for line in whole_lines(path) if isinstance(line.get("source"), str)])

    def first(self, source: str) -> dict[str, Any] | None:
        """Return what was recorded when a source was fetched first; None where it never was."""
        return next((line for line in self.lines if line["source"] == source and isinstance(line.get("sha256"), str)), None)

    def verified(self, source: str, path: Path) -> str | None:
        """Return the digest that a file on this disk had when it was verified, if its size and time are still the same."""
        try:
            found = path.stat()
        except OSError:
            return None
        for line in reversed(self.lines):
            if line["source"] == source and line.get("path") == str(path):
                same = (line.get("bytes"), line.get("mtime_ns")) == (found.st_size, found.st_mtime_ns)
                return str(line.get("sha256")) if same else None
        return None

    def note(self, source: str, path: Path, sha256: str, came_from: str, size: int | None = None) -> None:
        """Add a line for a file that was verified. path: of an archive that is not kept, where it was; size: its bytes then.

        Raises OSError."""
        found = path.stat() if path.exists() else None
        line: dict[str, Any] = {
            "source": source, "sha256": sha256, "bytes": size if found is None else found.st_size, "path": str(path),
            "mtime_ns": None if found is None else found.st_mtime_ns, "from": came_from, "when": timestamp(),
        }  # fmt: skip
        with LOCK:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, line)
            self.lines.append(line)
