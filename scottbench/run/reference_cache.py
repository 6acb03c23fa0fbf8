"""Features of a reference set that stands apart from the prompts, kept in the cache folder from run to run.

They lie in `references/KEY` as chunks with side-cars, as in a run folder, so that shards and processes share them, a killed run loses one
chunk, and damaged bytes are made again. KEY is a digest of all that can change them: images, network, code, and arithmetic of the machine.
The folder can be copied to another machine of the same kind. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scottbench.errors import ScottbenchError
from scottbench.plan.identity import reference_digest, source_record
from scottbench.store.assets import cache_dir
from scottbench.store.environment import arithmetic, environment
from scottbench.store.files import canonical
from scottbench.store.folder import CHUNK, RunFolder

if TYPE_CHECKING:
    import numpy as np

    from scottbench.models.extractors import Source
    from scottbench.plan.plan import Plan

PLACE = ("features", "reference", "set")


class ReferenceCache:
    """The kept features of a plan's reference set, network by network."""

    def __init__(self, plan: Plan, sources: Mapping[str, Source]) -> None:
        """Name the folders. sources: role -> network."""
        self.folders: dict[str, RunFolder] = {}
        if plan.reference is None or not plan.reference.own or plan.chunk != CHUNK:
            return  # one image a prompt, and another run may have other prompts; or a probe of a few images
        facts: dict[str, Any] = {
            "images": reference_digest(plan.reference.items.digest, plan.reference.n),
            "chunk": plan.chunk,
            "code": plan.record["code"]["features"],
            "arithmetic": [str(one) for one in arithmetic(environment(plan.device))],
        }
        for role, source in sources.items():
            key = hashlib.sha256(canonical({**facts, "extractor": source_record(source)})).hexdigest()[:32]
            self.folders[role] = RunFolder(cache_dir() / "references" / key)
            self.folders[role].bind({PLACE[2]: source.digest})

    def get(self, role: str, span: range, ids: Sequence[str]) -> np.ndarray | None:
        """Return the kept features of a chunk, (n, d) float32; None where there are none that are whole."""
        folder = self.folders.get(role)
        try:
            return None if folder is None else folder.get_features(PLACE, span, ids)
        except ScottbenchError:  # not ours, though it says so: made again
            return None

    def put(self, role: str, span: range, ids: Sequence[str], features: np.ndarray) -> None:
        """Keep the features of a chunk, (n, d) float32. A cache that is full or read only costs the time again, never the run."""
        folder = self.folders.get(role)
        try:
            if folder is not None:
                folder.root.mkdir(parents=True, exist_ok=True)
                folder.put_features(PLACE, span, ids, features)
        except (ScottbenchError, OSError):
            self.folders.pop(role, None)
