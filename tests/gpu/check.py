"""Check on an accelerator what a CPU cannot show: right numbers, memory, speed. One file, no network, no weights.

    python tests/gpu/check.py --out DIR [--only smoke,pipeline,pocket] [--minutes 8] [--device cuda] [--tiny]

Networks have the shapes of Stable Diffusion 1.5 and ViT-g and random weights. Each section ends by itself, results go to
DIR/gpu-check.json as they come, and a section that fails is a row of its own. `--tiny` runs everything on a CPU with small networks, so
that the script is never broken. README.md beside it has the lines to prepare and run it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import functools
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

TINY_UNET = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "block_out_channels": (32, 32), "layers_per_block": 1, "norm_num_groups": 8,
    "cross_attention_dim": 32, "attention_head_dim": 4,
}  # fmt: skip
SD15_UNET = {"sample_size": 64, "cross_attention_dim": 768, "block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8}
TINY_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4, "sample_size": 64, "scaling_factor": 0.18215,
}  # fmt: skip
TINY_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 4}
SD15_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
             "max_position_embeddings": 77}  # fmt: skip
TINY_CLIP = {
    "embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 4, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2},
}  # fmt: skip
SD15_VAE = {**TINY_VAE, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 512}


@dataclass
class Check:
    """The arguments, the rows so far, and where they go."""

    out: Path
    device: str
    tiny: bool
    deadline: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    def row(self, section: str, what: str, value: object, unit: str = "", **more: object) -> None:
        """Keep and print one figure; the file is written at once."""
        shown = round(value, 4) if isinstance(value, float) else value
        self.rows.append({"section": section, "what": what, "value": shown, "unit": unit, **more})
        # a script for people
        print(f"{section:10} {what:58} {shown!s:>12} {unit} {' '.join(f'{k}={v}' for k, v in more.items())}", flush=True)  # noqa: T201
        (self.out / "gpu-check.json").write_text(json.dumps({"machine": machine(self.device), "rows": self.rows}, indent=1) + "\n")

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.deadline - time.monotonic()

    def wait(self) -> None:
        """Wait for the device, so that a clock reads what was done."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def machine(device: str) -> dict[str, object]:
    """Name the card and the versions that the figures are of."""
    import diffusers

    found: dict[str, object] = {"torch": torch.__version__, "diffusers": diffusers.__version__, "python": platform.python_version()}
    if device.startswith("cuda"):
        found |= {"card": torch.cuda.get_device_name(), "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
                  "cuda": torch.version.cuda, "tf32": torch.backends.cuda.matmul.allow_tf32}  # fmt: skip
    return found


@contextmanager
def peak(check: Check) -> Iterator[dict[str, float]]:
    """Measure seconds and the most memory, in GiB, of a block."""
    found: dict[str, float] = {}
    if check.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    check.wait()
    started = time.perf_counter()
    yield found
    check.wait()
    found["seconds"] = time.perf_counter() - started
    found["gib"] = torch.cuda.max_memory_allocated() / 2**30 if check.device.startswith("cuda") else 0.0


# --- networks with random weights ------------------------------------------------------------------------------------


def unet_of(check: Check, dtype: torch.dtype = torch.float32) -> Any:
    """Make a random U-Net, frozen."""
    from diffusers import UNet2DConditionModel

    from scottbench.models.pipeline import fast_layout

    torch.manual_seed(0)
    with torch.device(check.device):
        unet = UNet2DConditionModel(**(TINY_UNET if check.tiny else SD15_UNET))
    return fast_layout(unet.to(dtype)).requires_grad_(False).eval()


def model_of(check: Check, dtype: torch.dtype = torch.float32, vae: bool = False) -> Any:
    """Make a teacher of random weights, as a run opens one, without text encoder."""
    from diffusers import AutoencoderKL

    from scottbench.diffusion import Schedule
    from scottbench.models.diffusion_model import DiffusionModel

    decoder = None
    if vae:
        torch.manual_seed(1)
        with torch.device(check.device):
            decoder = AutoencoderKL(**(TINY_VAE if check.tiny else SD15_VAE)).to(dtype).requires_grad_(False).eval()
    return DiffusionModel("0" * 64, Schedule.scaled_linear(), "epsilon", None, None, unet_of(check, dtype), decoder, check.device)


