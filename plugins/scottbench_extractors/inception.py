"""The one InceptionV3 of FID, as clean-fid runs it; the file is pinned by its digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scottbench.models.extractors import OpenExtractor, Source
from scottbench.models.importing import importing
from scottbench.store.assets import Needed, cache_dir, file_digest, require

INCEPTION = Needed(
    Path("inception-2015-12-05.pt"),
    "curl -L --create-dirs -o {path} https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    95_607_719,
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)
"""The one InceptionV3 that clean-fid uses (TorchScript); pinned, because TorchScript is code."""


def find(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Look for the file in the cache of large files and check its digest. Raises MissingAsset or DamagedAsset with the line that fetches
    it."""
    file = cache_dir() / INCEPTION.path
    label = spec.get("label", "Inception")
    require(f"extractor '{label}'", [Needed(file, INCEPTION.fetch.format(path=file), INCEPTION.bytes, INCEPTION.sha256)])
    return Source("inception", label, file_digest(file), file)


def open_inception(source: Source, device: str) -> OpenExtractor:
    """Open the TorchScript file, without its own resizing. Raises RuntimeError where it is none."""
    with importing():
        from cleanfid.inception_torchscript import InceptionV3W

    network = InceptionV3W(str(source.path.parent), download=False, resize_inside=False).to(device).eval()
    return OpenExtractor(source, 299, network, None, None, device)
