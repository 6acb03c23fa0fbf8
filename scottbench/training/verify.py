"""`scottbench verify` of a student's folder: its weights and its training data, read again whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import DamagedAsset, IntegrityError, UsageError
from scottbench.plan.data import choose_data
from scottbench.plan.request import RunRequest
from scottbench.store.files import read_object
from scottbench.store.weights import weights_digest
from scottbench.text import one_line
from scottbench.training.folder import CONFIGURATION

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins


def verify_training(plugins: Plugins, folder: Path, dataset: str | None, prompts: str | None) -> list[str]:
    """Compare a student's weights, and the training data with every picture read again, with what its training noted; return a line for
    each that is as noted. dataset, prompts: data in place of the preset's, as of `scottbench train`. Raises IntegrityError, or UsageError,
    MissingAsset or DamagedAsset where they cannot be read."""
    noted = read_object(folder / CONFIGURATION, lambda error: DamagedAsset(f"cannot read {folder / CONFIGURATION}: {error}."))
    preset = noted.get("preset")
    if not isinstance(preset, str):
        raise UsageError(f"{folder / CONFIGURATION} names no preset.")
    checked = []
    if (folder / "student.json").is_file():
        student = read_object(folder / "student.json", lambda error: DamagedAsset(f"cannot read {folder / 'student.json'}: {error}."))
        if student.get("weights_digest") != weights_digest(folder / "unet"):
            raise IntegrityError(f"{folder / 'unet'} is not the network that student.json is of. Restore it from a copy.")
        checked.append("weights are those of student.json")
    choice = choose_data(plugins, plugins.find("preset", preset).noun, RunRequest(preset, dataset=dataset, prompts=prompts))
    items = choice.open("train")
    full = getattr(items, "full_digest", None)  # a dataset that remembers its digest has a second way to it
    found = items.digest if full is None else full()
    if found != noted.get("dataset_digest"):
        raise IntegrityError(
            f"the training data of {folder} are others now: dataset '{one_line(choice.name)}' has the digest {found[:12]}, the training "
            f"noted {one_line(str(noted.get('dataset_digest')))[:12]}. Was it another one? Name it: --dataset.")
    return [*checked, f"training data '{choice.name}', {len(items.ids):,} items: every picture read again"]
