"""Train the pocket teacher (U-Net and text encoder together) and export it as a StableDiffusionPipeline folder.

    python -m scottbench_pocket.build.teacher --work DIR --minutes 60 [--resume] [--out FOLDER]

Reads WORK/vae, WORK/tokenizer, WORK/text_encoder and WORK/latents.pt, which text_encoder.py leaves there; keeps WORK/teacher.pt.
`--resume` goes on within an unfinished budget; after a finished one it starts a new budget, warmed up and annealed again.
`--minutes 0` only exports: the checkpoint with --resume, else a random U-Net (for code that just has to run). A run whose output
folder is missing starts with that too.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import common, text_encoder

DROPOUT, GAMMA = 0.1, 5.0
UNET_RATE, TEXT_RATE = 7e-4, 2e-4
CHECKPOINT, EARLY = 300, 600  # seconds between checkpoints; seconds until the first export


def build() -> UNet2DConditionModel:
    """5.6 M parameters, 0.51 GFLOP: attention at 8x8 and 4x4 only, since it is dear at 16x16."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(64, 96, 128), norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=4,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=text_encoder.WIDTH,
    )


def scheduler() -> DDIMScheduler:
    """The noise schedule and conventions of Stable Diffusion 1.5."""
    return DDIMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
                         set_alpha_to_one=False, clip_sample=False, prediction_type="epsilon")


