"""Train the pocket autoencoder: (3,64,64) images to (4,16,16) latents with zero mean and unit deviation per channel.

Most of the time goes to 32x32 crops (a quarter of the cost of whole images), the last fifth to whole images so that the network
meets true borders. After training the latents' statistics are folded into the two 1x1 convolutions, so scaling_factor is 1.

With --decoder the encoder of WORK/vae stays as it is and only the decoder learns on; latents, and so every diffusion model made on
them, stay valid. The better decoder goes to WORK/vae-decoder (never over WORK/vae) for `--install FOLDER`, a pipeline's vae folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from . import common

CROPS, WHOLE = 24, 6
KL, ABSOLUTE, NOISE = 3e-4, 0.1, 0.05


def build() -> AutoencoderKL:
    """Narrow at full resolution: a decode is 0.50 GFLOP, an encode 0.19."""
    channels = (16, 32, 64)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=channels,
        layers_per_block=1, latent_channels=4, norm_num_groups=8, mid_block_add_attention=False, sample_size=64, scaling_factor=1.0,
    )


def batch(images: torch.Tensor, fraction: float) -> torch.Tensor:
    """Random crops (24,3,32,32), or whole images (6,3,64,64) in the last fifth; float32 -1..1, half of them mirrored."""
    if fraction > 0.8:
        x = images[torch.randint(len(images), (WHOLE,))]
    else:
        rows, columns = torch.randint(0, 33, (2, CROPS)).tolist()
        picks = torch.randint(len(images), (CROPS,)).tolist()
        x = torch.stack([images[i, :, r:r + 32, c:c + 32] for i, r, c in zip(picks, rows, columns)])
    mirrored = torch.rand(len(x), 1, 1, 1) < 0.5
    return common.to_float(torch.where(mirrored, x.flip(-1), x)).contiguous(memory_format=torch.channels_last)


def loss_of(vae: AutoencoderKL, x: torch.Tensor) -> torch.Tensor:
    """Sum the squared error, a little absolute error (it makes white exactly white) and a tiny KL of images (N,3,H,W) -1..1.

    All three are means over elements.
    """
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample()).sample
    kl = 0.5 * (posterior.mean ** 2 + posterior.var - 1 - posterior.logvar).mean()
    return F.mse_loss(y, x) + ABSOLUTE * F.l1_loss(y, x) + KL * kl


@torch.no_grad()
def encode(vae: AutoencoderKL, images: torch.Tensor, size: int = 100) -> torch.Tensor:
    """Posterior means (N,4,16,16) float32 of uint8 images (N,3,64,64)."""
    return torch.cat([vae.encode(common.to_float(part).to(vae.device)).latent_dist.mode() for part in images.split(size)])


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor, size: int = 100) -> torch.Tensor:
    """uint8 images (N,3,64,64) of latents (N,4,16,16), rounded as the pipelines do."""
    parts = [vae.decode(part / vae.config.scaling_factor).sample for part in latents.split(size)]
    return ((torch.cat(parts) * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


@torch.no_grad()
def fold(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Fold the per-channel mean and deviation of `latents` (N,4,16,16) into quant_conv and post_quant_conv."""
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    inner, outer = vae.quant_conv, vae.post_quant_conv
    inner.weight[:4] /= deviation[:, None, None, None]
    inner.bias[:4] = (inner.bias[:4] - mean) / deviation
    inner.bias[4:] -= 2 * deviation.log()
    outer.bias += (outer.weight[:, :, 0, 0] @ mean)
    outer.weight *= deviation[None, :, None, None]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Average the peak signal-to-noise ratio in dB over uint8 images (N,3,64,64)."""
    error = ((a.float() - b.float()) ** 2).mean((1, 2, 3)).clamp(min=1e-3)
    return (10 * (255 ** 2 / error).log10()).mean().item()


def train(arguments: argparse.Namespace, images: torch.Tensor, held_out: torch.Tensor) -> AutoencoderKL:
    """Train on uint8 images (N,3,64,64) within the budget; resume from WORK/autoencoder.pt if it is there."""
    vae, path = build().to(memory_format=torch.channels_last), arguments.work / "autoencoder.pt"
    optimizer = torch.optim.AdamW([{"params": vae.parameters(), "peak": 2e-3}], betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    step, spent = 0, 0.0
    if path.exists():
        state = torch.load(path)
        vae.load_state_dict(state["vae"]), optimizer.load_state_dict(state["optimizer"]), torch.set_rng_state(state["rng"])
        step, spent = state["step"], state["elapsed"]
    clock = common.Clock(arguments.minutes, spent)
    while clock.fraction < 1:
        common.set_rate(optimizer, common.rate(clock.fraction))
        loss = loss_of(vae, batch(images, clock.fraction))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step(), optimizer.zero_grad()
        step += 1
        if step % 200 == 0:
            quality = psnr(decode(vae, encode(vae, held_out[::10])), held_out[::10])
            common.log(f"step {step} loss {loss.item():.5f} psnr {quality:.2f} elapsed {clock.elapsed:.0f} s")
            common.save_checkpoint(path, {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                                          "elapsed": clock.elapsed, "rng": torch.get_rng_state()})
    return vae.eval()


def train_decoder(arguments: argparse.Namespace, images: torch.Tensor) -> AutoencoderKL:
    """Fit the decoder of WORK/vae to uint8 images (N,3,64,64) within the budget, on posterior means with a little noise.

    The noise stands for a sampler's small errors, which the decoder will have to bear.
    """
    vae = AutoencoderKL.from_pretrained(arguments.work / "vae")
    latents = encode(vae, images)
    learning = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW([{"params": learning, "peak": 1e-3}], betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    clock, step = common.Clock(arguments.minutes), 0
    while clock.fraction < 1:
        common.set_rate(optimizer, common.rate(clock.fraction))
        pick = torch.randint(len(images), (WHOLE,))
        x, z = common.to_float(images[pick]), latents[pick]
        y = vae.decode(z + NOISE * torch.randn_like(z)).sample
        loss = F.mse_loss(y, x) + ABSOLUTE * F.l1_loss(y, x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step(), optimizer.zero_grad()
        step += 1
        if step % 200 == 0:
            common.log(f"decoder step {step} loss {loss.item():.5f} elapsed {clock.elapsed:.0f} s")
    return vae.eval()


def install(vae: AutoencoderKL, folder: Path) -> None:
    """Put a decoder's fp16 weights into a pipeline's vae folder, in one exchange of names."""
    temporary = folder.with_name("vae.new")
    vae.save_pretrained(temporary)
    common.halve(temporary)
    common.put_folder(temporary, folder)


def main() -> None:
    """Train the autoencoder, or its decoder alone."""
    parser = common.parser(__doc__, minutes=9)
    parser.add_argument("--decoder", action="store_true", help="train only the decoder of WORK/vae")
    parser.add_argument("--install", type=Path, help="with --decoder: the pipeline's vae folder to renew")
    arguments = parser.parse_args()
    common.start(arguments)
    images, held_out = common.load_split("train", arguments.data)[0], common.load_split("evaluation", arguments.data)[0][::10]
    if arguments.decoder:
        vae = train_decoder(arguments, images)
        common.log(f"psnr {psnr(decode(vae, encode(vae, held_out)), held_out):.2f} dB")
        vae.save_pretrained(arguments.work / "vae-decoder")
        if arguments.install is not None:
            install(vae, arguments.install)
        return
    vae = train(arguments, images, held_out)
    fold(vae, encode(vae, images[torch.randperm(len(images))[:2000]]))
    latents = encode(vae, held_out)
    common.log(f"psnr {psnr(decode(vae, latents), held_out):.2f} dB, latent mean {latents.mean((0, 2, 3)).tolist()}, "
               f"deviation {latents.std((0, 2, 3)).tolist()}")
    vae.to(memory_format=torch.contiguous_format).save_pretrained(arguments.work / "vae")


if __name__ == "__main__":
    main()
