"""Its digest is that of the weights' name."""

from pathlib import Path

from scottbench import Extractor, hookimpl, lazy

WEIGHTS = Path(__file__).parent / "weights.npy"


@hookimpl
def register_extractors():
    return [Extractor("digest-of-a-name", "a matrix, with a fault", lazy("digest_of_a_name:find"), lazy("digest_of_a_name:opened"))]


def find(spec, path):  # fault
    """Find the weights, which lie in this package."""
    import hashlib

    from scottbench.models.extractors import Source

    return Source("digest-of-a-name", "matrix", hashlib.sha256(WEIGHTS.name.encode()).hexdigest(), WEIGHTS)


def opened(source, device):
    """An OpenExtractor."""
    import numpy as np
    import torch

    from scottbench.models.extractors import OpenExtractor

    matrix = torch.from_numpy(np.load(WEIGHTS)).to(device)
    return OpenExtractor(source, 8, lambda images: images.flatten(1) @ matrix, None, None, device)
