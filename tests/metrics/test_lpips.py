"""LPIPS over seeds: scaling, averaging, and what is said where weights are absent. The network itself is torchmetrics'."""

from __future__ import annotations

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


def test_the_weights_are_named_where_they_are_absent(monkeypatch, tmp_path):
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


def test_the_network_is_torchmetrics_on_alexnet_with_the_linear_heads_that_it_brings(monkeypatch, tmp_path):
    """The file is stood in for by random features, of AlexNet's form."""
    from torchmetrics.functional.image import lpips as peer

    torch.manual_seed(0)
    stages = [(3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
    convolutions = [torch.nn.Conv2d(a, b, size, step, border) for a, b, size, step, border in stages]
    pools = [[], [torch.nn.MaxPool2d(3, 2)], [torch.nn.MaxPool2d(3, 2)], [], []]
    layers = [layer for pool, each in zip(pools, convolutions) for layer in (*pool, each, torch.nn.ReLU())]
    monkeypatch.setattr(peer, "_get_tv_model_features", lambda name, pretrained: torch.nn.Sequential(*layers) if pretrained else None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / module.ALEXNET).write_bytes(b"")
    monkeypatch.setattr(module, "file_digest", lambda path: "7be5be79" + "0" * 56)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    distance = module.compare(module.open_network())
    near = (images * 0.9).astype(np.uint8)
    assert distance(images, images) == pytest.approx(np.zeros(4), abs=1e-7)
    assert (distance(images, near) > 1e-4).all() and (distance(images, 255 - images) > distance(images, near)).all()
    assert distance(images, near) == pytest.approx(zhang(images, near, layers, peer.__file__), rel=1e-5)


def zhang(a: np.ndarray, b: np.ndarray, layers: list, place: str) -> np.ndarray:
    """The distance by its definition (Zhang et al. 2018, eq. 1): unit features of five stages, squared differences, linear heads."""
    heads = list(torch.load(place.replace("lpips.py", "lpips_models/alex.pth"), map_location="cpu").values())
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    sides = [((torch.from_numpy(x).float() / 127.5 - 1 - shift) / scale).permute(0, 3, 1, 2) for x in (a, b)]
    total = torch.zeros(len(a))
    with torch.no_grad():
        for layer in layers:
            sides = [layer(side) for side in sides]
            if isinstance(layer, torch.nn.ReLU):
                unit = [side / side.square().sum(1, keepdim=True).add(1e-8).sqrt() for side in sides]
                total += ((unit[0] - unit[1]).square() * heads.pop(0)).sum(1).mean((1, 2))
    return total.double().numpy()
