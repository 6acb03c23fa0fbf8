"""Rows of pictures that were made elsewhere: from places on disk to methods of a plan, and to the items that they are measured on.

A run has its dataset's items, and a row must have a picture of each. `scottbench score` has the items that all its rows share: in the
reference's order where the ids are the reference's, else in that of the captions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import DamagedAsset, UsageError
from scottbench.plan.cells import PlannedMethod
from scottbench.registry.nouns import Method
from scottbench.text import count, is_name, one_line

if TYPE_CHECKING:
    import numpy as np

    from scottbench.models.pictures import Matched, Opened, PictureSet
    from scottbench.registry.nouns import Items

WORDS = 75
"""Words and signs of a prompt that CLIP's text encoders take at most: 77 tokens with the marks of begin and end."""
LETTERS = 1000
"""Letters of a prompt that certainly are more tokens than that, whatever the words."""


@dataclass(frozen=True)
class PictureFacts:
    """Files of a row of pictures; they stand where a method has its options."""

    place: str
    formats: str
    """Format -> number of pictures: "PNG 1000"."""
    sizes: str
    """Width x height of the most frequent size, and how many sizes there are."""
    lossy: bool
    """Some of the files lost something of the pixels that were made (JPEG)."""


@dataclass(frozen=True)
class Reference:
    """The real images that features are compared with."""

    items: Items
    n: int
    name: str = ""
    own: bool = False
    """They have ids of their own: not one for each prompt."""

    @property
    def ids(self) -> list[str]:
        """Return the ids of all of them."""
        return list(self.items.ids[: self.n])


