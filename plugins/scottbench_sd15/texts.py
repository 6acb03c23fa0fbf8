"""Prompts alone: PartiPrompts and DrawBench, and the base of every list of prompts that has no picture for each."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.store.assets import bytes_in_words
from scottbench_sd15.coco import chosen_place

if TYPE_CHECKING:
    import numpy as np

LARGEST = 2**26
"""Bytes of a list of prompts at most; PartiPrompts has 0.12 MB."""


class Prompts:
    """Prompts with ids, and columns that part them ("category" -> a word for each). There are no pictures."""

    def __init__(self, ids: Sequence[str], prompts: Sequence[str], metadata: Mapping[str, Sequence[str]] | None = None) -> None:
        self.ids, self.prompts = list(ids), list(prompts)
        self.metadata = {} if metadata is None else {name: list(values) for name, values in metadata.items()}
        total = hashlib.sha256()
        for number, (item, prompt) in enumerate(zip(self.ids, self.prompts, strict=True)):
            words = [item, prompt, *(values[number] for values in self.metadata.values())]
            total.update(("\t".join(words) + "\n").encode())
        self.digest = total.hexdigest()
        """sha256 hex over ids, prompts and columns."""

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Raise UsageError in place of (n,H,W,3) pictures: there are none."""
        raise UsageError("these data are prompts alone, without images to compare with. Name some with --reference NAME|FOLDER.")


@dataclass(frozen=True)
class TextList:
    """One published list of prompts in a table of text."""

    dataset: str
    file: str
    dialect: type[csv.Dialect]
    prompt: str
    """Name of the column with the prompts."""
    columns: Mapping[str, str]
    """Column of the items' metadata -> its name in the file."""
    variable: str
    """Variable that names the file in place of the one in the cache folder."""


class PlainTabs(csv.excel_tab):
    """Columns between tabs, in which quotation marks mean nothing."""

    quoting = csv.QUOTE_NONE


LISTS = {
    "parti-prompts": TextList("parti-prompts", "PartiPrompts.tsv", PlainTabs, "Prompt", {"category": "Category", "challenge": "Challenge"},
                              "SCOTTBENCH_PARTI_PROMPTS"),
    "drawbench": TextList("drawbench", "drawbench.csv", csv.excel, "Prompts", {"category": "Category"}, "SCOTTBENCH_DRAWBENCH"),
}  # fmt: skip


def only_evaluation(dataset: str, split: str) -> None:
    """Raise UsageError for a split of a dataset that has the evaluation split alone."""
    if split != "evaluation":
        raise UsageError(f"dataset '{dataset}' has no split '{split}'. Splits: evaluation")


def read_text(path: Path, dataset: str, fetch: str) -> str:
    """Read a file of UTF-8 text. Raises MissingAsset; DamagedAsset for one that is too large, or no text."""
    if not path.is_file():
        raise MissingAsset(f"dataset '{dataset}' cannot be used:\n  missing {path}  fetch: scottbench fetch {fetch}")
    if path.stat().st_size > LARGEST:
        raise DamagedAsset(f"{path} has {bytes_in_words(path.stat().st_size)}; at most {bytes_in_words(LARGEST)} are read as prompts.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedAsset(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}). Fetch it again.") from None
    except OSError as error:
        raise DamagedAsset(f"{path} cannot be read ({error.strerror}).") from None


def open_list(listed: TextList, split: str) -> Prompts:
    """Open a published list: every row with a prompt, in the order of the file; ids are the numbers of its rows.

    Raises UsageError for another split, MissingAsset, DamagedAsset for a file that is no such table (a ValueError within).
    """
    only_evaluation(listed.dataset, split)
    path = chosen_place(listed.variable, f"prompts/{listed.file}")
    text = read_text(path, listed.dataset, listed.dataset)
    wanted, ids, prompts = [listed.prompt, *listed.columns.values()], [], []
    metadata: dict[str, list[str]] = {name: [] for name in listed.columns}
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), dialect=listed.dialect)
        if absent := [name for name in wanted if name not in (rows.fieldnames or [])]:
            raise ValueError(f"no column '{absent[0]}'")
        for number, row in enumerate(rows):
            prompt = " ".join((row[listed.prompt] or "").split())
            if prompt:
                ids.append(f"{number:05d}")
                prompts.append(prompt)
                for name, column in listed.columns.items():
                    metadata[name].append(" ".join((row[column] or "").split()) or "none")
        if not ids:
            raise ValueError("it has no prompts")
    except (csv.Error, ValueError) as error:
        raise DamagedAsset(f"{path} is no {listed.file} ({str(error)[:120]}): a table with the columns {', '.join(wanted)}. "
                           f"Fetch it again: scottbench fetch {listed.dataset}") from None
    return Prompts(ids, prompts, metadata)


def open_parti(split: str = "evaluation") -> Prompts:
    """Open PartiPrompts: 1,632 prompts of 12 categories. Raises as `open_list`."""
    return open_list(LISTS["parti-prompts"], split)


def open_drawbench(split: str = "evaluation") -> Prompts:
    """Open DrawBench: 200 prompts of 11 categories. Raises as `open_list`."""
    return open_list(LISTS["drawbench"], split)
