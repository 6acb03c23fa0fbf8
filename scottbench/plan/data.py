"""The dataset of a run or a training: the preset's, a registered one, or a folder of pictures that the user names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scottbench.errors import UsageError
from scottbench.registry.label import Label
from scottbench.registry.nouns import Dataset, NoOptions
from scottbench.registry.options import make_options, options_of
from scottbench.registry.presets import Preset, rooted
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Items


class DataRequest(Protocol):
    """A request that may name data in place of the preset's: that of a run, or of a training."""

    @property
    def dataset(self) -> str | None:
        """Name of a dataset, NAME@key=value, a folder or archive of pictures, or FOLDER@key=value; None for the preset's."""

    @property
    def prompts(self) -> str | None:
        """File of captions of such a folder; None for those that lie there."""


@dataclass(frozen=True)
class DataChoice:
    """A dataset as it was asked for."""

    name: str
    """The name that records have: the dataset's, or that of a folder."""
    dataset: Dataset
    options: Any
    """An instance of the dataset's Options; None of one without."""
    own: bool
    """It is the preset's own."""

    def open(self, split: str) -> Items:
        """Open a split, "evaluation" or "train". Raises as `Dataset.open`."""
        items: Items = self.dataset.open(split) if self.options is None else self.dataset.open(split, self.options)
        return items


def choose_data(plugins: Plugins, preset: Preset, request: DataRequest) -> DataChoice:
    """Find the dataset that a request names, else the preset's. Raises UsageError: an unknown name or option, no such folder."""
    text, captions = request.dataset, request.prompts
    if text is None:
        found = plugins.find("dataset", preset.dataset).noun
        values = {key: _rooted(found, key, value, preset.data_folder) for key, value in preset.data.items()}
    else:
        found, values = _asked(plugins, text)
    if captions is not None:
        if "captions" not in _kinds(found):
            raise UsageError(f"--prompts {one_line(captions)}: dataset '{found.name}' has its own prompts. Name a folder of pictures with "
                             "--dataset.")
        values["captions"] = str(Path(captions).expanduser())
    return _choice(found, values, text is None)


def choose_reference(plugins: Plugins, preset: Preset, asked: str | None, data: DataChoice) -> DataChoice | None:
    """Find where the reference images of a run are from: what the user asked for, else the preset, else the dataset itself, says.

    Returns `data` where they are its own, one a prompt; None where there are none. Raises UsageError as `choose_data`.
    """
    text = asked
    if text is None and data.own and preset.reference is not None:
        text = rooted({"reference": preset.reference}, preset.folder)["reference"]
    if text is None:
        text = data.dataset.reference
    if text is None or text == "":
        return None if text is None else data
    found = _choice(*_asked(plugins, text, "--reference"), False)
    if found.dataset.reference is None:
        raise UsageError(f"dataset '{found.name}' has prompts alone, no images to compare with. Name another with --reference.")
    return data if (found.dataset, found.options) == (data.dataset, data.options) else found


def _asked(plugins: Plugins, text: str, flag: str = "--dataset") -> tuple[Dataset, dict[str, Any]]:
    """A dataset and its options, from what stands after --dataset or --reference."""
    head, at, tail = text.rpartition("@")
    place, chosen = (head, tail) if at and "=" in tail and not _is_there(text) else (text, "")
    options = dict(Label.parse(f"x@{chosen}").options) if chosen else {}
    nouns = [registered.noun for registered in plugins.nouns["dataset"].values()]
    named = plugins.named("dataset", place)
    if named is not None:
        found = named.noun
        if found.path_option and found.path_option not in options:
            raise UsageError(f"dataset '{place}' is of a folder that you name: {flag} FOLDER, or {place}@{found.path_option}=FOLDER")
        return found, options
    of_places = next((noun for noun in nouns if noun.path_option), None)
    if of_places is not None and _is_there(place):
        return of_places, {**options, of_places.path_option: place}
    if os.sep in place or place.startswith((".", "~")):
        raise UsageError(f"no folder {one_line(place)}: {flag} takes a name (scottbench list datasets), or a folder of pictures"
                         f"{' with captions' if flag == '--dataset' else ''}.")
    plugins.find("dataset", place)
    raise AssertionError(place)  # found above


def _is_there(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _kinds(dataset: Dataset) -> dict[str, Any]:
    return {} if dataset.options is NoOptions else {option.name: option.kind for option in options_of(dataset.options)}


def _rooted(dataset: Dataset, key: str, value: Any, folder: Path) -> Any:
    """A value of a preset's [dataset]; a path is seen from here."""
    is_path = Path in (kind := _kinds(dataset).get(key), *getattr(kind, "__args__", ()))
    return str(folder / Path(value).expanduser()) if is_path and isinstance(value, str) else value


def _choice(dataset: Dataset, values: dict[str, Any], own: bool) -> DataChoice:
    if dataset.options is NoOptions:
        make_options(NoOptions, values, f"dataset '{dataset.name}'")
        return DataChoice(dataset.name, dataset, None, own)
    options = make_options(dataset.options, values, f"dataset '{dataset.name}'")
    place = getattr(options, dataset.path_option, None) if dataset.path_option else None
    name = dataset.name if place is None else one_line(Path(place).resolve().stem if Path(place).is_file() else Path(place).resolve().name)
    return DataChoice(name, dataset, options, own)
