"""What can be said of a folder of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FolderOptions:
    """Options of the dataset "folder"; paths are relative to the preset's file, or to where the command is run."""

    path: Path
    """Folder of PNG, JPEG or WebP pictures; or a .tar (webdataset), .npz or .safetensors file."""
    captions: Path | None = None
    """CSV, TSV, JSONL, JSON (COCO's form, or a list) or lines of text. none: captions.csv, metadata.jsonl and the like in the folder, else
    a text file beside each picture."""
    evaluation: Path | None = None
    """List of the evaluation split: a text file with an id or a picture's file a line. none: evaluation.txt in the folder, if there is
    one; else all pictures that are not for training."""
    train: Path | None = None
    """The same for the training split. none: train.txt in the folder, if there is one; else what the evaluation list leaves."""
    side: int | None = None
    """Pixels: the centred square of each picture, resized to side x side by LANCZOS. none: pictures as they are, all of one size."""

    def __post_init__(self) -> None:
        """Raise ValueError for a side that no picture has."""
        if self.side is not None and not 8 <= self.side <= 2048:
            raise ValueError(f"side must be 8 to 2048 pixels, found {self.side}")