def text_of(check: Check, n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Make embeddings of n prompts, (n,L,D), and of the empty one, (1,L,D)."""
    width, length = (32, 4) if check.tiny else (768, 77)
    generator = torch.Generator().manual_seed(2)
    made = torch.randn(n + 1, length, width, generator=generator).to(check.device, dtype)
    return made[:n], made[n:]


def batch_of(check: Check, model: Any, n: int) -> dict[str, Any]:
    """Make one batch of a training."""
    text, uncond = text_of(check, n)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(n, *model.latent_shape, generator=generator).to(check.device)
    tensors = {"latents": latents, "text": text, "uncond": uncond, "indices": torch.arange(n)}
    return tensors | {"generator": generator, "step": 0, "fraction": 0.0}


# --- sections --------------------------------------------------------------------------------------------------------


def smoke(check: Check) -> None:
    """One guided step and one decode; versions and card."""
    model = model_of(check, vae=True)
    text, uncond = text_of(check, 2)
    with torch.inference_mode():
        denoise = model.denoiser(text, uncond, 3.0)
        x0, _ = denoise(torch.randn(2, *model.latent_shape, device=check.device), 999)
        images = model.decode(x0)
    check.row("smoke", "images of one guided step", str(images.shape), finite=bool(torch.isfinite(x0).all()))
    for key, value in machine(check.device).items():
        check.row("smoke", key, value)


def two_steps(model: Any, text: Tensor, uncond: Tensor, noise: Tensor, s: float = 3.0) -> Tensor:
    """DDIM at time steps 999 and 499 by the host's code: latents (n,4,h,w)."""
    from scottbench.diffusion import update

    with torch.inference_mode():
        denoise = model.denoiser(text, uncond, s)
        x0, eps = denoise(noise.to(model.device), 999)
        z = update(model.schedule, x0, eps, 499, rho=1, noise=None)
        return denoise(z, 499)[0]


def plain_two_steps(model: Any, text: Tensor, uncond: Tensor, noise: Tensor, s: float = 3.0) -> Tensor:
    """The same by diffusers' DDIMScheduler and a loop as in its documentation: latents (n,4,h,w)."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    scheduler.set_timesteps(2)
    z, both = noise.to(model.device, model.dtype), torch.cat([uncond.expand(len(text), -1, -1), text])
    with torch.inference_mode():
        for t in (999, 499):
            unc, cond = model.unet(torch.cat([z, z]), t, encoder_hidden_states=both, return_dict=False)[0].chunk(2)
            z = scheduler.step(unc + s * (cond - unc), t, z).prev_sample
    return z


def sampling(check: Check) -> None:
    """Two guided steps and the decode: speed by stage, memory, equal bytes twice, grey levels between batches, formats and a plain loop."""
    reference: np.ndarray | None = None
    for dtype in [torch.float32] if check.tiny else [torch.float32, torch.float16, torch.bfloat16]:
        model = model_of(check, dtype, vae=True)
        for n in (2, 4) if check.tiny else (4, 8, 16, 32):
            if dtype == torch.float32 and n > 4 and not check.tiny:
                break  # only to compare with
            text, uncond = text_of(check, 4, dtype)
            noise = torch.randn(4, *model.latent_shape, generator=torch.Generator().manual_seed(4)).repeat(n // 4 + 1, 1, 1, 1)[:n]
            given = model, text.repeat(n // 4 + 1, 1, 1)[:n], uncond, noise
            what = f"{str(dtype)[6:]} batch {n}"
            try:
                first = model.decode(two_steps(*given))
                with peak(check) as denoising:
                    latents = two_steps(*given)
                with peak(check) as decoding:
                    second = model.decode(latents)
                plain = model.decode(plain_two_steps(*given))
            except torch.OutOfMemoryError as error:
                check.row("sampling", what, "out of memory", error=str(error).splitlines()[0][:80])
                continue
            reference = first if reference is None else reference
            same = min(len(reference), len(first))
            facts = {"gib": round(max(denoising["gib"], decoding["gib"]), 2), "denoise_ms": round(1000 * denoising["seconds"], 1),
                     "decode_ms": round(1000 * decoding["seconds"], 1), "equal_twice": bool((first == second).all()),
                     **grey(first[:same], reference[:same]), **grey(first, plain, "plain_")}  # fmt: skip
            rate = n / (denoising["seconds"] + decoding["seconds"])
            check.row("sampling", f"{what}: 2 guided steps and decode", rate, "img/s", **facts)
            if check.left < 30:
                return


def grey(a: np.ndarray, b: np.ndarray, prefix: str = "") -> dict[str, float]:
    """Mean and largest difference of two sets of images, in grey levels of 255."""
    apart = np.abs(a.astype(int) - b.astype(int))
    return {f"{prefix}grey_mean": round(float(apart.mean()), 4), f"{prefix}grey_max": int(apart.max())}


# --- a whole run -----------------------------------------------------------------------------------------------------


class Words:
    """A tokenizer without files: a word's number is its digest."""

    def __init__(self, size: int, length: int):
        self.size, self.model_max_length = size, length
        self.added_tokens_encoder: dict[str, int] = {}

    def __len__(self) -> int:
        return self.size

    def tokenize(self, prompt: str) -> list[str]:
        """Give the words, among which diffusers looks for those of textual inversion."""
        return prompt.split()

    def __call__(self, prompts: str | list[str], **more: Any) -> Any:
        """Give tokens (n,L) between start and end, filled up with the end."""
        start, end, rows = self.size - 2, self.size - 1, []
        for prompt in [prompts] if isinstance(prompts, str) else prompts:
            words = [zlib.crc32(word.encode()) % (self.size - 3) for word in prompt.split()][: self.model_max_length - 2]
            rows.append([start, *words, *[end] * (self.model_max_length - 1 - len(words))])
        return types.SimpleNamespace(input_ids=torch.tensor(rows), attention_mask=torch.ones(len(rows), self.model_max_length))


class Noise:
    """Noise pictures with captions, of the model's size."""

    def __init__(self, n: int, side: int):
        self.side = side
        self.ids = [f"noise-{number:05d}" for number in range(n)]
        self.prompts = [f"picture number {number} of noise" for number in range(n)]
        self.digest = "1" * 64

    def images(self, indices: Any) -> np.ndarray:
        """Draw (n,H,W,3) uint8."""
        shape = (self.side, self.side, 3)
        return np.stack([np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8) for index in indices])


