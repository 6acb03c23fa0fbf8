"""Train the pocket teacher further, on a GPU, from the weights that are shipped.

    python -m scottbench_pocket.build.polish --out FOLDER --minutes 1 [--device cuda] [--batch 256]

Reads assets/model and the training split alone. Writes FOLDER, a StableDiffusionPipeline folder like assets/model, with the average of the
weights, and FOLDER/polish.json: updates, images, seconds, and the loss on held-out training items before and after.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import autoencoder, common, teacher, text_encoder

HELD_OUT = 353
"""Training items that the polish leaves out, to see whether it learns by heart."""


class Polish:
    """The shipped teacher on a device, its data and its optimiser."""

    def __init__(self, arguments: argparse.Namespace):
        model, device = common.ASSETS / "model", arguments.device
        self.arguments, self.device, self.step = arguments, device, 0
        images, captions = common.load_split("train", arguments.data)
        vae, tokenizer = AutoencoderKL.from_pretrained(model / "vae").to(device), CLIPTokenizer.from_pretrained(model / "tokenizer")
        latents = autoencoder.encode(vae, images)
        ids = text_encoder.tokens(tokenizer, captions).to(device)
        self.empty = text_encoder.tokens(tokenizer, [""]).to(device)
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
        held, kept = order[:HELD_OUT].to(device), order[HELD_OUT:].to(device)
        self.held_out, self.latents, self.ids = (latents[held], ids[held]), latents[kept], ids[kept]
        text = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
        self.model = teacher.Teacher(text)
        self.model.unet.load_state_dict(UNet2DConditionModel.from_pretrained(model / "unet").state_dict())
        self.model.to(device).train()
        self.model.unet.to(memory_format=torch.channels_last)
        self.alphas = teacher.scheduler().alphas_cumprod.to(device)
        self.average, self.clock = common.Average(self.model, arguments.average), common.Clock(arguments.minutes)
        groups = [{"params": self.model.unet.parameters(), "peak": arguments.lr}, {"params": text.parameters(), "peak": arguments.lr / 3.5}]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B,4,16,16) and tokens (B,24), drawn on the device, a tenth of them the empty prompt's."""
        size = self.arguments.batch
        pick = torch.randint(len(self.ids), (size,), device=self.device)
        dropped = torch.rand(size, 1, device=self.device) < teacher.DROPOUT
        return self.latents[pick], torch.where(dropped, self.empty, self.ids[pick])

    def train(self) -> None:
        """Train until the budget ends, with a line every 200 updates."""
        self.clock = common.Clock(self.arguments.minutes)
        while self.clock.fraction < 1:
            common.set_rate(self.optimizer, common.rate(self.clock.fraction))
            loss = teacher.loss_of(self.model, self.alphas, *self.batch())
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step(), self.optimizer.zero_grad()
            self.average.update(self.model)
            self.step += 1
            if self.step % 200 == 0:
                common.log(f"step {self.step} loss {loss.item():.4f} elapsed {self.clock.elapsed:.0f} s")

    def averaged(self) -> teacher.Teacher:
        """Make a model of the averaged weights, laid out as safetensors wants it."""
        result = copy.deepcopy(self.model)
        result.load_state_dict(self.average.state)
        return result.to(memory_format=torch.contiguous_format).eval()


def main() -> None:
    """Polish and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--data", help="folder with train.npz (default: the shipped assets)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    run = Polish(arguments)
    before = teacher.held_out_loss(run.model.eval(), run.alphas, *run.held_out)
    run.model.train()
    run.train()
    model = run.averaged()
    after, images = teacher.held_out_loss(model, run.alphas, *run.held_out), run.step * arguments.batch
    shipped = common.ASSETS / "model"
    teacher.export(model.cpu(), shipped, arguments.out)
    facts = {"updates": run.step, "batch": arguments.batch, "images": images, "seconds": round(run.clock.elapsed, 1), "lr": arguments.lr,
             "held_out_loss": {"before": before, "after": after}}  # fmt: skip
    common.write_json(arguments.out / "polish.json", facts)
    common.log(f"{facts}")


if __name__ == "__main__":
    main()
