"""The parts that the four training scripts of the pocket preset share: data, clock, checkpoints, learning rate, weight averages.

Images are (N,64,64,3) uint8 0..255 on disk and (N,3,64,64) float32 -1..1 in a network.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from scottbench.training.average import ramped

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def load_split(split: str, data: str | None = None) -> tuple[torch.Tensor, list[str]]:
    """Images (N,3,64,64) uint8 0..255 and N captions of "train" or "evaluation".

    `data` is a folder with train.npz and evaluation.npz; without it the shipped emoji5k assets are read.
    """
    if data is not None:
        file = np.load(Path(data) / f"{split}.npz")
        images, captions = file["images"], [str(c) for c in file["captions"]]
    else:
        from scottbench_pocket.emoji5k import Emoji5K

        pairs = Emoji5K(split)
        images, captions = pairs.images(), pairs.captions
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), list(captions)


def to_float(images: torch.Tensor) -> torch.Tensor:
    """(N,3,H,W) uint8 0..255 to float32 -1..1."""
    return images.float() / 127.5 - 1


def log(message: str) -> None:
    """One line with the time of day in UTC; unbuffered, since the scripts run under nohup."""
    print(time.strftime("%H:%M:%S", time.gmtime()), message, flush=True)


class Clock:
    """Training time in seconds against a budget; `spent` carries what earlier runs of the same budget used."""

    def __init__(self, minutes: float, spent: float = 0.0):
        self.budget, self.start = 60 * minutes, time.monotonic() - spent

    @property
    def elapsed(self) -> float:
        """Seconds of training, those of earlier runs included."""
        return time.monotonic() - self.start

    @property
    def fraction(self) -> float:
        """The spent part of the budget, 0..1."""
        return min(1.0, self.elapsed / max(self.budget, 1e-9))


def rate(fraction: float, warmup: float = 0.02) -> float:
    """Learning-rate factor 0..1 at a fraction of the time budget: linear warm-up, then half a cosine to zero.

    On time, not on steps, so that a run on a machine of unknown speed always ends annealed.
    """
    if fraction < warmup:
        return max(fraction, 1e-4) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (fraction - warmup) / (1 - warmup))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's own `peak` learning rate by `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


class Average:
    """Exponential moving average of a module's floating-point state, ramped."""

    def __init__(self, module: torch.nn.Module, limit: float = 0.999):
        self.limit, self.count = limit, 0
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Take one step towards the module's state."""
        self.count += 1
        decay = ramped(self.limit, self.count)
        source = module.state_dict()
        floats = [k for k, v in source.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.state[k] for k in floats], [source[k] for k in floats], 1 - decay)
        for key in source.keys() - set(floats):
            self.state[key].copy_(source[key])


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` with torch.save so that a reader, or a kill, never meets half a file."""
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def halve(folder: Path) -> None:
    """Store a saved model's weights as fp16 and drop its origin; the config keeps float32, so loaders compute in float32."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)  # a folder of the machine that trained it
    write_json(folder / "config.json", config)
    for path in folder.glob("*.safetensors"):
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors writes for its owner alone; a wheel's files are for every user


def put_folder(temporary: Path, target: Path) -> None:
    """Move a finished folder into place; only the exchange of names is visible to readers."""
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(target.name + ".old")
    if target.exists():
        os.replace(target, old)
    os.replace(temporary, target)
    if old.exists():
        shutil.rmtree(old)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON with a line break at the end."""
    path.write_text(json.dumps(value, indent=1) + "\n")


def parser(description: str, minutes: float) -> argparse.ArgumentParser:
    """The options every script of this folder takes."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--work", type=Path, required=True, help="folder for checkpoints and logs, outside the repository")
    result.add_argument("--data", help="folder with train.npz and evaluation.npz (default: the shipped assets)")
    result.add_argument("--minutes", type=float, default=minutes, help="training time budget (default: %(default)s)")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--threads", type=int, default=2)
    return result


def start(arguments: argparse.Namespace) -> None:
    """Set threads and seed, and make the work folder."""
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)  # subnormal numbers are frequent in activations on white, and slow on CPUs
    torch.manual_seed(arguments.seed)
    arguments.work.mkdir(parents=True, exist_ok=True)
