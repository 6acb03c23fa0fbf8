"""Extractors: clean-fid's rules exactly, local files only, prompts keep their end token."""

import os
import socket

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from scottbench_extractors import inception
from scottbench_extractors.inception import INCEPTION
from tiny import find_extractor

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.extractors import open_extractor

D = 8
LONG = "a red apple on the small house of the dark blue moon and a cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.tiny_evaluator(tmp_path_factory.mktemp("evaluator"), side=32, width=D)


@pytest.fixture(scope="module")
def extractor(folder):
    return open_extractor(find_extractor({"kind": "open_clip", "folder": str(folder), "label": "tiny"}, lambda text: folder / text))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def pictures(n, side, seed=0):
    """Smooth random pictures, so that resizing leaves something to measure."""
    small = np.random.default_rng(seed).integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(picture).resize((side, side), Image.BICUBIC)) for picture in small])


def save(images, folder):
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:04d}.png")
    return str(folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("side", [64, 32])
def test_fid_equals_clean_fids_own_run_on_a_folder_of_png_files(extractor, tmp_path, no_network, side):
    """clean-fid reads the PNGs, resizes, extracts (our network as its custom extractor) and takes the distance itself."""
    from cleanfid import fid

    ours, theirs = pictures(40, side, 1), pictures(30, side, 2) // 2
    folders = save(ours, tmp_path / "a"), save(theirs, tmp_path / "b")
    rule = {"custom_feat_extractor": extractor.network, "custom_fn_resize": extractor.resize, "custom_image_tranform": lambda image: image}
    peer = fid.compute_fid(*folders, **rule, num_workers=0, batch_size=7, device=torch.device("cpu"), verbose=False)
    assert peer > 0.01
    assert fid.fid_from_feats(extractor.features(ours), extractor.features(theirs)) == pytest.approx(peer, rel=1e-6)


def test_the_resize_rule_is_clean_fids_bicubic_on_float_channels(extractor):
    image = pictures(1, 64)[0]
    channels = [np.asarray(Image.fromarray(image[..., c].astype(np.float32), mode="F").resize((32, 32), Image.BICUBIC)) for c in range(3)]
    resized = extractor.resize(image)
    assert resized.dtype == np.float32 and np.array_equal(resized, np.stack(channels, -1).clip(0, 255))
    assert np.abs(resized - np.asarray(Image.fromarray(image).resize((32, 32), Image.BICUBIC))).max() > 0.2  # not the 8-bit rule


def test_clean_fids_resizer_is_the_identity_at_the_extractors_size_so_it_is_skipped(extractor):
    from cleanfid.resize import make_resizer

    image = pictures(1, 32)[0]
    assert np.array_equal(make_resizer("PIL", False, "bicubic", (32, 32))(image), image.astype(np.float32))
    assert np.array_equal(extractor.resize(image), image.astype(np.float32))


def test_pixels_are_scaled_once(extractor, folder):
    """open_clip's own preprocessing of the same picture at the same size (evaluation.md defect 2: rescaled twice)."""
    import open_clip

    clip, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", precision="fp32")
    image = pictures(1, 32)[0]
    with torch.inference_mode():
        wanted = clip.eval().encode_image(preprocess(Image.fromarray(image))[None], normalize=False).numpy()
    assert np.allclose(extractor.features(image[None]), wanted, atol=1e-5)
    assert abs(np.linalg.norm(wanted) - 1) > 1e-3  # the raw output, not the unit vector


def test_features_do_not_depend_on_the_company_of_an_image(extractor):
    images = pictures(70, 64)
    together, alone = extractor.features(images), np.concatenate([extractor.features(images[i : i + 1]) for i in (0, 63, 64, 69)])
    assert together.dtype == np.float32 and together.shape == (70, D)
    assert np.allclose(together[[0, 63, 64, 69]], alone, atol=1e-5)


def test_a_prompt_that_is_too_long_keeps_its_end_token(extractor):
    """CLIP pools on the end token; slicing it off silently lowers the score (evaluation.md defect 3)."""
    tokens = extractor.tokenize([LONG, "a cat"])
    end = tokens.max()
    assert len(LONG.split()) > tokens.shape[1] - 2
    assert tokens[0, -1] == end and (tokens[0] == end).sum() == 1


def test_a_caption_of_500_words_keeps_its_end_token_and_an_empty_one_is_start_and_end(extractor):
    tokens = extractor.tokenize([" ".join([LONG] * 34), ""])
    end = int(tokens.max())
    assert len(" ".join([LONG] * 34).split()) > 500
    assert tokens[0, -1] == end and (tokens[0] == end).sum() == 1
    assert tokens[1, 1] == end
    found = extractor.text_features([" ".join([LONG] * 34), "", "a cat"])
    assert np.isfinite(found).all() and np.linalg.norm(found, axis=1).min() > 0
    # what CLIP has room for decides: the same first words give the same features
    assert np.allclose(found[0], extractor.text_features([" ".join([LONG] * 2)])[0], atol=1e-5)


def test_a_prefix_is_put_before_every_prompt(folder):
    spec = {"kind": "open_clip", "folder": str(folder), "prefix": " a  red "}
    prefixed, plain = (open_extractor(find_extractor(one, folder.joinpath)) for one in (spec, {**spec, "prefix": ""}))
    assert prefixed.source.prefix == "a red" and "prefix 'a red'" in prefixed.source.papers
    assert np.allclose(prefixed.text_features(["cat"]), plain.text_features(["a red cat"]), atol=1e-6)
    assert not np.allclose(prefixed.text_features(["cat"]), plain.text_features(["cat"]), atol=1e-3)
    with pytest.raises(UsageError, match="takes no 'prefix'"):
        find_extractor({"kind": "inception", "prefix": "a"}, folder.joinpath)


@pytest.mark.parametrize("rule", ["clean", "gigagan256", "tf1", "tm-aa"])
def test_features_are_those_of_the_rule_that_the_preset_names(folder, rule):
    from scottbench.models.images import resize

    found = open_extractor(find_extractor({"kind": "open_clip", "folder": str(folder), "resize": rule}, folder.joinpath))
    image = pictures(1, 64)[0]
    batch = torch.from_numpy(resize(image, 32, rule)).permute(2, 0, 1)[None]
    assert np.allclose(found.features(image[None]), found.network(batch).numpy(), atol=1e-6)
    assert f"resize {rule}" in found.source.papers


def test_text_features_do_not_depend_on_the_company_of_a_prompt(extractor):
    prompts = [LONG, "a cat", "the moon"] * 30
    together = extractor.text_features(prompts)
    assert together.dtype == np.float32 and together.shape == (90, D)
    assert np.allclose(together[:3], extractor.text_features(prompts[:3]), atol=1e-5)
    assert not np.allclose(together[1], together[2], atol=1e-3)


def test_the_digest_names_weights_and_config(folder, tmp_path):
    import shutil

    other = tmp_path / "copy"
    shutil.copytree(folder, other)

    def digest():
        return find_extractor({"kind": "open_clip", "folder": "copy"}, lambda text: tmp_path / text).digest

    same = digest()
    assert same == find_extractor({"kind": "open_clip", "folder": str(folder)}, lambda text: folder / text).digest
    (other / "README.md").write_text("words")
    assert digest() == same
    config = other / "open_clip_config.json"
    config.write_text(config.read_text().replace("0.25", "0.26"))
    assert digest() != same


@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_a_missing_file_of_a_local_extractor_is_named(folder, tmp_path, name):
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(MissingAsset, match=name.replace("open_clip_model", ".*")):
        find_extractor({"kind": "open_clip", "folder": "copy"}, lambda text: tmp_path / text)


def test_truncated_weights_are_a_damaged_asset(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    weights = tmp_path / "copy" / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DamagedAsset, match="copy"):
        open_extractor(find_extractor({"kind": "open_clip", "folder": "copy"}, lambda text: tmp_path / text))


def test_hub_weights_that_are_not_cached_are_named_with_the_line_that_fetches_them(no_network, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingAsset, match=r"laion/CLIP-ViT-g-14-laion2B-s12B-b42K/open_clip_model.safetensors.*fetch: hf download laion/"):
        find_extractor({"kind": "open_clip", "model": "ViT-g-14", "pretrained": "laion2b_s12b_b42k"}, tmp_path.joinpath)
    with pytest.raises(UsageError, match="ViT-g-14"):
        find_extractor({"kind": "open_clip", "model": "ViT-g-14", "pretrained": "nothing"}, tmp_path.joinpath)


@pytest.mark.parametrize("spec", [{"kind": "vgg"}, {"kind": "open_clip"}, {"kind": "open_clip", "folder": "x", "resize": "antialias"}])
def test_an_unknown_kind_or_rule_is_refused(spec, tmp_path):
    with pytest.raises(UsageError, match="unknown|needs"):
        find_extractor(spec, tmp_path.joinpath)


class StandIn(torch.nn.Module):
    """In the form of the Inception file: `layers` on (x - 128) / 128, 2048 numbers out."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.AvgPool2d(37), torch.nn.Flatten(), torch.nn.Linear(192, 2048, bias=False))

    def forward(self, x: torch.Tensor, return_features: bool = True):
        return self.layers(x)


def test_inception_is_never_downloaded_and_its_file_is_checked(no_network, monkeypatch, tmp_path):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    with pytest.raises(MissingAsset, match=r"inception-2015-12-05.pt \(95.6 MB\).*fetch: curl -L .*https://nvlabs-fi-cdn") as caught:
        find_extractor({"kind": "inception"}, tmp_path.joinpath)
    assert str(tmp_path) in str(caught.value) and not isinstance(caught.value, DamagedAsset)
    (tmp_path / "inception-2015-12-05.pt").write_bytes(b"half a file")
    with pytest.raises(DamagedAsset, match="11 bytes"):
        find_extractor({"kind": "inception"}, tmp_path.joinpath)
    assert os.listdir(tmp_path) == ["inception-2015-12-05.pt"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inception_features_are_what_clean_fid_computes_on_png_files(no_network, monkeypatch, tmp_path):
    """With a stand-in network in the file: same resize to 299, same scaling, same wrapper."""
    from cleanfid import fid
    from cleanfid.inception_torchscript import InceptionV3W

    torch.manual_seed(0)
    torch.jit.script(StandIn()).save(str(tmp_path / "inception-2015-12-05.pt"))
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(inception, "INCEPTION", INCEPTION.__class__(INCEPTION.path, INCEPTION.fetch))
    extractor = open_extractor(find_extractor({"kind": "inception", "label": "Inception"}, tmp_path.joinpath))
    images = pictures(3, 64)
    peer = InceptionV3W(str(tmp_path), download=False).eval()
    wanted = fid.get_folder_features(
        save(images, tmp_path / "png"), peer, num_workers=0, batch_size=2, device=torch.device("cpu"), mode="clean", verbose=False)
    found = extractor.features(images)
    assert found.shape == (3, 2048) and np.allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert extractor.text_tower is None
