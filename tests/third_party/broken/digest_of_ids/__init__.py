"""Its digest says nothing of its pictures."""

import hashlib
from pathlib import Path

from scottbench import Dataset, hookimpl


class Squares:
    """Four pictures."""

    ids = ("a", "b", "c", "d")
    prompts = ("a red square", "a green square", "a blue square", "a dark square")

    @property  # fault
    def digest(self):
        """sha256 of the ids."""
        return hashlib.sha256("".join(self.ids).encode()).hexdigest()

    def images(self, indices):
        """(n,H,W,3) uint8."""
        import numpy as np

        return np.load(Path(__file__).parent / "pictures.npy")[list(indices)]


def opened(split):
    """Open the only split."""
    from scottbench.errors import UsageError

    if split != "evaluation":
        raise UsageError(f"there is no split '{split}'. Splits: evaluation")
    return Squares()


@hookimpl
def register_datasets():
    return [Dataset("digest-of-ids", "four squares, with a fault", opened)]
