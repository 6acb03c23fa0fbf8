"""LPIPS over seeds: scaling, averaging, and what is said where package or weights are absent. The network itself is the package's."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from scottbench_metrics import lpips as module

from scottbench.errors import DamagedAsset, MissingAsset
from scottbench.metrics import BadFeatures
from scottbench.registry.nouns import CellFeatures, NoOptions


def cells(count: int, side: int = 64, n: int = 20) -> list[CellFeatures]:
    pictures = [np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8) for seed in range(count)]
    return [CellFeatures(n, {}, {}, {}, images=lambda indices, p=p: p[list(indices)]) for p in pictures]


def difference(a, b):
    """In the form of the package's network: images in -1..1, channels first."""
    assert a.dtype == torch.float32 and a.shape[1:] == (3, 64, 64) and a.min() >= -1 and a.max() <= 1
    return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)


def test_pairs_of_seeds_are_averaged_per_prompt_in_item_order(monkeypatch):
    monkeypatch.setattr(module, "open_network", lambda: difference)
    given = cells(3)
    found = module.items(given, NoOptions())
    images = [cell.images(range(20)) / 127.5 for cell in given]
    wanted = np.mean([np.abs(images[a] - images[b]).mean(axis=(1, 2, 3)) for a, b in ((0, 1), (0, 2), (1, 2))], axis=0)
    assert found == pytest.approx(wanted, rel=1e-5) and found.shape == (20,)
    assert module.lpips(given, NoOptions()) == pytest.approx(wanted.mean(), rel=1e-5)
    assert module.influence(given, NoOptions()).generated.mean() == pytest.approx(0, abs=1e-12)


def test_the_package_and_the_weights_are_named_where_they_are_absent(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MissingAsset, match="missing the package lpips  fetch: pip install lpips"):
        module.lpips(cells(2), NoOptions())
    monkeypatch.setitem(sys.modules, "lpips", types.ModuleType("lpips"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(MissingAsset, match="alexnet-owt-7be5be79.pth.*fetch: curl -L .*download.pytorch.org") as caught:
        module.lpips(cells(2), NoOptions())
    assert not isinstance(caught.value, DamagedAsset)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / module.ALEXNET).write_bytes(b"half a file")
    with pytest.raises(DamagedAsset, match="damaged .*alexnet"):
        module.lpips(cells(2), NoOptions())


def test_one_seed_no_images_and_small_images_are_refused(monkeypatch):
    monkeypatch.setattr(module, "open_network", lambda: difference)
    with pytest.raises(BadFeatures, match="found 1, needed at least 2"):
        module.lpips(cells(1), NoOptions())
    with pytest.raises(BadFeatures, match="only features are at hand"):
        module.lpips([CellFeatures(2, {}, {}, {})] * 2, NoOptions())
    with pytest.raises(BadFeatures, match="images are 32x32; LPIPS needs at least 64x64"):
        module.lpips(cells(2, side=32), NoOptions())
