"""Training data in shards, read while it is trained on: WebDataset tars, parquet, Hugging Face folders, DiffusionDB. See README.md."""

from __future__ import annotations

from scottbench import Dataset, hookimpl, lazy
from scottbench_streams.options import StreamOptions


@hookimpl
def register_datasets() -> list[Dataset]:
    """Register the dataset that is a folder of shards."""
    return [
        Dataset(
            name="stream",
            summary="training data in shards (tar, parquet, arrow, zip): --dataset stream@path=FOLDER,side=512",
            open=lazy("scottbench_streams.items:open_stream"),
            options=StreamOptions,
        )
    ]