@dataclass
class ScoredItems:
    """Ids and prompts of pictures that are scored, with the reference image of each where there are such."""

    ids: Sequence[str]
    prompts: Sequence[str]
    pictures: Any = None
    """Something with `images(indices)`; None without reference images."""
    places: Sequence[int] = ()
    """The index there of each item."""
    source: str = ""
    """Digest of what the reference images are of."""

    digest: str = field(init=False)
    """sha256 hex over ids, prompts and the digest of the reference."""

    def __post_init__(self) -> None:
        """Take the digest."""
        total = hashlib.sha256(f"{self.source}\n".encode())
        for name, prompt, place in zip(self.ids, self.prompts, self.places or range(len(self.ids)), strict=True):
            total.update(f"{name}\t{prompt}\t{place}\n".encode())
        self.digest = total.hexdigest()

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Return reference images, (n,H,W,3) uint8. Raises UsageError where there are none."""
        if self.pictures is None:
            raise UsageError("there are no reference images. Give some: --reference FOLDER|NAME")
        found: np.ndarray = self.pictures.images([self.places[index] for index in indices] if self.places else indices)
        return found


@dataclass(frozen=True)
class Scored:
    """All that a plan of pictures alone is made of."""

    name: str
    """Name of the data in records."""
    items: Items
    reference: Reference | None
    rows: dict[str, PictureSet]
    remarks: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """A line for each place of which pictures could not be read."""


# --- rows ------------------------------------------------------------------------------------------------------------


def check_rows(rows: Mapping[str, str], labels: Sequence[str]) -> None:
    """Raise UsageError for a row whose name is none, or is that of a method of the run."""
    for name in rows:
        if not is_name(name):
            raise UsageError(f"'{one_line(name)}' cannot be the name of a row: letters, digits, '_', '.' and '-' only.")
        if name in labels:
            raise UsageError(f"a row of pictures is called '{name}', as a method of this run is. Give it another name.")


def as_method(label: str, pictures: PictureSet) -> PlannedMethod:
    """Return a row of pictures as a method of the plan: of no steps and no guidance; its weights are the files."""
    sizes = list(pictures.sizes)
    words = f"{sizes[0][0]} x {sizes[0][1]}" + (f" and {len(sizes) - 1} more" if len(sizes) > 1 else "")
    formats = ", ".join(f"{name} {number}" for name, number in pictures.formats.items())
    facts = PictureFacts(pictures.place.name, formats, words, pictures.lossy > 0)
    noun = Method("images", "pictures made elsewhere, read from files", _nobody, _nobody)
    return PlannedMethod(label, noun, facts, 1.0, None, None, pictures.digest, pictures=pictures)


def _nobody(*arguments: Any) -> Any:
    raise UsageError("pictures that were made elsewhere are not sampled.")


def remarks_of(rows: Mapping[str, PictureSet]) -> list[str]:
    """Warn, a line each, of rows that lost something to their format, and of those of several sizes."""
    lines = []
    for label, pictures in rows.items():
        if pictures.lossy:
            kind = next(name for name in pictures.formats if name not in ("PNG", "WebP", "array"))
            lines.append(f"{count(pictures.lossy, 'picture')} of '{label}' in {kind}, a lossy format, which moves FID and the like. PNG "
                         "keeps what was made.")  # fmt: skip
        if len(pictures.sizes) > 1:
            lines.append(f"pictures of '{label}' have {len(pictures.sizes)} sizes; each is resized for the features by itself.")
    return lines


def broken_of(pictures: PictureSet) -> list[str]:
    """Return a line that names the pictures that could not be read, or none."""
    if not pictures.broken:
        return []
    (name, why), more = next(iter(pictures.broken.items())), len(pictures.broken) - 1
    others = "" if not more else f" (and {more} more: {', '.join(list(pictures.broken)[1:4])})"
    return [one_line(f"{pictures.place}: {count(more + 1, 'picture')} left out: {name} {why}{others}")]


def open_rows(rows: Mapping[str, str]) -> dict[str, Opened]:
    """Read all pictures of all rows. Raises UsageError or DamagedAsset, one line."""
    from scottbench.models.pictures import open_pictures

    return {name: open_pictures(Path(place).expanduser()) for name, place in rows.items()}


def rows_of_run(rows: Mapping[str, str], items: Items, n: int, dataset: str) -> dict[str, PictureSet]:
    """Open rows beside methods: a picture for each of the run's first n items. dataset: its name, for messages.

    Raises UsageError where some are missing, DamagedAsset where one cannot be read.
    """
    from scottbench.models.pictures import match, open_pictures
    from scottbench.store.captions import Caption

    found = {}
    for name, place in rows.items():
        opened = open_pictures(Path(place).expanduser(), needs_captions=False).pictures
        wanted = list(items.ids[:n])
        if broken := [one for one in opened.broken if one in wanted or Path(one).stem in wanted]:
            raise DamagedAsset(f"row '{name}': {place}/{broken[0]} {opened.broken[broken[0]]}. Put a whole picture in its place.")
        matched = match(opened, [Caption(prompt, id=one) for one, prompt in zip(wanted, items.prompts)], Path(f"dataset {dataset}"))
        if matched.without_picture:
            first = ", ".join(matched.without_picture[:3])
            raise UsageError(f"row '{name}': {place} lacks pictures of {len(matched.without_picture):,} of the run's {n:,} items ({first}"
                             f"{', ...' if len(matched.without_picture) > 3 else ''}). Add them, or measure fewer items: -n")
        found[name] = matched.pictures.at(range(n), wanted)
    return found


# --- scored by themselves --------------------------------------------------------------------------------------------


def open_scored(rows: Mapping[str, str], prompts: str | None, reference: Reference | None) -> Scored:
    """Open pictures to score: match them with captions, find the items that all rows share, and their reference images.

    prompts: file of captions; None: those that lie among the pictures, else the reference's. Raises UsageError or DamagedAsset, one line.
    """
    from scottbench.models.pictures import match

    opened = open_rows(rows)
    captions, where = _captions(opened, prompts, reference)
    matched: dict[str, Matched] = {name: match(one.pictures, captions, where) for name, one in opened.items()}
    remarks = [line for one in matched.values() for line in one.remarks()]
    broken = [line for one in opened.values() for line in broken_of(one.pictures)]
    everywhere = set.intersection(*(set(one.pictures.ids) for one in matched.values()))
    shared = [one for one in next(iter(matched.values())).pictures.ids if one in everywhere]
    if not shared:
        raise UsageError(f"the rows {', '.join(rows)} have no picture of one id in common, so that nothing could be compared.")
    remarks += [
        f"'{name}' has {count(len(one.pictures) - len(shared), 'picture')} that another row lacks; left out"
        for name, one in matched.items() if len(one.pictures) > len(shared)
    ]
    texts = dict(zip(next(iter(matched.values())).pictures.ids, next(iter(matched.values())).prompts, strict=True))
    name, items, real, said = _with_reference(shared, texts, reference, where)
    n, kept = len(items.ids) if real is None or real.own else real.n, {}
    for label, row in matched.items():
        places = {one: index for index, one in enumerate(row.pictures.ids)}
        kept[label] = row.pictures.at([places[one] for one in items.ids[:n]])
    return Scored(name, items, real, kept, [*remarks, *said], broken)


def _captions(opened: Mapping[str, Opened], prompts: str | None, reference: Reference | None) -> tuple[list[Any], Path]:
    """The captions that rows are matched with, and where they are from. Raises UsageError where there are none."""
    from scottbench.store.captions import Caption, read_captions

    if prompts is not None:
        path = Path(prompts).expanduser()
        return read_captions(path), path
    own = next((one for one in opened.values() if one.captions is not None), None)
    if own is not None and own.captions is not None:
        return own.captions, own.where
    if reference is not None and all(reference.items.prompts[:1]):
        return [Caption(text, id=one) for one, text in zip(reference.ids, reference.items.prompts)], Path(reference.name)
    place = next(iter(opened.values())).where
    raise UsageError(f"{place} has no captions: name a file of them with --prompts captions.csv (columns file and caption), or put "
                     "NAME.txt beside each picture.")


def _with_reference(
    shared: Sequence[str], texts: Mapping[str, str], reference: Reference | None, where: Path
) -> tuple[str, Items, Reference | None, list[str]]:
    """The name of the data, its items, the reference and lines to say, for the ids that all rows share."""
    name = one_line(where.stem)
    if reference is None:
        return name, ScoredItems(list(shared), [texts[one] for one in shared]), None, []
    known = {one: index for index, one in enumerate(reference.ids)}
    both = [one for one in shared if one in known]
    if not both:
        line = (f"no id is one of the reference {reference.name}: its {reference.n:,} images are taken as a set of their own, and "
                "intervals are about prompts alone")  # fmt: skip
        items = ScoredItems(list(shared), [texts[one] for one in shared])
        return name, items, Reference(reference.items, reference.n, reference.name, own=True), [line]
    lines = []
    if len(both) < len(shared):
        strangers = [one for one in shared if one not in known]
        lines.append(f"{count(len(strangers), 'picture')} of no id in the reference {reference.name} left out ({', '.join(strangers[:3])}"
                     f"{', ...' if len(strangers) > 3 else ''})")
    both.sort(key=lambda one: known[one])
    places = [known[one] for one in both]
    prompts = [texts[one] for one in both]
    if places == list(range(len(both))) and prompts == list(reference.items.prompts[: len(both)]):
        # the first items of a dataset as they are: numbers compare with those of a run of it
        return reference.name, reference.items, Reference(reference.items, len(both), reference.name), lines
    items = ScoredItems(both, prompts, reference.items, places, reference.items.digest)
    return f"{reference.name}-subset", items, Reference(items, len(both), reference.name), lines


# --- prompts ---------------------------------------------------------------------------------------------------------


def long_prompts(items: Items, n: int) -> list[str]:
    """Warn, in one line or none, of prompts that text encoders of CLIP cut off. Words and signs are counted, of which each is a token or
    more."""
    import re

    found = [
        (one, prompt) for one, prompt in zip(items.ids[:n], items.prompts[:n])
        if len(prompt) > WORDS and (len(prompt) > LETTERS or len(re.findall(r"\w+|[^\w\s]", prompt)) > WORDS)
    ]  # fmt: skip
    if not found:
        return []
    name, prompt = found[0]
    return [f"{count(len(found), 'prompt')} too long for CLIP's text encoders, which read 77 tokens and cut off the rest (the first: "
            f"'{name}', {len(prompt):,} characters)."]
