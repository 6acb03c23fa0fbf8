"""What can be said of a folder of shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StreamOptions:
    """Options of the dataset "stream"; paths are relative to the preset's file, or to where the command is run."""

    path: Path
    """Folder of .tar, .parquet, .arrow or .zip shards, or one of them. Where it holds tars, the rest is left alone."""
    side: int = 512
    """Pixels: the centred square of each picture, resized to side x side by an antialiased bicubic filter."""
    image: str = "auto"
    """Column with the pictures' bytes, of parquet and arrow."""
    caption: str = "auto"
    """Column, or field of a sample's .json, with the caption. auto: a sample's .txt, else caption, text, TEXT, txt or prompt."""
    buffer: int = 2048
    """Items that a process shuffles among each other; the order of the shards is shuffled beside that."""
    broken: float = 0.01
    """Share of an epoch that may be broken: as many items are kept as spares for it. 0: a broken item is an error."""
    min_size: int = 0
    """Least pixels of a picture's shorter side."""
    min_aesthetic: float | None = None
    """Least value of `aesthetic`; items without one are left out too. none: all."""
    aesthetic: str = "auto"
    """Column, or field of a sample's .json. auto: aesthetic, aesthetic_score, AESTHETIC_SCORE or aesthetics_score."""
    workers: int = 0
    """Threads that decode pictures. 0: one for each CPU, 16 at most."""

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that cannot be."""
        if not 8 <= self.side <= 2048:
            raise ValueError(f"side must be 8 to 2048 pixels, found {self.side}")
        if not 1 <= self.buffer <= 2**20:
            raise ValueError(f"buffer must be 1 to {2**20} items, found {self.buffer}")
        if not 0 <= self.broken <= 0.5:
            raise ValueError(f"broken must be 0 to 0.5, found {self.broken}")
        if self.min_size < 0 or not 0 <= self.workers <= 256:
            raise ValueError("need min_size >= 0 and 0 <= workers <= 256")
