"""Ids and captions of training splits that were encoded, so that a cache stands on its own: a training goes on without the pictures.

They lie in the cache folder under the dataset's name and options. What they are used for says so in a warning.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from scottbench.errors import DamagedAsset, MissingAsset, ScottbenchError, ScottbenchWarning
from scottbench.plan.data import DataChoice
from scottbench.registry.nouns import Items
from scottbench.store.assets import cache_dir
from scottbench.store.files import Refused, parse_object, read_plain, replace_file
from scottbench.text import one_line

LARGEST = 2**31
"""Bytes of ids and captions at most."""


@dataclasses.dataclass
class KeptItems:
    """A training split whose pictures are not here any more, or elsewhere."""

    ids: Sequence[str]
    prompts: Sequence[str]
    digest: str
    why: ScottbenchError
    """The error that its dataset was opened with."""

    def images(self, indices: Sequence[int]) -> NoReturn:
        """Raise MissingAsset: there are no pictures."""
        raise MissingAsset(f"{self.why}\n  the encoded split does not do for this: pictures are needed for what is not encoded yet, and "
                           "for the metric curve (--evaluate-every 0 goes without)")


def key_of(choice: DataChoice) -> str:
    """Name what is kept of a dataset with its options."""
    options = {} if choice.options is None else dataclasses.asdict(choice.options)
    options = {name: str(Path(value).resolve()) if isinstance(value, Path) else value for name, value in options.items()}
    return hashlib.sha256(f"{choice.dataset.name}/{sorted(options.items())}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


def remember(choice: DataChoice, items: Items) -> None:
    """Keep ids and captions of a split that is encoded now. A cache folder that cannot be written goes without."""
    path = cache_dir() / "captions" / f"{key_of(choice)}-{items.digest[:24]}.json"
    if isinstance(items, KeptItems) or path.is_file():
        return
    kept = {"digest": items.digest, "ids": list(items.ids), "prompts": list(items.prompts)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(kept).encode())


def recalled(choice: DataChoice, why: ScottbenchError) -> KeptItems | None:
    """Return what was kept last of a dataset that cannot be opened, with a warning; None where there is nothing."""
    folder = cache_dir() / "captions"
    there = sorted(folder.glob(f"{key_of(choice)}-*.json"), key=lambda path: path.lstat().st_mtime_ns, reverse=True)
    for path in there:
        try:
            kept = parse_object(read_plain(path, LARGEST, folder))
        except (OSError, Refused, ValueError):
            continue
        if is_whole(kept):
            warnings.warn(ScottbenchWarning(
                f"{one_line(str(why).splitlines()[0])[:160]} The split that was encoded of dataset '{choice.name}' is used."), stacklevel=2)
            return KeptItems(kept["ids"], kept["prompts"], kept["digest"], why)
    return None


def is_whole(kept: dict[str, Any]) -> bool:
    """Tell whether a record of `remember` has all that it should."""
    ids, prompts = kept.get("ids"), kept.get("prompts")
    lists = isinstance(ids, list) and isinstance(prompts, list) and 0 < len(ids) == len(prompts)
    return lists and isinstance(kept.get("digest"), str) and all(isinstance(text, str) for text in [*(ids or []), *(prompts or [])])


def open_or_recall(choice: DataChoice) -> Items:
    """Open a training split, or, where it is not here, take what was kept when it was encoded. Raises as the dataset."""
    try:
        return choice.open("train")
    except ScottbenchError as error:
        found = None if isinstance(error, DamagedAsset) else recalled(choice, error)
        if found is None:
            raise
        return found
