"""Check on an accelerator what a CPU cannot show: right numbers, memory, speed. One file, no network, no weights.

    python tests/gpu/check.py --out DIR [--only smoke sampling pocket ...] [--minutes 8] [--device cuda] [--tiny]

Networks have Stable Diffusion 1.5's shapes and random weights. Each section ends by itself, results go to DIR/gpu-check.json as they come,
and a section that fails is a row of its own. `--tiny` runs everything on a CPU with small networks, so that the script is never broken.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import platform
import tempfile
import time
import traceback
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


def sampling(check: Check) -> None:
    """Two guided steps and the decode: speed, memory, equal bytes twice, and grey levels between batches and number formats."""
    reference: np.ndarray | None = None
    formats = [torch.float32] if check.tiny else [torch.float32, torch.float16, torch.bfloat16]
    for dtype in formats:
        model = model_of(check, dtype, vae=True)
        for n in (2, 4) if check.tiny else (4, 8, 16, 32):
            text, uncond = text_of(check, 4, dtype)
            many = text.repeat(n // text.shape[0] + 1, 1, 1)[:n]
            noise = torch.randn(4, *model.latent_shape, generator=torch.Generator().manual_seed(4)).repeat(n // 4 + 1, 1, 1, 1)[:n]

            def images(model: Any = model, many: Tensor = many, uncond: Tensor = uncond, noise: Tensor = noise) -> np.ndarray:
                with torch.inference_mode():
                    denoise, z = model.denoiser(many, uncond, 3.0), noise.to(check.device)
                    for t in (999, 499):
                        z, _ = denoise(z, t)
                    return model.decode(z)

            try:
                first = images()
                with peak(check) as cost:
                    second = images()
            except torch.OutOfMemoryError as error:
                check.row("sampling", f"{dtype} batch {n}", "out of memory", error=str(error).splitlines()[0][:80])
                continue
            reference = first if reference is None else reference
            same = min(len(reference), len(first))
            grey = np.abs(first[:same].astype(int) - reference[:same].astype(int))
            facts = {"gib": round(cost["gib"], 2), "equal_twice": bool((first == second).all())}
            facts |= {"grey_mean": round(float(grey.mean()), 4), "grey_max": int(grey.max())}
            check.row("sampling", f"{str(dtype)[6:]} batch {n}: 2 guided steps and decode", n / cost["seconds"], "img/s", **facts)
            if check.left < 30:
                return


def stages(check: Check) -> None:
    """One U-Net pass as it is and compiled: milliseconds, and the largest difference."""
    n, dtype = (2, torch.float32) if check.tiny else (16, torch.float16)
    unet = unet_of(check, dtype)
    text, _ = text_of(check, n, dtype)
    side = unet.config.sample_size
    z, t = torch.randn(n, 4, side, side, device=check.device, dtype=dtype), torch.full((n,), 500, device=check.device)
    kinds: dict[str, Callable[..., Any]] = {"eager": unet}
    if not check.tiny:
        kinds["compiled"] = torch.compile(unet)
        kinds["compiled, graphs"] = torch.compile(unet, mode="reduce-overhead")
    expected: Tensor | None = None
    for name, network in kinds.items():
        with torch.inference_mode(), peak(check) as first:
            out = network(z, t, encoder_hidden_states=text, return_dict=False)[0].clone()
        with torch.inference_mode(), peak(check) as cost:
            for _ in range(10):
                network(z, t, encoder_hidden_states=text, return_dict=False)
        expected = out if expected is None else expected
        check.row("stages", f"U-Net pass of {n}, {name}", cost["seconds"] * 100, "ms", first_call_s=round(first["seconds"], 1),
                  largest_difference=float((out - expected).abs().max()))  # fmt: skip
        if check.left < 60:
            return


def png(check: Check) -> None:
    """PNG of 512x512 noise by threads."""
    side, count = (64, 8) if check.tiny else (512, 128)
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)

    def encode(image: np.ndarray) -> int:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        return buffer.tell()

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
        "ufogen": lambda context: DiffusionGAN(context, UFOGenOptions(discriminator="lora", disc_rank=rank)),
    }


def training(check: Check) -> None:
    """Five updates of each trainer through the host's loop, by batch and number format: seconds an update and memory."""
    from accelerate import Accelerator

    from scottbench.training.context import Context
    from scottbench.training.data import Data
    from scottbench.training.loop import Loop
    from scottbench.training.settings import TrainSettings
    from scottbench.training.train import prepare

    precision = "no" if check.tiny else "bf16"
    for name, build in trainers(check.tiny).items():
        for n in (2,) if check.tiny else (1, 4, 10):
            model = model_of(check)
            text, uncond = text_of(check, 2 * n)
            latents = torch.randn(2 * n, *model.latent_shape, generator=torch.Generator().manual_seed(5))
            data = Data(latents.numpy(), text.float().cpu().numpy(), uncond, torch.arange(2 * n), torch.arange(0))
            settings = TrainSettings(batch_size=n, gradient_checkpointing=not check.tiny)
            try:
                made = build(Context(model, check.device))
                prepare(made, model, settings, 1)
                with tempfile.TemporaryDirectory() as folder:
                    loop = Loop(made, data, Accelerator(cpu=check.tiny, mixed_precision=precision), Path(folder), settings, model)
                    loop.one_step(0.0)
                    loop.state.step += 1
                    with peak(check) as cost:
                        for _ in range(5):
                            logged = loop.one_step(0.5)
                            loop.state.step += 1
            except torch.OutOfMemoryError as error:
                check.row("training", f"{name} batch {n}, {precision}", "out of memory", error=str(error).splitlines()[0][:80])
                continue
            finite = all(np.isfinite(value) for value in logged.values())
            facts = {"gib": round(cost["gib"], 2), "finite": finite}
            check.row("training", f"{name} batch {n}, {precision}: an update", cost["seconds"] / 5, "s", **facts)
            del made, loop, model
            if check.left < 45:
                return


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

    for n in (4,) if check.tiny else (32, 128, 256, 512):
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
            for timed in (False, True):
                with peak(check) as cost:
                    for _ in range(count if timed else 2):
                        for role, losses, _ in made.step(batch):
                            sum(losses.values()).backward()
                            optimizers[role].step()
                            optimizers[role].zero_grad(set_to_none=True)
            check.row("pocket", f"{name}, an update of {n}", cost["seconds"] / count * 1000, "ms", gib=round(cost["gib"], 2))
            if check.left < 20:
                return


SECTIONS: dict[str, Callable[[Check], None]] = {
    "smoke": smoke, "pocket": pocket, "sampling": sampling, "training": training, "gradients": gradients, "png": png, "stages": stages,
    "shard": shard,
}  # fmt: skip


def main() -> int:
    """Run the sections that were asked for; exit 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = "cpu" if arguments.tiny else arguments.device
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
        check.row(name, "section", time.monotonic() - started, "s")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