@functools.lru_cache(1)
def whole_model(device: str, tiny: bool) -> Any:
    """Make the random teacher of a run, text encoder and all: float16 on a GPU."""
    from transformers import CLIPTextConfig, CLIPTextModel

    check = Check(Path(), device, tiny, 0.0)
    dtype, size = (torch.float32, 64) if tiny else (torch.float16, 49408)
    model = model_of(check, dtype, vae=True)
    torch.manual_seed(3)
    with torch.device(device):
        shape, ends = TINY_TEXT if tiny else SD15_TEXT, {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
        encoder = CLIPTextModel(CLIPTextConfig(vocab_size=size, **ends, **shape))
    model.text_encoder = encoder.to(dtype).requires_grad_(False).eval()
    model.tokenizer = Words(size, shape["max_position_embeddings"])
    return model


@functools.lru_cache(1)
def vit_g(device: str, tiny: bool) -> Any:
    """Make a random ViT-g of open_clip, both towers, in float32."""
    import open_clip

    torch.manual_seed(5)
    with torch.device(device):
        if tiny:
            return open_clip.CLIP(**TINY_CLIP).requires_grad_(False).eval()
        return open_clip.CLIP(**open_clip.get_model_config("ViT-g-14")).requires_grad_(False).eval()


def clip_side(tiny: bool) -> int:
    """Height and width that the CLIP model takes."""
    return 32 if tiny else 224


def open_clip_of(source: Any, device: str, tiny: bool) -> Any:
    """Open the random CLIP model as an extractor."""
    from scottbench.models.extractors import CLIP_PIXELS, OpenExtractor, normaliser

    network, words = vit_g(device, tiny), Words(64, 4) if tiny else Words(49408, 77)
    normal = normaliser(*CLIP_PIXELS, device)
    return OpenExtractor(source, clip_side(tiny), lambda batch: network.encode_image(normal(batch)), network.encode_text,
                         lambda texts: words(texts).input_ids, device)  # fmt: skip


def gap(cell: Any, options: Any) -> float:
    """Distance of the mean features."""
    return float(np.linalg.norm(cell.generated["image"].mean(0) - cell.reference["image"].mean(0)))


PRESET = """
name = "check"
summary = "random networks"
model = "check-model"
dataset = "check-noise"
methods = ["ddim"]
steps = [2]
metrics = ["gap"]
sample_items = 4
dtype = "{dtype}"
[guidance]
ddim = 1.0
[extractors.image]
kind = "check-clip"
precision = "bfloat16"
"""
PICTURES = 256


def plugins_of(check: Check, folder: Path) -> Any:
    """Plug-ins of a run: the solvers, and model, data, extractor, metric and preset made in memory."""
    from scottbench.models.extractors import Source
    from scottbench.registry.hookspecs import hookimpl
    from scottbench.registry.loader import load_plugins
    from scottbench.registry.nouns import Dataset, Extractor, Metric, Model

    side = 64 if check.tiny else 512
    (folder / "preset.toml").write_text(PRESET.format(dtype="float32" if check.tiny else "float16"))
    source = Source("check-clip", "random CLIP", "2" * 64, folder)
    nouns: dict[str, list[Any]] = {
        "models": [Model("check-model", "random", lambda device, dtype: whole_model(device, check.tiny))],
        "datasets": [Dataset("check-noise", "noise", lambda split: Noise(PICTURES, side))],
        "metrics": [Metric("gap", "distance of mean features", gap, higher_is_better=False)],
        "extractors": [Extractor("check-clip", "random", lambda spec, path: source,
                                 lambda source, device: open_clip_of(source, device, check.tiny), reads="images+prompts",
                                 rules=("open_clip", "clean"))],
        "presets": [folder / "preset.toml"],
    }  # fmt: skip
    module = types.ModuleType("check_plugin")
    for kind, found in nouns.items():
        hook = lambda found=found: found  # noqa: E731
        hook.__name__ = f"register_{kind}"
        setattr(module, f"register_{kind}", hookimpl(hook))
    points = [types.SimpleNamespace(name="check", value="check_plugin", load=lambda: module, dist=None),
              types.SimpleNamespace(name="solvers", value="scottbench_solvers", load=lambda: importlib.import_module("scottbench_solvers"),
                                    dist=None)]  # fmt: skip
    plugins = load_plugins(points)
    assert not plugins.broken, plugins.plugins
    return plugins


@contextmanager
def small_chunks(tiny: bool) -> Iterator[None]:
    """Chunks of 4 items where everything is tiny, so that a run has several; and no page, whose figures are no business of a device."""
    import scottbench.report
    import scottbench.store.folder

    before, build = scottbench.store.folder.CHUNK, scottbench.report.build
    scottbench.store.folder.CHUNK = 4 if tiny else before
    scottbench.report.build = lambda root: root
    try:
        yield
    finally:
        scottbench.store.folder.CHUNK, scottbench.report.build = before, build


def run_in(check: Check, folder: Path, seeds: list[int], limit: int, compile: str = "off") -> tuple[Any, Path]:
    """Run the check's preset in folder / "run", or go on with it: the plan and the run folder."""
    from scottbench.plan.plan import make_plan
    from scottbench.plan.request import RunRequest
    from scottbench.run.execute import execute

    with small_chunks(check.tiny), contextlib.redirect_stdout(sys.stderr):
        plugins = plugins_of(check, folder)
        plan = make_plan(plugins, RunRequest("check", device=check.device, seeds=seeds, limit=limit, compile=compile))
        return plan, execute(plan, plugins, folder / "run", None, lambda event: None)


def events_of(root: Path) -> list[dict[str, Any]]:
    """Lines of a run's log that tell of chunks of cells."""
    lines = [json.loads(line) for line in (root / "events.ndjson").read_text().splitlines()]
    return [line for line in lines if line["event"] == "chunk" and "__" in line["part"]]


def pipeline(check: Check) -> None:
    """From prompts to stored PNGs and features: images a second, against a plain script; made again. stages_share: device time of all
    stages over the clock's, above 1 where features are made beside the sampling."""
    from scottbench.run.clock import Clock
    from scottbench.run.resample import resample
    from scottbench.run.session import Work
    from scottbench.store.folder import RunFolder
    from scottbench.store.verify import verify

    seeds, limit = ([0], 12) if check.tiny else ([0, 1, 2], PICTURES)
    with tempfile.TemporaryDirectory() as place:
        with peak(check) as cost:
            plan, root = run_in(check, Path(place), seeds, limit)
        chunks = events_of(root)
        # between the first and the last chunk of all cells: networks are warm
        wall = chunks[-1]["wall"] - chunks[0]["wall"]
        made = sum(min(plan.chunk, limit - one["first"]) for one in chunks[1:])
        busy = sum(chunks[-1]["forward"].values()) - sum(chunks[0]["forward"].values())
        start = json.loads((root / "events.ndjson").read_text().splitlines()[0])
        rate = made / wall
        check.row("pipeline", f"2 steps, prompts to PNG and features, {made} images", rate, "img/s", stages_share=round(busy / wall, 3),
                  batch=start["batch_size"], gib=round(cost["gib"], 2), whole_run_s=round(cost["seconds"], 1))  # fmt: skip
        found = verify(root)
        with small_chunks(check.tiny):
            work = Work(plan, RunFolder(root), Clock(plan.device), {}, 1, lambda event: None, lambda event, **facts: None)
            again = resample(work, plan, 3 if check.tiny else 8, exact=check.tiny)
        check.row("pipeline", "verify --resample: things that differ", len(found.wrong + again.wrong), "",
                  checked=len(found.checked + again.checked), first=(found.wrong + again.wrong + [""])[0][:80])  # fmt: skip
        if check.left > 40:
            plain = plain_script(check, Path(place), 8 if check.tiny else 128)
            check.row("pipeline", "the same by diffusers, PIL and open_clip", plain, "img/s", times=round(rate / plain, 2))


def plain_script(check: Check, folder: Path, n: int) -> float:
    """Images a second of the usual script: a diffusers pipeline, PNGs by PIL, features by open_clip; the same networks and formats."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from torchvision import transforms

    from scottbench.models.extractors import CLIP_PIXELS

    model, network = whole_model(check.device, check.tiny), vit_g(check.device, check.tiny)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              steps_offset=1)  # fmt: skip
    pipe = StableDiffusionPipeline(model.vae, model.text_encoder, model.tokenizer, model.unet, scheduler, None, None,
                                   requires_safety_checker=False)  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    side = clip_side(check.tiny)
    fit = transforms.Compose([transforms.Resize(side, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(side),
                              transforms.ToTensor(), transforms.Normalize(*CLIP_PIXELS)])  # fmt: skip
    size, prompts = 4 if check.tiny else 8, Noise(n, 8).prompts

    def go(some: list[str]) -> None:
        for first in range(0, len(some), size):
            with torch.inference_mode():
                images = pipe(some[first : first + size], num_inference_steps=2, guidance_scale=1.0).images
                for number, image in enumerate(images):
                    image.save(folder / f"{first + number}.png")
                with torch.autocast(check.device.partition(":")[0], torch.bfloat16):
                    network.encode_image(torch.stack([fit(image) for image in images]).to(check.device)).float().cpu()

    go(prompts[:size])
    with peak(check) as cost:
        go(prompts)
    return n / cost["seconds"]


def resume(check: Check) -> None:
    """A run that is killed (kill -9) after its first chunk and gone on with: nothing is made twice, and it ends as an undisturbed one."""
    n = 12 if check.tiny else 128
    with tempfile.TemporaryDirectory() as place:
        killed, whole = Path(place, "killed"), Path(place, "whole")
        for folder in (killed, whole):
            folder.mkdir()
        words = [sys.executable, __file__, "--out", str(killed), "--device", check.device, "--child", str(n), *["--tiny"] * check.tiny]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + min(120.0, max(20.0, check.left - 20))
        while process.poll() is None and time.monotonic() < end and not list((killed / "run").glob("images/*__*/*.json")):
            time.sleep(0.005)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = {path: path.stat().st_mtime_ns for path in (killed / "run").glob("images/*__*/*.zip") if path.with_suffix(".json").exists()}
        _, root = run_in(check, killed, [0], n)
        _, other = run_in(check, whole, [0], n)
        same = all(path.stat().st_mtime_ns == time for path, time in kept.items())
        apart = [grey(a, b) for a, b in zip(pictures_of(root), pictures_of(other), strict=True)]
        check.row("resume", "killed while it ran, gone on with: images", sum(1 for _ in pictures_of(root)), "", killed=alive,
                  chunks_kept=len(kept), kept_untouched=same, grey_mean=max(one["grey_mean"] for one in apart),
                  grey_max=max(one["grey_max"] for one in apart))  # fmt: skip


def pictures_of(root: Path) -> Iterator[np.ndarray]:
    """Stored images of a run's cells, (H,W,3) uint8, in order."""
    import zipfile

    for path in sorted(root.glob("images/*__*/*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield np.asarray(Image.open(archive.open(name)))


def stages(check: Check) -> None:
    """One U-Net pass as it is and compiled: milliseconds, seconds of compilation, and the largest difference."""
    from scottbench.models.compiled import compile_unet

    n, dtype = (2, torch.float32) if check.tiny else (16, torch.float16)
    text, _ = text_of(check, n, dtype)
    expected: Tensor | None = None
    for kind in ("off",) if check.tiny else ("off", "blocks", "graphs"):
        unet = unet_of(check, dtype)
        compile_unet(unet, kind)
        side = unet.config.sample_size
        z = torch.randn(n, 4, side, side, generator=torch.Generator().manual_seed(7)).to(check.device, dtype)
        t = torch.full((n,), 500, device=check.device)
        with torch.inference_mode(), peak(check) as first:
            out = unet(z, t, encoder_hidden_states=text, return_dict=False)[0].clone()
        with torch.inference_mode(), peak(check) as cost:
            for _ in range(10):
                unet(z, t, encoder_hidden_states=text, return_dict=False)
        expected = out if expected is None else expected
        check.row("stages", f"U-Net pass of {n}, --compile {kind}", cost["seconds"] * 100, "ms", first_call_s=round(first["seconds"], 1),
                  largest_difference=float((out - expected).abs().max()))  # fmt: skip
        if check.left < 60:
            return


def png(check: Check) -> None:
    """PNG of 512x512 noise by threads."""
    side, count = (64, 8) if check.tiny else (512, 128)
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    from scottbench.store.contents import png as encode

    for threads in (1, min(8, os.cpu_count() or 1)):
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(encode, images))
        check.row("png", f"PNG of {side}x{side} noise, {threads} thread(s)", count / (time.perf_counter() - started), "img/s")


def trainers(tiny: bool) -> dict[str, Callable[[Any], Any]]:
    """Name -> how a trainer is built from a context; the recipes of the SD 1.5 preset."""
    from scottbench_cd.options import CDOptions
    from scottbench_cd.trainer import ConsistencyDistillation
    from scottbench_scott.options import SCottOptions
    from scottbench_scott.trainer import StochasticConsistencyDistillation
    from scottbench_ufogen.options import UFOGenOptions
    from scottbench_ufogen.trainer import DiffusionGAN

    rank = 2 if tiny else 64
    return {
        "cd": lambda context: ConsistencyDistillation(context, CDOptions()),
        "cd lora": lambda context: ConsistencyDistillation(context, CDOptions(variant="lora", lora_rank=rank)),
        "scott": lambda context: StochasticConsistencyDistillation(context, SCottOptions(disc_rank=rank)),
        "scott lora": lambda context: StochasticConsistencyDistillation(
            context, SCottOptions(variant="lora", lora_rank=rank, disc_rank=rank)),
        "ufogen": lambda context: DiffusionGAN(context, UFOGenOptions(discriminator="lora", disc_rank=rank)),
    }


def loop_of(check: Check, name: str, settings: Any, precision: str, folder: Path) -> Any:
    """Make a trainer's loop over random latents, as a training does. precision: accelerate's word."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from scottbench.training.context import Context
    from scottbench.training.data import Data
    from scottbench.training.frozen import halve
    from scottbench.training.loop import Loop
    from scottbench.training.train import prepare

    model, n = model_of(check), settings.batch_size
    text, uncond = text_of(check, 2 * n)
    latents = torch.randn(2 * n, *model.latent_shape, generator=torch.Generator().manual_seed(5))
    data = Data(latents.numpy(), text.float().cpu().numpy(), uncond, torch.arange(2 * n), torch.arange(0))
    AcceleratorState._reset_state(reset_partial_state=True)  # of a section with another precision
    accelerator = Accelerator(cpu=check.tiny, mixed_precision=precision)
    made = trainers(check.tiny)[name](Context(model, check.device))
    prepare(made, model, settings, 1)
    halve(model, made, settings.half(precision))
    return Loop(made, data, accelerator, folder, settings, model)


def training(check: Check) -> None:
    """Five updates of each trainer through the host's loop, by batch: seconds and memory, beside what the plan predicts."""
    from scottbench.training.settings import TrainSettings

    precision, updates = ("no", 1) if check.tiny else ("bf16", 5)
    for name in trainers(check.tiny):
        for n in (2,) if check.tiny else (1, 4, 10):
            settings = TrainSettings(batch_size=n, gradient_checkpointing=not check.tiny, frozen="half" if "lora" in name else "float32")
            what = f"{name} batch {n}, {precision}"
            forget()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    loop = loop_of(check, name, settings, precision, Path(folder))
                    loop.one_step(0.0)
                    loop.state.step += 1
                    with peak(check) as cost:
                        for _ in range(updates):
                            logged = loop.one_step(0.5)
                            loop.state.step += 1
            except torch.OutOfMemoryError as error:
                check.row("training", what, "out of memory", error=str(error).splitlines()[0][:80])
                continue
            finally:
                loop = None
            facts = {"gib": round(cost["gib"], 2), "finite": all(np.isfinite(value) for value in logged.values())}
            if not check.tiny or name == "cd":  # it takes seconds on a CPU
                facts |= predicted(check, name, settings, precision, {**cost, "seconds": cost["seconds"] / updates})
            check.row("training", f"{what}: an update", cost["seconds"] / updates, "s", **facts)
            if check.left < 45:
                return


def predicted(check: Check, name: str, settings: Any, precision: str, cost: dict[str, float]) -> dict[str, Any]:
    """Give the memory that the plan predicts for an update, what was seen as a part of it, and teraflops a second."""
    from diffusers import UNet2DConditionModel

    from scottbench.diffusion import Schedule
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.training.context import Context
    from scottbench.training.memory import update_cost

    with torch.device("meta"):
        unet = UNet2DConditionModel(**(TINY_UNET if check.tiny else SD15_UNET)).requires_grad_(False).eval()
    # text encoder and VAE are not here, as in a training that puts them aside
    text = types.SimpleNamespace(config=types.SimpleNamespace(max_position_embeddings=4 if check.tiny else 77))
    blank = DiffusionModel("", Schedule.scaled_linear(), "epsilon", None, text, unet, None, "meta")
    trainer = types.SimpleNamespace(build=lambda context, options: trainers(check.tiny)[name](context))
    found = update_cost(Context(blank, "meta"), trainer, None, dataclasses.replace(settings, offload=True), settings.batch_size, precision)
    gib = found.peak / 2**30
    return {"predicted_gib": round(gib, 3), "seen_of_predicted": round(cost["gib"] / gib, 3),
            "tflops": round(found.flops / cost["seconds"] / 1e12, 6)}  # fmt: skip


def gradients(check: Check) -> None:
    """Cosine between CD's gradient under autocast and in float32, with the same draws."""
    from scottbench.training.context import Context

    found: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
    if not check.tiny:
        kinds["float16"] = torch.float16
    for name, dtype in kinds.items():
        model = model_of(check)
        torch.manual_seed(0)
        made = trainers(check.tiny)["cd"](Context(model, check.device))
        with torch.autocast(check.device.partition(":")[0], dtype=dtype, enabled=dtype is not None):
            ((_, losses, _),) = made.step(batch_of(check, model, 2))
        (1024 * losses["consistency"] if name == "float16" else losses["consistency"]).backward()
        parts = [p.grad.flatten().double().cpu() for p in made.networks["student"].parameters() if p.grad is not None]
        found[name] = torch.cat(parts)
        if name != "float32":
            cosine = torch.nn.functional.cosine_similarity(found[name], found["float32"], dim=0)
            check.row("gradients", f"CD's gradient, {name} against float32", float(cosine), "cosine")


def half(check: Check) -> None:
    """Twenty updates of CD with gradients scaled for float16 (bfloat16 on a CPU): all finite, and the student moves."""
    from scottbench.training.settings import TrainSettings

    precision, settings = "bf16" if check.tiny else "fp16", TrainSettings(batch_size=2, gradient_checkpointing=not check.tiny)
    with tempfile.TemporaryDirectory() as folder:
        loop = loop_of(check, "cd", settings, precision, Path(folder))
        before = next(p for p in loop.distillation.networks["student"].parameters() if p.requires_grad and p.dim() > 1).detach().clone()
        finite = 0
        for _ in range(3 if check.tiny else 20):
            finite += all(np.isfinite(value) for value in loop.one_step(0.5).values())
            loop.state.step += 1
        after = next(p for p in loop.distillation.networks["student"].parameters() if p.requires_grad and p.dim() > 1).detach()
        check.row("half", f"updates of CD in {precision} with finite losses", finite, "", moved=float((after - before).abs().max()))


def shard(check: Check) -> None:
    """FSDP2 on a mesh of one: a forward pass equals the plain one."""
    import torch.distributed as dist

    if not check.device.startswith("cuda"):
        check.row("shard", "fully_shard on one device", "needs a GPU")
        return
    from torch.distributed.fsdp import fully_shard

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531", "RANK": "0", "WORLD_SIZE": "1"}
    dist.init_process_group("nccl")
    try:
        plain = unet_of(check)
        split = copy.deepcopy(plain)
        fully_shard(split)
        text, _ = text_of(check, 1)
        side = plain.config.sample_size
        z, t = torch.randn(1, 4, side, side, device=check.device), torch.tensor([500], device=check.device)
        with torch.no_grad():
            a, b = (network(z, t, encoder_hidden_states=text, return_dict=False)[0] for network in (plain, split))
        check.row("shard", "fully_shard on one device: largest difference", float((a - b).abs().max()))
    finally:
        dist.destroy_process_group()
        for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)


def pocket(check: Check) -> None:
    """CD and SCott on the embedded model: seconds an update, by batch."""
    from scottbench_cd.options import CDOptions
    from scottbench_cd.trainer import ConsistencyDistillation
    from scottbench_pocket.build.common import ASSETS
    from scottbench_scott.options import SCottOptions
    from scottbench_scott.trainer import StochasticConsistencyDistillation

    from scottbench.models.pipeline import open_pipeline
    from scottbench.training.context import Context

    for n in (2,) if check.tiny else (32, 128, 512):
        for name, kind, options in (("cd", ConsistencyDistillation, CDOptions(w_min=2.0, w_max=2.0)),
                                    ("scott", StochasticConsistencyDistillation, SCottOptions(w_min=2.0, w_max=2.0, disc_rank=16))):
            model = open_pipeline(ASSETS / "model", check.device)
            made = kind(Context(model, check.device), options)
            text = model.encode_prompts(["noto emoji of red apple"]).clone().expand(n, -1, -1)
            generator = torch.Generator().manual_seed(6)
            latents = torch.randn(n, *model.latent_shape, generator=generator).to(check.device)
            tensors = {"latents": latents, "text": text, "uncond": model.encode_prompts([""]).clone(), "indices": torch.arange(n)}
            batch = {**tensors, "generator": generator, "step": 0, "fraction": 0.0}
            optimizers = {role: torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-5, fused=True)
                          for role, network in made.networks.items()}  # fmt: skip
            count = 1 if check.tiny else 10
            for timed in (True,) if check.tiny else (False, True):
                with peak(check) as cost:
                    for _ in range(count if timed else 2):
                        for role, losses, _ in made.step(batch):
                            sum(losses.values()).backward()
                            optimizers[role].step()
                            optimizers[role].zero_grad(set_to_none=True)
            check.row("pocket", f"{name}, an update of {n}", cost["seconds"] / count * 1000, "ms",
                      per_second=round(count / cost["seconds"], 2), gib=round(cost["gib"], 2))  # fmt: skip
            if check.left < 20:
                return


