"""MSCOCO 2014, the protocol of 30,000 prompts: captions of val2014 drawn at random, against all of its 40,504 pictures.

GigaGAN, DMD and DMD2 draw 30,000 of the 202,654 captions once, so that a picture may have several of them or none, and keep the list; they
name no seed. DMD2's list is a pickle, which nothing here reads. Ours is drawn by a rule that any language can repeat: captions are ordered
by the sha256 of "coco2014-30k/SEED/ANNOTATION ID", and the first 30,000 are taken; SEED is 0. --prompts FILE takes another list.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench_sd15.coco import CocoFolder, chosen_place, field, identifier, of_captions
from scottbench_sd15.options import ListOptions, ReferenceOptions
from scottbench_sd15.texts import Prompts, only_evaluation, read_text

VARIABLE = "SCOTTBENCH_COCO2014"
"""The variable names the folder with annotations/captions_val2014.json and val2014/."""
PROMPTS, PICTURES = 30_000, 40_504
CAPTIONS = "annotations/captions_val2014.json"


def coco2014_folder() -> Path:
    """Name the folder where COCO 2014 is, or would be: $SCOTTBENCH_COCO2014, else coco2014 in scottbench's cache folder."""
    return chosen_place(VARIABLE, "coco2014")


def open_coco2014_30k(split: str, options: ListOptions) -> Prompts:
    """Open the 30,000 prompts; ids are annotation ids. Raises UsageError for another split, MissingAsset, DamagedAsset."""
    only_evaluation("coco2014-30k", split)
    if options.captions is not None:
        return own_list(options.captions)
    path = coco2014_folder() / CAPTIONS
    if not path.is_file():
        raise MissingAsset(f"dataset 'coco2014-30k' cannot be used:\n  missing {path}  fetch: scottbench fetch coco2014-captions")
    rows = all_captions(path)
    if len(rows) < PROMPTS:
        raise DamagedAsset(f"{path} has {len(rows):,} captions, of which {PROMPTS:,} are to be drawn. COCO's own can be fetched again.")
    chosen = draw(list(rows), options.seed, PROMPTS)
    return Prompts([f"{one:012d}" for one in chosen], [rows[one] for one in chosen])


def own_list(path: Path) -> Prompts:
    """Read a list of prompts, one a line. Raises MissingAsset, DamagedAsset: no text, no prompts."""
    path = Path(path).expanduser()
    lines = [" ".join(line.split()) for line in read_text(path, "coco2014-30k", "coco2014-captions").splitlines()]
    found = [(f"{number:05d}", line) for number, line in enumerate(lines) if line]
    if not found:
        raise DamagedAsset(f"{path} has no prompts: give one a line.")
    return Prompts([item for item, _ in found], [text for _, text in found])


def all_captions(path: Path) -> dict[int, str]:
    """Read {annotation id: caption} of a file of COCO captions; blank ones are left out. Raises DamagedAsset."""
    return of_captions(path, lambda document: by_id(document["annotations"]))


def by_id(annotations: list[dict[str, Any]]) -> dict[int, str]:
    """Return {annotation id: caption}; blank captions are left out. Raises ValueError for values of another kind."""
    found: dict[int, str] = {}
    for number, entry in enumerate(annotations):
        caption, own = field(entry, "caption", "annotations", number), identifier(field(entry, "id", "annotations", number))
        if type(caption) is not str or type(own) is not int or own in found:
            raise ValueError(f"annotations[{number}] has no text, or no id of its own")
        if text := " ".join(caption.split()):
            found[own] = text
    return found


def draw(ids: list[int], seed: int, count: int) -> list[int]:
    """Draw some of the annotation ids by the rule, in its order: the first n of them are a random draw too."""
    return sorted(ids, key=lambda one: hashlib.sha256(f"coco2014-30k/{seed}/{one}".encode()).digest())[:count]


def open_coco2014_val(split: str, options: ReferenceOptions) -> CocoFolder:
    """Open all 40,504 pictures of val2014, each with the caption of the lowest annotation id: the reference of coco2014-30k.

    Raises UsageError for another split or size, MissingAsset, DamagedAsset.
    """
    only_evaluation("coco2014-val", split)
    if not 8 <= options.side <= 4096:
        raise UsageError(f"dataset 'coco2014-val': side must be 8 to 4096 pixels, found {options.side}.")
    root = coco2014_folder()
    hints = "  fetch: scottbench fetch coco2014-captions", "  fetch: scottbench fetch coco2014-val"
    return CocoFolder(root / CAPTIONS, root / "val2014", "dataset 'coco2014-val'", options.side, PICTURES, hints)
