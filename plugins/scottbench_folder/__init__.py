"""Any pictures with captions as a dataset: a folder, a webdataset tar, an .npz or .safetensors file. See README.md."""

from __future__ import annotations

from scottbench import Dataset, hookimpl, lazy
from scottbench_folder.options import FolderOptions


@hookimpl
def register_datasets() -> list[Dataset]:
    """Register the dataset that is a place of pictures."""
    return [
        Dataset(
            name="folder",
            summary="any pictures with captions: --dataset FOLDER, or [dataset] in a preset",
            open=lazy("scottbench_folder.items:open_folder"),
            options=FolderOptions,
            path_option="path",
        )
    ]
