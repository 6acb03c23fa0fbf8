"""Train the pocket evaluator: a CLIP in open_clip's format, on the training split alone, opened with `local-dir:FOLDER`.

    python -m scottbench_pocket.build.evaluator --work DIR --out FOLDER

It shares nothing with the generator but the words: convolutions instead of a U-Net, its own text tower, its own seed.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch.nn import functional as F

from . import common, text_encoder

BATCH = 128
FEATURES = 256


def config(vocabulary: int) -> dict:
    """open_clip_config.json: 0.06 GFLOP an image; 64x64 input in -1..1; the tokenizer's files lie in the same folder."""
    return {
        "model_cfg": {
            "embed_dim": FEATURES,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 20, "head_width": 32},
            "text_cfg": {"context_length": text_encoder.POSITIONS, "vocab_size": vocabulary, "width": 128, "heads": 4, "layers": 2,
                         "hf_tokenizer_name": "local"},
        },
        "preprocess_cfg": {"size": [64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
    }


def augment(x: torch.Tensor) -> torch.Tensor:
    """Shifts to 3 pixels, scales to 8 %, faint colour changes and noise; (N,3,64,64) -1..1. No flips: captions name sides."""
    n = len(x)
    scale, shift = 1 + 0.08 * (2 * torch.rand(n) - 1), (2 * torch.rand(n, 2) - 1) * 3 / 32
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    affine[:, :, 2] = shift
    grid = F.affine_grid(affine, x.shape, align_corners=False)
    x = F.grid_sample(x - 1, grid, align_corners=False) + 1  # white is 0 while sampling, so white comes in from outside
    colour = 1 + 0.06 * torch.randn(n, 3, 1, 1)
    return (x - 1) * colour + 1 + 0.02 * torch.randn(x.shape)


def loss_of(model: CLIP, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE of images (N,3,64,64) and ids (N,24)."""
    image, text, scale = model(x, ids)
    logits, target = scale * image @ text.T, torch.arange(len(x))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def features(model: CLIP, images: torch.Tensor, size: int = 250) -> torch.Tensor:
    """Image features (N,256) float32, not normalised, of uint8 images (N,3,64,64)."""
    return torch.cat([model.encode_image(common.to_float(part)) for part in images.split(size)])


@torch.no_grad()
def recall(image: torch.Tensor, text: torch.Tensor, among: int = 100) -> float:
    """Compute the share of images (N,D) whose own caption (N,D) comes first among the `among` of their group (in order of the rows).

    An incomplete last group is left out; fewer rows than `among` in all make one smaller group.
    """
    among = min(among, len(image))
    groups = zip(F.normalize(image, dim=-1).split(among), F.normalize(text, dim=-1).split(among))
    hits = [((i @ t.T).argmax(1) == torch.arange(len(i))).float() for i, t in groups if len(i) == among]
    return torch.cat(hits).mean().item()


def export(model: CLIP, state: dict, tokenizer_folder: Path, out: Path) -> None:
    """Write config, tokenizer and fp16 weights, and move the folder into place."""
    temporary = out.with_name(out.name + ".new")
    shutil.copytree(tokenizer_folder, temporary, dirs_exist_ok=True)
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous().clone() for k, v in state.items()}
    save_file(tensors, temporary / "open_clip_model.safetensors")
    (temporary / "open_clip_model.safetensors").chmod(0o644)
    common.write_json(temporary / "open_clip_config.json", config(model.vocab_size))
    common.put_folder(temporary, out)


def open_folder(folder: Path) -> tuple[CLIP, Callable[[list[str]], torch.Tensor]]:
    """Open an exported folder, offline: the model in evaluation mode, and its tokenizer, which gives (N,24) int64."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), open_clip.get_tokenizer(f"local-dir:{folder}")


def report(folder: Path, images: torch.Tensor, captions: list[str]) -> dict:
    """Cosine of the pairs, R@1 among 100 and bad values on held-out uint8 images (N,3,64,64)."""
    model, tokenizer = open_folder(folder)
    order = np.random.default_rng(0).permutation(len(captions))
    image = features(model, images[order])
    with torch.no_grad():
        text = torch.cat([model.encode_text(tokenizer([captions[i] for i in part])) for part in np.array_split(order, 20)])
    cosine = F.cosine_similarity(image, text)
    return {"cosine": cosine.mean().item(), "recall_100": recall(image, text), "not_finite": int((~image.isfinite()).sum()),
            "shuffled_cosine": F.cosine_similarity(image, text.roll(1, 0)).mean().item()}


def train(arguments: argparse.Namespace, images: torch.Tensor, ids: torch.Tensor, vocabulary: int) -> tuple[CLIP, common.Average]:
    """Train on uint8 images (N,3,64,64) and ids (N,24) within the budget; resume from WORK/evaluator.pt if it is there."""
    model, path = CLIP(**config(vocabulary)["model_cfg"]), arguments.work / "evaluator.pt"
    model = model.to(memory_format=torch.channels_last)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "peak": 1e-3, "weight_decay": 0.1},
                                   {"params": vectors, "peak": 1e-3, "weight_decay": 0.0}], betas=(0.9, 0.98), fused=True)
    average, step, spent = common.Average(model, 0.99), 0, 0.0
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"]), optimizer.load_state_dict(state["optimizer"]), torch.set_rng_state(state["rng"])
        average.state, average.count, step, spent = state["average"], state["step"], state["step"], state["elapsed"]
    clock = common.Clock(arguments.minutes, spent)
    while clock.fraction < 1:
        common.set_rate(optimizer, common.rate(clock.fraction, warmup=0.05))
        pick = torch.randint(len(ids), (BATCH,))
        loss = loss_of(model, augment(common.to_float(images[pick])).contiguous(memory_format=torch.channels_last), ids[pick])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6)
        average.update(model)
        step += 1
        if step % 25 == 0:
            common.log(f"step {step} loss {loss.item():.3f} scale {model.logit_scale.exp().item():.1f} elapsed {clock.elapsed:.0f} s, "
                       f"{step * BATCH / clock.elapsed:.0f} images/s")
        if step % 100 == 0:
            common.save_checkpoint(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average.state,
                                          "step": step, "elapsed": clock.elapsed, "rng": torch.get_rng_state()})
    return model, average


def main() -> None:
    """Train, export and report."""
    parser = common.parser(__doc__, minutes=9)
    parser.add_argument("--out", type=Path, default=common.ASSETS / "evaluator")
    parser.set_defaults(seed=1234)
    arguments = parser.parse_args()
    common.start(arguments)
    images, captions = common.load_split("train", arguments.data)
    tokenizer = text_encoder.make_tokenizer(captions, arguments.work / "tokenizer")
    model, average = train(arguments, images, text_encoder.tokens(tokenizer, captions), len(tokenizer))
    export(model, average.state, arguments.work / "tokenizer", arguments.out)
    result = report(arguments.out, *common.load_split("evaluation", arguments.data))
    common.log(json.dumps(result))
    common.write_json(arguments.work / "evaluator.json", result)


if __name__ == "__main__":
    main()