class Teacher(nn.Module):
    """U-Net and text encoder as one module, so that both share an optimiser, an average and a checkpoint."""

    def __init__(self, text: CLIPTextModel):
        super().__init__()
        self.unet, self.text = build(), text

    def forward(self, z: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Predicted noise (N,4,16,16) of noisy latents, steps (N,) int64 and tokens (N,24)."""
        return self.unet(z, t, self.text(ids).last_hidden_state, return_dict=False)[0]


class Data:
    """Latents and tokens in shuffled order without replacement; its state goes into the checkpoint."""

    def __init__(self, latents: torch.Tensor, ids: torch.Tensor, empty: torch.Tensor):
        self.latents, self.ids, self.empty = latents, ids, empty
        self.order, self.position = torch.randperm(len(ids)), 0

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (size,4,16,16) and tokens (size,24), a tenth of them the empty prompt's."""
        if self.position + size > len(self.order):
            self.order, self.position = torch.randperm(len(self.ids)), 0
        pick = self.order[self.position:self.position + size]
        self.position += size
        return self.latents[pick], torch.where(torch.rand(size, 1) < DROPOUT, self.empty, self.ids[pick])


def loss_of(model: nn.Module, alphas: torch.Tensor, z0: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Squared error of the noise with min-SNR weights (Hang et al. 2023, gamma 5), at stratified steps.

    `alphas` (1000,) are the cumulative products; one step from each of N equal strata lowers the gradient's variance.
    """
    n = len(z0)
    t = ((torch.randperm(n, device=z0.device) + torch.rand(n, device=z0.device)) / n * 1000).long().clamp(max=999)
    a, noise = alphas[t, None, None, None], torch.randn_like(z0)
    error = (model(a.sqrt() * z0 + (1 - a).sqrt() * noise, t, ids) - noise).square().mean((1, 2, 3))
    snr = (a / (1 - a)).flatten()
    return (error * (snr.clamp(max=GAMMA) / snr)).mean()


@torch.no_grad()
def held_out_loss(model: nn.Module, alphas: torch.Tensor, latents: torch.Tensor, ids: torch.Tensor) -> float:
    """Compute the training loss on held-out latents (N,4,16,16) and tokens (N,24) with fixed noise; keep the random state as it was."""
    with torch.random.fork_rng(devices=[latents.device] if latents.is_cuda else []):
        torch.manual_seed(0)
        return sum(loss_of(model, alphas, z, i).item() for z, i in zip(latents.split(100), ids.split(100))) / len(latents.split(100))


def export(model: Teacher, work: Path, out: Path) -> None:
    """Write the pipeline folder beside `out` and move it into place."""
    temporary = out.with_name(out.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    vae, tokenizer = AutoencoderKL.from_pretrained(work / "vae"), CLIPTokenizer.from_pretrained(work / "tokenizer")
    StableDiffusionPipeline(
        vae=vae, text_encoder=model.text, tokenizer=tokenizer, unet=model.unet, scheduler=scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(temporary)
    # save_pretrained writes tokenizer.json alone; SD's own folders carry vocab.json and merges.txt, and other loaders want them.
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(work / "tokenizer" / name, temporary / "tokenizer" / name)
    for part in ("vae", "text_encoder", "unet"):
        common.halve(temporary / part)
    common.put_folder(temporary, out)


class Run:
    """One training run: everything a checkpoint holds."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.path = arguments, arguments.work / "teacher.pt"
        cache = torch.load(arguments.work / "latents.pt")
        tokenizer = CLIPTokenizer.from_pretrained(arguments.work / "tokenizer")
        self.empty = text_encoder.tokens(tokenizer, [""])
        self.data = Data(cache["train"], text_encoder.tokens(tokenizer, cache["train_captions"]), self.empty)
        self.held_out = cache["evaluation"], text_encoder.tokens(tokenizer, cache["evaluation_captions"])
        self.model = Teacher(CLIPTextModel.from_pretrained(arguments.work / "text_encoder", dtype=torch.float32)).train()
        if arguments.channels_last:
            self.model.unet.to(memory_format=torch.channels_last)
        self.average, self.step, self.clock = common.Average(self.model, 0.999), 0, common.Clock(arguments.minutes)
        self.alphas = scheduler().alphas_cumprod
        groups = [{"params": self.model.unet.parameters(), "peak": UNET_RATE}, {"params": self.model.text.parameters(), "peak": TEXT_RATE}]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    def load(self) -> None:
        """Take up WORK/teacher.pt."""
        state = torch.load(self.path)
        self.model.load_state_dict(state["model"]), self.optimizer.load_state_dict(state["optimizer"])
        self.average.state, self.average.count, self.step = state["average"], state["step"], state["step"]
        self.data.order, self.data.position = state["order"], state["position"]
        torch.set_rng_state(state["rng"])
        spent = 0.0 if state["finished"] else state["elapsed"]
        self.clock = common.Clock(self.arguments.minutes, spent)

    def save(self) -> None:
        """Write WORK/teacher.pt."""
        common.save_checkpoint(self.path, {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "average": self.average.state, "step": self.step,
            "order": self.data.order, "position": self.data.position, "rng": torch.get_rng_state(), "elapsed": self.clock.elapsed,
            "minutes": self.arguments.minutes, "finished": self.clock.fraction >= 1,
        })

    def copy(self, state: dict) -> Teacher:
        """A model of its own with `state`, laid out as safetensors wants it (which refuses channels-last weights)."""
        result = Teacher(CLIPTextModel(self.model.text.config))
        result.load_state_dict(state)
        return result.eval()

    def train_step(self) -> float:
        """Make one update of weights and average; return the loss."""
        common.set_rate(self.optimizer, common.rate(self.clock.fraction))
        loss = loss_of(self.model, self.alphas, *self.data.batch(self.arguments.batch))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step(), self.optimizer.zero_grad()
        self.average.update(self.model)
        self.step += 1
        return loss.item()

    def train(self) -> None:
        """Train until the budget ends: log every 100 steps, save every 5 minutes, export once after 10."""
        losses, saved, mark = [], self.clock.elapsed, self.clock.elapsed
        while self.clock.fraction < 1:
            losses.append(self.train_step())
            if len(losses) == 100:
                speed, mark = 100 * self.arguments.batch / (self.clock.elapsed - mark), self.clock.elapsed
                common.log(f"step {self.step} loss {sum(losses) / 100:.4f} images/s {speed:.1f} "
                           f"elapsed {mark:.0f} s of {self.clock.budget:.0f}")
                losses = []
            if self.clock.elapsed - saved > CHECKPOINT:
                early, saved = saved < EARLY <= self.clock.elapsed, self.clock.elapsed
                self.save()
                if early:
                    export(self.copy(self.average.state), self.arguments.work, self.arguments.out)

    def finish(self) -> None:
        """Export the averaged weights. The losses on evaluation pairs are logged and decide nothing."""
        models = {"average": self.copy(self.average.state), "raw": self.copy(self.model.state_dict())}
        losses = {name: held_out_loss(model, self.alphas, *self.held_out) for name, model in models.items()}
        export(models["average"], self.arguments.work, self.arguments.out)
        common.log(f"held-out loss {losses}; exported the averaged weights of step {self.step}")


def main() -> None:
    """Train or resume, and export."""
    parser = common.parser(__doc__, minutes=60)
    parser.add_argument("--resume", action="store_true", help="go on from WORK/teacher.pt")
    parser.add_argument("--out", type=Path, default=common.ASSETS / "model")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels-last", action="store_true", help="channels-last weights: faster or slower, by machine")
    arguments = parser.parse_args()
    common.start(arguments)
    run = Run(arguments)
    if arguments.resume:
        run.load()
    if not arguments.out.exists():
        export(run.copy(run.average.state), arguments.work, arguments.out)
    if arguments.minutes > 0:
        run.train()
        run.save()
    run.finish()


if __name__ == "__main__":
    main()
