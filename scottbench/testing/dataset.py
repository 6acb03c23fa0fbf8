"""Checks of a dataset: its splits, ids, pictures, and that its digest sees every pixel."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from scottbench.errors import MissingAsset, ScottbenchError, UsageError
from scottbench.registry.guard import cause_of
from scottbench.registry.nouns import Dataset, Items, NoOptions
from scottbench.registry.options import make_options, options_of
from scottbench.testing.changed import OPENED, asked, change, changed_package, data_files
from scottbench.testing.finding import Check, Doubt, NotConforming, Subject, raise_first
from scottbench.testing.made import MadeItems
from scottbench.text import count, one_line

SPLITS = ("evaluation", "train")
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}")
LOOKED_AT = 8
"""Pictures of a split that are looked at."""


def check_dataset(dataset: Dataset, options: dict[str, Any] | None = None) -> None:
    """Check that a dataset keeps the rules: both splits, ids, prompts, shapes, random access, a digest that sees every pixel.

    options: those to open it with; where it needs a folder of pictures, one is made. Raises NotConforming for the first broken rule.
    """
    raise_first(DATASET_CHECKS, Subject("dataset", dataset, settings={} if options is None else {"options": options}))


def opened(subject: Subject, split: str, options: Any = None) -> Items:
    """Open a split with the options of the check."""
    noun = subject.noun
    chosen = subject.once("opened with", lambda: options_for(subject)) if options is None else options
    return noun.open(split) if chosen is None else noun.open(split, chosen)


def options_for(subject: Subject) -> Any:
    """Make the options to open with; None where there are none. A dataset whose place is an option gets a folder of made pictures. Raises
    Doubt for an option that nobody gave."""
    noun, given = subject.noun, dict(subject.settings.get("options", {}))
    if noun.options is NoOptions:
        return None
    if noun.path_option and noun.path_option not in given:
        given[noun.path_option] = str(pictures(subject))
    needed = [option.name for option in options_of(noun.options) if option.required and option.name not in given]
    if needed:
        raise Doubt(
            f"{subject.who}: it needs option '{needed[0]}', so it is not opened here.",
            "Check it in a test: check_dataset(DATASET, {...}).",
            "options",
        )
    return make_options(noun.options, given, subject.who)


def pictures(subject: Subject) -> Path:
    """Write a folder of made pictures, once: PNG files, captions.csv, train.txt."""

    def write() -> tuple[Any, Path]:
        kept = tempfile.TemporaryDirectory()
        folder, items = Path(kept.name) / "pictures", MadeItems(8, side=32)
        folder.mkdir()
        write_pictures(folder, items)
        return kept, folder

    return subject.once("pictures", write)[1]


def write_pictures(folder: Path, items: MadeItems) -> None:
    """Write made items as files: PNG pictures, captions.csv, and train.txt with the first half of the ids."""
    from PIL import Image

    from scottbench.store.files import replace_file

    for name, picture in zip(items.ids, items.images(range(len(items)))):
        Image.fromarray(picture).save(folder / f"{name}.png")
    lines = [f"{name}.png,{prompt}" for name, prompt in zip(items.ids, items.prompts)]
    replace_file(folder / "captions.csv", ("\n".join(["file,caption", *lines]) + "\n").encode())
    replace_file(folder / "train.txt", ("\n".join(items.ids[: len(items) // 2]) + "\n").encode())


def splits_of(subject: Subject) -> dict[str, Items]:
    """Open the splits that there are, once. Raises NotConforming where the evaluation split cannot be opened."""

    def find() -> dict[str, Items]:
        with OPENED.watching() as files:
            found = {"evaluation": opened(subject, "evaluation")}
            found["evaluation"].images([0])
        subject.seen["files"] = list(files)
        with contextlib.suppress(UsageError, MissingAsset):
            found["train"] = opened(subject, "train")
        return found

    return subject.once("splits", find)


def check_splits(subject: Subject) -> str:
    """The evaluation split opens, and so does a training split where it has one; another name is a UsageError. Raises NotConforming."""
    found = splits_of(subject)
    try:
        opened(subject, "no-such-split")
    except UsageError:
        return ", ".join(f"{split}: {count(len(items.ids), 'item')}" for split, items in found.items())
    except Exception as error:
        cause = cause_of(error)
        raise NotConforming(
            f"{subject.who}: for a split that there is not it raises {type(cause).__name__}.",
            "Raise UsageError, which names the splits.",
            subject.code.place_of_error(cause) or "open",
        ) from None
    raise NotConforming(f"{subject.who}: it opens a split 'no-such-split'.", "Raise UsageError for a split that it has not.", "open")


def check_ids(subject: Subject) -> str:
    """Ids are unique and fit for file names; there are as many prompts, none empty. Raises NotConforming."""
    for split, items in splits_of(subject).items():
        ids, prompts = list(items.ids), list(items.prompts)
        who = f"{subject.who}: split {split}:"
        unsafe = [one for one in ids if not isinstance(one, str) or not SAFE.fullmatch(one)]
        if unsafe:
            raise NotConforming(
                f"{who} id {one_line(repr(unsafe[0]))[:60]} is not fit for a file name.", "Letters, digits, '_', '.' and '-'.", "open"
            )
        if len(set(ids)) < len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise NotConforming(f"{who} id '{twice}' stands twice.", "Ids are unique: an item's noise is drawn from its id.", "open")
        if len(prompts) != len(ids):
            raise NotConforming(f"{who} {len(ids)} ids and {len(prompts)} prompts.", "One prompt an item.", "open")
        empty = [name for name, prompt in zip(ids, prompts) if not isinstance(prompt, str) or not prompt.strip()]
        if empty:
            raise NotConforming(f"{who} item '{empty[0]}' has no prompt.", "Leave items without a prompt out.", "open")
    return "ids are unique and fit for file names, and each has a prompt"


def looked_at(subject: Subject, items: Items) -> tuple[list[int], np.ndarray]:
    """Look at a few pictures all over a split: (places, (k,H,W,3) uint8). Raises NotConforming for other forms."""
    n = len(items.ids)
    places = sorted({int(i) for i in np.linspace(0, n - 1, LOOKED_AT)})
    found = items.images(places)
    at = getattr(type(vars(items).get("_inner", items)), "images", "open")
    if not isinstance(found, np.ndarray) or found.ndim != 4 or found.shape[::3] != (len(places), 3) or found.dtype != np.uint8:
        form = f"{found.shape} {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
        raise NotConforming(
            f"{subject.who}: images gives {form} for {len(places)} indices.",
            f"It must give ({len(places)},H,W,3) uint8 0..255, all of one size.",
            at,
        )
    return places, found


def check_images(subject: Subject) -> str:
    """Pictures are (k,H,W,3) uint8, all of one size in both splits. Raises NotConforming."""
    sizes = {split: looked_at(subject, items)[1].shape[1:3] for split, items in splits_of(subject).items()}
    if len(set(sizes.values())) > 1:
        raise NotConforming(f"{subject.who}: the splits have pictures of sizes {sizes}.", "Bring them to one size.", "open")
    return f"{' x '.join(map(str, next(iter(sizes.values()))))} uint8 in every split"


def check_access(subject: Subject) -> str:
    """A picture is the same alone, in any order, twice in a call, and at a second look. Raises NotConforming."""
    for split, items in splits_of(subject).items():
        places, found = looked_at(subject, items)
        order = [*reversed(range(len(places))), 0, 0]
        again = items.images([places[i] for i in order])
        alone = items.images([places[-1]])
        if not np.array_equal(again, found[order]) or not np.array_equal(alone[0], found[-1]):
            at = getattr(type(vars(items).get("_inner", items)), "images", "open")
            raise NotConforming(
                f"{subject.who}: split {split}: a picture is another alone, in another order or at a second look.",
                "images(indices) must give the same pictures for the same indices, in the order asked for.",
                at,
            )
    return "any picture at any time, in any order"


def check_digest(subject: Subject) -> str:
    """The digest is a sha256, the same when the split is opened again, and another for another split. Raises NotConforming."""
    found = splits_of(subject)
    for split, items in found.items():
        digest = items.digest
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest) or len(set(digest)) == 1:
            raise NotConforming(
                f"{subject.who}: split {split}: its digest is {one_line(repr(digest))[:40]}.",
                "Digest ids, prompts and picture bytes by sha256: 64 hex digits.",
                "open",
            )
        if opened(subject, split).digest != digest:
            raise NotConforming(
                f"{subject.who}: split {split}: opened again it has another digest.",
                "Equal items have equal digests: sort, and draw nothing.",
                "open",
            )
    if (
        len(found) == 2
        and list(found["train"].ids) != list(found["evaluation"].ids)
        and found["train"].digest == found["evaluation"].digest
    ):
        raise NotConforming(f"{subject.who}: both splits have one digest.", "Digest ids, prompts and picture bytes of the split.", "open")
    return "a sha256, the same when it is opened again"


def check_pixel(subject: Subject) -> str:
    """A pixel, or a byte of the data, that is changed gives another digest, or is refused. Raises NotConforming, or Doubt where there is no
    data to change."""
    items = splits_of(subject)["evaluation"]
    before = items.digest
    if subject.noun.path_option:
        return _pixel_of_folder(subject, items)
    found = data_files(subject.seen.get("files", []), subject.code.folder)
    if not found:
        return "made by code, without data files: there is no pixel to change"
    target = subject.code.folder.rpartition("/")[2] if subject.code.file.endswith("__init__.py") else Path(subject.code.file).stem
    with changed_package(subject.code.file, found[0]) as copy:
        told = asked("dataset", subject.noun.name, target, copy, "evaluation")
    same_pictures = told["content"] == content(items)
    if told["refused"] or told["digest"] != before:
        return f"with a byte of {found[0].name} changed it {'is refused' if told['refused'] else 'has another digest'}"
    if same_pictures:
        raise Doubt(
            f"{subject.who}: a changed byte of {found[0].name} changes neither its first pictures nor the digest.",
            "Try one pixel in a test of your own.",
            "open",
        )
    raise NotConforming(
        f"{subject.who}: with a byte of {found[0].name} changed its pictures differ, and the digest does not.",
        "Digest the bytes of every picture, beside ids and prompts.",
        _digest_place(items),
    )


def content(items: Items) -> str:
    """Digest the first pictures of a split."""
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(items.images(range(min(64, len(items.ids))))).tobytes()).hexdigest()


def _digest_place(items: Items) -> Any:
    made = type(vars(items).get("_inner", items))
    found = vars(made).get("digest")
    return getattr(found, "fget", getattr(found, "func", made.__init__)) if found is not None else made.__init__


def _pixel_of_folder(subject: Subject, items: Items) -> str:
    """The same of a dataset that lies in a folder of the user's: one of its PNG files is changed. Raises as `check_pixel`."""
    folder = Path(str(getattr(subject.seen["opened with"], subject.noun.path_option)))
    pngs = sorted(folder.rglob(f"{items.ids[-1]}*.png")) if folder.is_dir() else []
    if "pictures" not in subject.seen or not pngs:
        raise Doubt(f"{subject.who}: {folder} is yours, so no pixel of it is changed.", "Try that in a test of your own.", "open")
    kept = pngs[0].read_bytes()
    try:
        change(pngs[0])
        try:
            after = opened(subject, "evaluation").digest
        except ScottbenchError:
            return "with a pixel changed it is refused"
    finally:
        from scottbench.store.files import replace_file

        replace_file(pngs[0], kept)
    if after == items.digest:
        raise NotConforming(
            f"{subject.who}: with a pixel changed the digest is the same.", "Digest the bytes of every picture.", _digest_place(items)
        )
    return "with a pixel changed it has another digest"


DATASET_CHECKS = (
    Check("splits", check_splits),
    Check("ids", check_ids),
    Check("images", check_images),
    Check("random access", check_access),
    Check("digest", check_digest),
    Check("pixel", check_pixel, full=True),
)
"""The checks of a dataset."""
