"""Stable Diffusion 1.5 at a pinned revision of its hub repository, from the local hub cache; or a folder of the user's.

Nothing here opens a socket. Sizes and digests are those that the hub shows for the revision; the weights' are checked at every
opening, so that "sd15" always means the same numbers. The files in full precision are used: each is cast to the run's dtype.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import DamagedAsset, MissingAsset, Unfit
from scottbench.store.assets import Needed, bytes_in_words, require

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel

VARIABLE = "SCOTTBENCH_SD15"
"""The variable names a diffusers pipeline folder to use in place of the hub's; its digest is recorded, not checked."""
TABLE = next(asset for asset in tomllib.loads((Path(__file__).parent / "assets.toml").read_text())["assets"] if asset["name"] == "sd15")
"""The entry that `scottbench fetch` goes by too."""
REPOSITORY, REVISION = TABLE["hub"], TABLE["revision"]
BYTES: dict[str, int] = {file["name"]: file["bytes"] for file in TABLE["files"]}
"""Every file that is opened, by its name in the repository."""
SHA256: dict[str, str] = {file["name"]: file["sha256"] for file in TABLE["files"] if "sha256" in file}
TOTAL = bytes_in_words(sum(BYTES.values()))
FETCH = f"hf download {REPOSITORY} --revision {REVISION} {' '.join(BYTES)}"


def sd15_folder() -> Path:
    """Name the folder where the pipeline is, or would be: $SCOTTBENCH_SD15, else the pinned snapshot in the hub cache."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / REVISION


def open_sd15(device: str = "cpu", dtype: str = "float32") -> DiffusionModel:
    """Open Stable Diffusion 1.5. Raises MissingAsset that names each absent file, DamagedAsset for a file that is not the pinned one."""
    from scottbench.models.pipeline import open_pipeline

    folder = sd15_folder()
    if os.environ.get(VARIABLE):
        if not folder.is_dir():
            raise MissingAsset(
                f"model 'sd15' cannot be used:\n  missing {folder}/, which {VARIABLE} names. "
                f"Set it to a diffusers pipeline folder, or unset it and fetch {TOTAL}: {FETCH}"
            )
        return open_pipeline(folder, device, dtype)
    try:
        require(f"model 'sd15' in {folder}", [Needed(folder / name, bytes=size) for name, size in BYTES.items()])
        return open_pipeline(folder, device, dtype, SHA256)
    except Unfit:
        raise  # fetching again would not help
    except DamagedAsset as error:
        raise DamagedAsset(f"{error}\n  fetch {TOTAL} again: {FETCH} --force-download") from None
    except MissingAsset as error:
        short = str(error).replace(f"missing {folder}{os.sep}", "missing ")  # the folder's name is long, and in the first line
        raise MissingAsset(f"{short}\n  fetch {TOTAL}: {FETCH}") from None
