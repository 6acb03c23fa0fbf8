"""Measure the pocket models: GFLOP, parameters, sizes, autoencoder quality and a guidance scan of the teacher. Writes JSON.

    python -m scottbench_pocket.build.measure --out measure.json [--images 300] [--steps 20] [--guidance 1.5 2 3 4] [--split train]

A guidance for students is chosen with `--split train`: prompts and reference are then of the training split, and no item of the
evaluation split decides.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from . import autoencoder, common, evaluator


def gflop(call: Callable[[], object]) -> float:
    """Billions of floating-point operations (a multiply-add is two) that `call()` makes."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def parameters(module: torch.nn.Module) -> float:
    """Millions of parameters."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def costs(pipe: StableDiffusionPipeline, judge: torch.nn.Module) -> dict:
    """GFLOP of one forward per image, and parameters in millions, of every part."""
    positions = pipe.tokenizer.model_max_length
    z, image, ids = torch.zeros(1, 4, 16, 16), torch.zeros(1, 3, 64, 64), torch.zeros(1, positions, dtype=torch.long)
    context = torch.zeros(1, positions, pipe.unet.config.cross_attention_dim)
    calls = {
        "unet": lambda: pipe.unet(z, torch.tensor([1]), context), "decode": lambda: pipe.vae.decode(z),
        "encode": lambda: pipe.vae.encode(image), "text_encoder": lambda: pipe.text_encoder(ids),
        "evaluator_image": lambda: judge.encode_image(image),
    }
    parts = {"unet": pipe.unet, "vae": pipe.vae, "text_encoder": pipe.text_encoder, "evaluator": judge, "evaluator_image": judge.visual}
    return {"gflop": {k: round(gflop(call), 4) for k, call in calls.items()},
            "parameters_m": {k: round(parameters(module), 3) for k, module in parts.items()}}


def folder_bytes(folder: Path) -> int:
    """Add up the sizes of a folder's files."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance (Heusel et al. 2017, eq. 6) of Gaussians fitted to float64 features (N,D) and (M,D).

    The trace of the root comes from the singular values of the product of the two factors, which are real by construction.
    """
    roots = []
    for x in (a, b):
        values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
        roots.append(vectors * np.sqrt(values.clip(0)))
    cross = scipy.linalg.svdvals(roots[0].T @ roots[1]).sum()
    traces = sum(np.square(root).sum() for root in roots)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + traces - 2 * cross)


class Judge:
    """Scores uint8 images (N,3,64,64) against their captions and against all of a split."""

    def __init__(self, folder: Path, reference: torch.Tensor):
        self.model, self.tokenizer = evaluator.open_folder(folder)
        self.reference = evaluator.features(self.model, reference).double().numpy()

    def __call__(self, images: torch.Tensor, captions: list[str]) -> dict:
        image = evaluator.features(self.model, images)
        parts = np.array_split(captions, 1 + len(captions) // 250)
        with torch.no_grad():
            text = torch.cat([self.model.encode_text(self.tokenizer(list(part))) for part in parts])
        return {"n": len(images), "clip_score": F.cosine_similarity(image, text).mean().item(), "recall_100": evaluator.recall(image, text),
                "fid": frechet(image.double().numpy(), self.reference), "not_finite": int((~image.isfinite()).sum())}


def sample(pipe: StableDiffusionPipeline, captions: list[str], steps: int, guidance: float, seed: int = 0, size: int = 50) -> torch.Tensor:
    """uint8 images (N,3,64,64); image i starts from seed + i, whatever the batch."""
    images = []
    for start in range(0, len(captions), size):
        prompts = captions[start:start + size]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(prompts))]
        images.append(pipe(prompts, height=64, width=64, num_inference_steps=steps, guidance_scale=guidance, generator=generators,
                           output_type="np").images)
    return torch.from_numpy((np.concatenate(images) * 255).round().astype(np.uint8)).permute(0, 3, 1, 2).contiguous()


def picture(images: torch.Tensor, path: Path, columns: int = 8) -> None:
    """Write uint8 images (N,3,64,64) as one PNG, row by row."""
    rows = [torch.cat(list(row), 2) for row in images[:len(images) // columns * columns].split(columns)]
    Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).numpy()).save(path)


def share(row: dict, real: dict, floor: dict) -> dict:
    """A row with its CLIP score and R@1 as a share of the real images' and its FID as a multiple of the floor."""
    return row | {"clip_share": row["clip_score"] / real["clip_score"], "recall_share": row["recall_100"] / real["recall_100"],
                  "fid_ratio": row["fid"] / floor["fid"]}


def options() -> argparse.Namespace:
    """Read the command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--model", type=Path, default=common.ASSETS / "model")
    result.add_argument("--evaluator", type=Path, default=common.ASSETS / "evaluator")
    result.add_argument("--split", choices=("evaluation", "train"), default="evaluation", help="of prompts and reference images")
    result.add_argument("--data", help="folder with train.npz and evaluation.npz (default: the shipped assets)")
    result.add_argument("--out", type=Path, required=True, help="JSON file to write")
    result.add_argument("--grid", type=Path, help="PNG file for the first 32 samples of the last row")
    result.add_argument("--images", type=int, default=300)
    result.add_argument("--steps", type=int, default=20)
    result.add_argument("--guidance", type=float, nargs="*", default=[1.5, 2, 3, 4])
    result.add_argument("--threads", type=int, default=2)
    return result.parse_args()


def main() -> None:
    """Measure everything and write the JSON file."""
    arguments = options()
    torch.set_num_threads(arguments.threads)
    n, (images, captions) = arguments.images, common.load_split(arguments.split, arguments.data)
    train_images, train_captions = common.load_split("train", arguments.data)
    order = np.random.default_rng(0).permutation(len(captions))[:n]  # the splits are sorted by family
    pick = np.random.default_rng(1).permutation(len(train_captions))[:n]
    prompts, real_images = [captions[i] for i in order], images[order]
    pipe = StableDiffusionPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    judge = Judge(arguments.evaluator, images)
    through = autoencoder.decode(pipe.vae, autoencoder.encode(pipe.vae, real_images))
    real, floor = judge(real_images, prompts), judge(train_images[pick], [train_captions[i] for i in pick])
    result = costs(pipe, judge.model) | {
        "bytes": {"model": folder_bytes(arguments.model), "evaluator": folder_bytes(arguments.evaluator)},
        "psnr_db": autoencoder.psnr(through, real_images), "real": real, "floor": floor,
        "autoencoder": share(judge(through, prompts), real, floor), "teacher": [],
    }
    for guidance in arguments.guidance:
        began, made = time.monotonic(), sample(pipe, prompts, arguments.steps, guidance)
        how = {"steps": arguments.steps, "guidance": guidance, "seconds": time.monotonic() - began}
        row = share(judge(made, prompts), real, floor) | how
        result["teacher"].append(row)
        common.log(json.dumps(row))
        if arguments.grid is not None:
            picture(made[:32], arguments.grid)
    common.write_json(arguments.out, result)


if __name__ == "__main__":
    main()
