"""Resize rule "open_clip", and weights of the hub's cache by pinned name, revision and digest."""

import hashlib

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny import find_extractor

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.extractors import open_extractor
from scottbench.models.images import open_clip as resize_open_clip

REVISION = "4b0305adc6802b2632e11cbe6606a9bdd43d35c9"
NAME = "open_clip_pytorch_model.safetensors"
SPEC = {"kind": "open_clip", "model": "ViT-g-14", "pretrained": "laion2b_s12b_b42k", "file": NAME, "revision": REVISION, "size": "5.47 GB"}


def pictures(n, height, width):
    small = np.random.default_rng(0).integers(0, 256, (n, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in small])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.tiny_evaluator(tmp_path_factory.mktemp("evaluator"), side=32)


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (32, 32), (48, 71), (71, 48), (33, 200), (20, 31)])
def test_the_rule_open_clip_is_open_clips_own_preprocessing_to_the_last_bit(shape):
    import open_clip

    preprocess = open_clip.image_transform(32, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    image = pictures(1, *shape)[0]
    wanted = (preprocess(Image.fromarray(image)) * 255).round().permute(1, 2, 0).numpy()
    found = resize_open_clip(image, 32)
    assert found.dtype == np.float32 and np.array_equal(found, wanted)


def test_features_by_the_rule_open_clip_are_open_clips_and_not_those_of_the_rule_clean(folder):
    import open_clip

    clip, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", precision="fp32")
    images = pictures(3, 64, 64)
    with torch.inference_mode():
        wanted = clip.eval().encode_image(torch.stack([preprocess(Image.fromarray(one)) for one in images])).numpy()
    spec = {"kind": "open_clip", "folder": str(folder), "label": "tiny"}
    sources = {rule: find_extractor(spec | {"resize": rule}, folder.joinpath) for rule in ("open_clip", "clean")}
    assert {rule: source.resize for rule, source in sources.items()} == {"open_clip": "open_clip", "clean": "clean"}
    features = {rule: open_extractor(source).features(images) for rule, source in sources.items()}
    assert np.allclose(features["open_clip"], wanted, atol=1e-5)
    assert np.abs(features["clean"] - wanted).max() > 1e-4


def test_inception_has_the_rule_clean_only(tmp_path):
    with pytest.raises(UsageError, match="resize rule 'open_clip' of an extractor of kind 'inception' is unknown; known: clean"):
        find_extractor({"kind": "inception", "resize": "open_clip"}, tmp_path.joinpath)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A file in the place of the pinned weights, in a hub cache that has no refs/main."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    path = tmp_path / "models--laion--CLIP-ViT-g-14-laion2B-s12B-b42K" / "snapshots" / REVISION / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return path


def test_pinned_weights_are_found_in_the_hub_cache_and_their_digest_is_checked(cached, tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()
    source = find_extractor(SPEC | {"sha256": digest, "resize": "open_clip"}, tmp_path.joinpath)
    assert (source.path, source.digest, source.model, source.resize) == (cached, digest, "ViT-g-14", "open_clip")
    fetch = f"hf download laion/.* --revision {REVISION} {NAME} --force-download"
    with pytest.raises(DamagedAsset, match=f"sha256 is not 000000000000.*fetch: {fetch}"):
        find_extractor(SPEC | {"sha256": "0" * 64}, tmp_path.joinpath)


def test_weights_of_another_revision_are_not_taken(cached, tmp_path):
    with pytest.raises(MissingAsset) as caught:
        find_extractor(SPEC | {"revision": "0" * 40}, tmp_path.joinpath)
    repository = "laion/CLIP-ViT-g-14-laion2B-s12B-b42K"
    assert str(caught.value).splitlines()[1] == (
        f"  missing {repository}/{NAME} (5.47 GB)  fetch: hf download {repository} --revision {'0' * 40} {NAME}"
    )
