"""Scorers: small random look-alikes of the published files, held against the published formulas written out again."""

import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from scottbench_scorers import aesthetic, image_reward
from scottbench_scorers.build.convert import convert
from scottbench_scorers.weights import PLACES
from tiny import find_extractor
from torch.nn.functional import conv2d, gelu, layer_norm, linear, normalize

from scottbench.errors import DamagedAsset, MissingAsset, Unfit, UsageError
from scottbench.models.extractors import open_extractor
from scottbench.models.images import Fit
from scottbench.models.images import open_clip as fitted

PROMPTS = ["a red cat", "the moon and the sun", "a b c " * 60]
MEAN, STD = torch.tensor((0.48145466, 0.4578275, 0.40821073)), torch.tensor((0.26862954, 0.26130258, 0.27577711))


def pictures(height=40, width=56, n=3):
    return np.random.default_rng(1).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def prepared(side, fit, images):
    """(N,3,S,S) float32 as the published preprocessing makes it."""
    small = torch.from_numpy(np.stack([fitted(image, side, fit) for image in images]))
    return ((small / 255 - MEAN) / STD).permute(0, 3, 1, 2)


def random_like(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * (0.1 if len(shape) > 1 else 0.3) for name, shape in shapes.items()}


def opened(kind, folder, **spec):
    return open_extractor(find_extractor({"kind": kind, "folder": str(folder), **spec}, folder.joinpath))