SECTIONS: dict[str, Callable[[Check], None]] = {
    "smoke": smoke, "pipeline": pipeline, "sampling": sampling, "training": training, "pocket": pocket, "resume": resume,
    "gradients": gradients, "half": half, "png": png, "stages": stages, "shard": shard,
}  # fmt: skip
"""In the order of their worth: a check that ends early has the first."""


def sections(text: str) -> list[str]:
    """Read --only. Raises ArgumentTypeError for a name that is no section's."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no section '{unknown[0]}'; sections: {','.join(SECTIONS)}")
    return names


def forget() -> None:
    """Free what a section left on the device, the networks that it kept for its own next run among it: memory of the next is its own."""
    import gc

    whole_model.cache_clear()
    vit_g.cache_clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> int:
    """Run the sections that were asked for; exit 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", type=sections, default=list(SECTIONS), help=f"of {','.join(SECTIONS)}; default: all")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)  # a run of so many items in OUT, which `resume` kills
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = "cpu" if arguments.tiny else arguments.device
    if arguments.child is not None:
        run_in(Check(arguments.out, device, arguments.tiny, 0.0), arguments.out, [0], arguments.child)
        return 0
    check, failed = Check(arguments.out, device, arguments.tiny, time.monotonic() + 60 * arguments.minutes), 0
    for name in arguments.only:
        if check.left < 10:
            check.row(name, "not run", "no time left")
            continue
        started = time.monotonic()
        try:
            SECTIONS[name](check)
        except Exception as error:  # the other sections go on
            traceback.print_exc()
            check.row(name, "FAILED", type(error).__name__, message=str(error).splitlines()[0][:120] if str(error) else "")
            failed += 1
        forget()
        check.row(name, "section", time.monotonic() - started, "s")
    return 1 if failed else 0


if __name__ == "__main__":
    import check as own  # a plan names the modules of its plug-ins, and a run that is gone on with must find the same

    raise SystemExit(own.main())
