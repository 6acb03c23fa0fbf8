"""Choose the teacher's guidance on training items: sample it at several scales and measure. Prints a table, writes JSON.

    python -m scottbench_pocket.build.guidance --out guidance.json [--items 512] [--steps 25] [--scales 2 2.5 3 3.5 4]

The scale with the least FID is what students with a fixed guidance are distilled at. No item of the evaluation split is looked at.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scottbench import Method, Sampling
from scottbench.diffusion import update
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.extractors import Extractor, find_extractor, open_extractor
from scottbench.models.pipeline import open_pipeline
from scottbench.models.sampling import Sampler, embed_prompts
from scottbench_pocket.emoji5k import Emoji5K

from . import common
from .measure import frechet


def times(schedule: object, steps: int, options: object = None) -> list[int]:
    """List DDIM's time steps of a schedule of 1,000, spread as Stable Diffusion does: for 25 steps 961, 921, ..., 1."""
    return [1000 // steps * j + 1 for j in reversed(range(steps))]


def ddim(run: Sampling) -> Tensor:
    """Sample x0 (N,C,h,w) along the teacher's ODE."""
    z, grid = run.noise(0), times(run.schedule, run.steps)
    for t, t_next in zip(grid, grid[1:] + [0]):
        x0, eps = run.denoise(z, t)
        z = update(run.schedule, x0, eps, t_next, rho=1, noise=None)
    return z


def chosen_items(count: int, total: int) -> list[int]:
    """Choose `count` of `total` training items, always the same ones."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count].tolist()


class Scan:
    """The items that are sampled, their text, and the features of all training images."""

    def __init__(self, model: DiffusionModel, extractor: Extractor, items: Emoji5K, count: int):
        self.model, self.extractor = model, extractor
        index = chosen_items(count, len(items.ids))
        self.ids, prompts = [items.ids[i] for i in index], [items.prompts[i] for i in index]
        self.reference = extractor.features(items.images()).astype(np.float64)
        self.text_features = extractor.text_features(prompts)
        self.text, self.uncond = embed_prompts(model, prompts, None, 64), model.encode_prompts([""])

    def row(self, scale: float, steps: int) -> dict[str, float]:
        """Sample at one guidance scale and return FID against all training images and the mean cosine with the captions."""
        method = Method(name="ddim", summary="DDIM", sample=ddim, timesteps=times)
        sampler = Sampler(self.model, method, "ddim", method.options(), self.uncond, scale, steps, seed=0)
        features = self.extractor.features(sampler.images(self.text, self.ids, None, 64)).astype(np.float64)
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, self.text_features)]
        return {"scale": scale, "fid": frechet(features, self.reference), "clip_score": float((unit[0] * unit[1]).sum(1).mean())}


def main() -> None:
    """Scan the scales and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--scales", type=float, nargs="+", default=[2.0, 2.5, 3.0, 3.5, 4.0])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    model = open_pipeline(common.ASSETS / "model", device=arguments.device)
    spec = {"kind": "open_clip", "folder": str(common.ASSETS / "evaluator"), "resize": "clean", "label": "pocket features"}
    extractor = open_extractor(find_extractor(spec, Path), arguments.device)
    scan, rows = Scan(model, extractor, Emoji5K("train"), arguments.items), []
    for scale in arguments.scales:
        rows.append(scan.row(scale, arguments.steps))
        common.log(f"s = {scale:g}: FID {rows[-1]['fid']:.2f}, CLIP score {rows[-1]['clip_score']:.4f}")
        common.write_json(arguments.out, {"items": arguments.items, "steps": arguments.steps, "rows": rows})
    common.log(f"least FID: s = {min(rows, key=lambda row: row['fid'])['scale']:g}")


if __name__ == "__main__":
    main()