# --- PickScore -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pick(tmp_path_factory):
    """A CLIPModel folder as transformers writes it, with CLIP's vocabulary and one narrow layer."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("pick")
    inner = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=inner | {"eos_token_id": 49407, "hidden_act": "gelu"}, projection_dim=8,
                        vision_config=inner | {"image_size": 28, "patch_size": 14, "hidden_act": "gelu"})  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_pick_score_is_the_cards_formula(pick):
    """exp(logit scale) x cosine of get_image_features and get_text_features, as the model card computes it."""
    from transformers import CLIPModel

    model, scorer = CLIPModel.from_pretrained(pick), opened("pick_score", pick)
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=77)(PROMPTS)
    with torch.inference_mode():
        found = model(input_ids=tokens, pixel_values=prepared(28, Fit(), pictures()))
    scores = scorer.features(pictures(), PROMPTS)
    assert scores.shape == (3, 1) and scores.dtype == np.float32
    assert np.allclose(scores[:, 0], found.logits_per_image.diagonal().numpy(), atol=1e-4)
    assert np.abs(np.diff(scores[:, 0])).min() > 1e-3
    with pytest.raises(TypeError, match="reads pairs, and was given 3 images, 0 prompts"):
        scorer.features(pictures())


def test_a_scorers_folder_of_another_model_is_named(pick, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(Unfit, match='config.json: model_type is "bert"; supported: '):
        find_extractor({"kind": "pick_score", "folder": str(tmp_path)}, tmp_path.joinpath)
    (tmp_path / "config.json").write_text((pick / "config.json").read_text())
    weights = load_file(pick / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if name != "logit_scale"}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DamagedAsset, match="1 tensors differ, such as logit_scale"):
        opened("pick_score", tmp_path)


# --- HPSv2.1 and the aesthetic predictor ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def architecture(tmp_path_factory):
    """A model of open_clip's table in ViT-H-14's form with one narrow layer: its name."""
    config = {"embed_dim": 8, "vision_cfg": {"image_size": 28, "layers": 1, "width": 32, "head_width": 16, "patch_size": 14},
              "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}  # fmt: skip
    path = tmp_path_factory.mktemp("table") / "tiny-H.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return "tiny-H"


def test_hpsv2_is_the_cosine_of_the_published_file_after_conversion(architecture, tmp_path):
    torch.manual_seed(0)
    model = open_clip.create_model(architecture, pretrained=None, load_weights=False).eval()
    torch.save({"epoch": 3, "state_dict": {name: tensor.half() for name, tensor in model.state_dict().items()}}, tmp_path / "HPS.pt")
    with pytest.raises(MissingAsset, match=r"HPS_v2.1.safetensors.*fetch: hf download xswu/HPSv2 .*then: python -m scottbench_scorers"):
        opened("hpsv2", tmp_path, model=architecture)
    with pytest.raises(UsageError, match="can run code .* add --allow-unsafe-checkpoint"):
        convert("hpsv2", tmp_path / "HPS.pt", allowed=False)
    assert convert("hpsv2", tmp_path / "HPS.pt", allowed=True) == tmp_path / "HPS_v2.1.safetensors"
    scorer = opened("hpsv2", tmp_path, model=architecture)
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    with torch.inference_mode():
        image = model.encode_image(prepared(28, Fit("longest"), pictures()), normalize=True)
        text = model.encode_text(open_clip.get_tokenizer(architecture)(PROMPTS), normalize=True)
    assert np.allclose(scorer.features(pictures(), PROMPTS)[:, 0], (image @ text.T).diagonal().numpy(), atol=1e-5)
    with pytest.raises(DamagedAsset, match=r"is of another model: open_clip's ViT-S-32-alt has .* the file has it as"):
        opened("hpsv2", tmp_path, model="ViT-S-32-alt")


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was run"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(DamagedAsset, match="cannot read .*evil.pt"):
        convert("hpsv2", tmp_path / "evil.pt", allowed=True)
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize("version", [1, 2])
def test_the_aesthetic_head_is_the_published_one_on_normalised_features(architecture, tmp_path, version):
    torch.manual_seed(0)
    clip = open_clip.create_model(architecture, pretrained=None, load_weights=False, force_quick_gelu=True).eval()
    save_file(clip.state_dict(), tmp_path / aesthetic.CLIP)
    widths = dict(zip(PLACES, aesthetic.WIDTHS))
    shapes, before = {}, 8
    for place, out in widths.items():
        shapes |= {f"layers.{place}.weight": (out, before), f"layers.{place}.bias": (out,)}
        before = out
    head = random_like(shapes if version == 2 else {"weight": (1, 8), "bias": (1,)})
    torch.save(head, tmp_path / "sac.pth")
    convert("aesthetic", tmp_path / "sac.pth", allowed=True)
    scorer = opened("aesthetic", tmp_path, model=architecture)
    with torch.inference_mode():
        found = normalize(clip.encode_image(prepared(28, Fit(), pictures())))
        for place in widths if version == 2 else ():
            found = linear(found, head[f"layers.{place}.weight"], head[f"layers.{place}.bias"])
        found = found if version == 2 else linear(found, head["weight"], head["bias"])
    assert np.allclose(scorer.features(pictures()), found.numpy(), atol=1e-5) and scorer.pair_tower is None
    save_file({"other": torch.zeros(2)}, tmp_path / aesthetic.HEAD)
    with pytest.raises(DamagedAsset, match="is no aesthetic predictor: it has other"):
        opened("aesthetic", tmp_path, model=architecture)


# --- ImageReward -----------------------------------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "red", "cat", "the", "moon", "and", "sun"]
WIDE, NARROW, SIDE, PATCH, LAYERS = 128, 64, 32, 16, 2


def published_shapes():
    """Names and shapes of ImageReward.pt, with two layers of 128 and 64 in place of 24 of 1024 and 12 of 768."""
    eye, text = "blip.visual_encoder.", "blip.text_encoder."
    shapes = {f"{eye}cls_token": (1, 1, WIDE), f"{eye}pos_embed": (1, (SIDE // PATCH) ** 2 + 1, WIDE),
              f"{eye}patch_embed.proj.weight": (WIDE, 3, PATCH, PATCH), f"{eye}patch_embed.proj.bias": (WIDE,),
              f"{text}embeddings.word_embeddings.weight": (len(WORDS) + 2, NARROW),
              f"{text}embeddings.position_embeddings.weight": (40, NARROW)}  # fmt: skip

    def dense(name, out, given):
        shapes.update({f"{name}.weight": (out, given), f"{name}.bias": (out,)})

    def norm(name, width):
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    for i in range(LAYERS):
        block = f"{eye}blocks.{i}."
        norm(block + "norm1", WIDE), norm(block + "norm2", WIDE), dense(block + "attn.qkv", 3 * WIDE, WIDE)
        dense(block + "attn.proj", WIDE, WIDE), dense(block + "mlp.fc1", 4 * WIDE, WIDE), dense(block + "mlp.fc2", WIDE, 4 * WIDE)
        layer = f"{text}encoder.layer.{i}."
        for attention, source in (("attention", NARROW), ("crossattention", WIDE)):
            dense(f"{layer}{attention}.self.query", NARROW, NARROW)
            dense(f"{layer}{attention}.self.key", NARROW, source), dense(f"{layer}{attention}.self.value", NARROW, source)
            dense(f"{layer}{attention}.output.dense", NARROW, NARROW), norm(f"{layer}{attention}.output.LayerNorm", NARROW)
        dense(layer + "intermediate.dense", 96, NARROW), dense(layer + "output.dense", NARROW, 96), norm(layer + "output.LayerNorm", NARROW)
    norm(f"{eye}norm", WIDE), norm(f"{text}embeddings.LayerNorm", NARROW)
    before = NARROW
    for place, out in zip((0, 2, 4, 6, 7), image_reward.HEADS):
        dense(f"mlp.layers.{place}", out, before)
        before = out
    dense("blip.vision_proj", 8, WIDE), dense("blip.text_proj", 8, NARROW)
    return shapes


def published_score(weights, pixels, ids, mask):
    """ImageReward's forward pass from the published names alone: ViT, BERT with cross-attention, head. (N,) float32."""

    def dense(name, x):
        return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, x, eps):
        return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def attend(q, k, v, bias=0.0):
        q, k, v = (x.unflatten(-1, (-1, 64)).transpose(1, 2) for x in (q, k, v))
        return ((q @ k.transpose(-1, -2) / 8 + bias).softmax(-1) @ v).transpose(1, 2).flatten(2)

    eye, text = "blip.visual_encoder.", "blip.text_encoder."
    x = conv2d(pixels, weights[f"{eye}patch_embed.proj.weight"], weights[f"{eye}patch_embed.proj.bias"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([weights[f"{eye}cls_token"].expand(len(x), -1, -1), x], 1) + weights[f"{eye}pos_embed"]
    for i in range(LAYERS):
        block = f"{eye}blocks.{i}."
        q, k, v = dense(block + "attn.qkv", norm(block + "norm1", x, 1e-6)).chunk(3, -1)
        x = x + dense(block + "attn.proj", attend(q, k, v))
        x = x + dense(block + "mlp.fc2", gelu(dense(block + "mlp.fc1", norm(block + "norm2", x, 1e-6))))
    seen = norm(f"{eye}norm", x, 1e-6)
    y = weights[f"{text}embeddings.word_embeddings.weight"][ids] + weights[f"{text}embeddings.position_embeddings.weight"][: ids.shape[1]]
    y, bias = norm(f"{text}embeddings.LayerNorm", y, 1e-12), (1.0 - mask[:, None, None].float()) * -10000.0
    for i in range(LAYERS):
        layer = f"{text}encoder.layer.{i}."
        for attention, source, hidden in (("attention", None, bias), ("crossattention", seen, 0.0)):
            name, source = layer + attention, y if source is None else source
            made = attend(dense(f"{name}.self.query", y), dense(f"{name}.self.key", source), dense(f"{name}.self.value", source), hidden)
            y = norm(f"{name}.output.LayerNorm", dense(f"{name}.output.dense", made) + y, 1e-12)
        y = norm(layer + "output.LayerNorm", dense(layer + "output.dense", gelu(dense(layer + "intermediate.dense", y))) + y, 1e-12)
    y = y[:, 0]
    for place in (0, 2, 4, 6, 7):
        y = dense(f"mlp.layers.{place}", y)
    return (y[:, 0] - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture(scope="module")
def reward(tmp_path_factory):
    folder, weights = tmp_path_factory.mktemp("reward"), random_like(published_shapes())
    extra = {"blip.text_encoder.embeddings.position_ids": torch.arange(40)[None]}
    torch.save(weights | extra, folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    convert("image_reward", folder / "ImageReward.pt", allowed=True)
    return folder, weights


def test_image_reward_is_the_published_network(reward):
    folder, weights = reward
    scorer = opened("image_reward", folder)
    tokens = scorer.tokenize(PROMPTS)
    assert tokens.shape == (3, 2, 35)
    assert tokens[0, 0, :6].tolist() == [2, 5, 8, 9, 3, 0] and tokens[0, 1].sum() == 5  # [CLS] a red cat [SEP] [PAD]
    assert tokens[2, 0, -1] == 3 and tokens[2, 1].sum() == 35  # cut, the end kept
    wanted = published_score(weights, prepared(SIDE, Fit(), pictures()), tokens[:, 0], tokens[:, 1])
    found = scorer.features(pictures(), PROMPTS)[:, 0]
    assert np.abs(np.diff(found)).min() > 1e-3
    assert np.allclose(found, wanted.numpy(), atol=1e-4 * np.abs(found).max())


def test_image_reward_of_other_weights_is_refused(reward, tmp_path):
    _, weights = reward
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    save_file(weights | {"mlp.layers.7.weight": torch.zeros(1, 32)}, tmp_path / image_reward.FILE)
    with pytest.raises(DamagedAsset, match=r"its head has 7.weight as \(1, 16\), and the file has it as \(1, 32\)"):
        opened("image_reward", tmp_path)
    save_file({"layers.0.weight": torch.zeros(2, 2)}, tmp_path / image_reward.FILE)
    with pytest.raises(DamagedAsset, match="is no ImageReward: it lacks 'patch_embed.proj.weight'"):
        opened("image_reward", tmp_path)


@pytest.mark.parametrize("kind, line", [
    ("image_reward", "hf download THUDM/ImageReward"), ("pick_score", "hf download yuvalkirstain/PickScore_v1"),
    ("hpsv2", "hf download xswu/HPSv2"), ("aesthetic", "sac%2Blogos"), ("dinov2", "hf download facebook/dinov2-large")])  # fmt: skip
def test_missing_weights_are_named_with_the_line_that_fetches_them(kind, line, tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    with pytest.raises(MissingAsset, match="cannot be used:\n  missing ") as caught:
        find_extractor({"kind": kind}, tmp_path.joinpath)
    assert f"fetch: {line}" in str(caught.value) or f"-o {tmp_path}" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
