"""Its network is in training mode: an image's features depend on its batch."""

from pathlib import Path

from scottbench import Extractor, hookimpl, lazy


@hookimpl
def register_extractors():
    return [Extractor("batch-norm", "means of squares, with a fault", lazy("batch_norm:find"), lazy("batch_norm:opened"))]


def find(spec, path):
    """The network has no weights: its digest is that of its code."""
    import hashlib

    from scottbench.models.extractors import Source

    return Source("batch-norm", "batch norm", hashlib.sha256(Path(__file__).read_bytes()).hexdigest(), Path(__file__))


def opened(source, device):  # fault
    """An OpenExtractor."""
    import torch

    from scottbench.models.extractors import OpenExtractor

    norm = torch.nn.BatchNorm2d(3)
    return OpenExtractor(
        source, 32, lambda images: torch.nn.functional.avg_pool2d(norm(images), 16).flatten(1).detach(), None, None, device
    )
