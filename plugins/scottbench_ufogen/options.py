"""Options of the UFOGen trainer. "Repository": the author's own DiT/ImageNet version; the paper's code was not released."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class UFOGenOptions:
    """Options of trainer ufogen."""

    delta: int = 250
    """The discriminator sees t' = max(t - delta, 0). 1000 / n for n sampling steps; paper: four steps, 250."""
    recon_weight: float = 1.0
    """Weight of the reconstruction term (lambda_KL). Paper: 1."""
    recon: Literal["snr", "uniform"] = "snr"
    """gamma_t of the reconstruction: snr is the error of eps (repository), uniform the error of x0.
    uniform pulls a one-step generator to the mean of all images."""
    adv_weight: float = 1.0
    """Weight of the adversarial term. Repository: 1."""
    adv_scale: Literal["fixed", "gradient"] = "fixed"
    """fixed: adv_weight times the loss (repository); gradient: adv_weight times the reconstruction's gradient norm at the network's
    output. With small batches a fixed weight lets the generator outrun its discriminator."""
    clamp: float | None = 0.5
    """Logits beyond this on the right side give no gradient; none: no bound. Repository: 0.5."""
    discriminator: Literal["whole", "full", "lora"] = "whole"
    """Trained part of the discriminator's copy of the teacher: everything (paper), the decoder, or LoRA on the decoder."""
    disc_rank: int = 64
    """Rank of the LoRA."""
    disc_every: int = 2
    """The discriminator is updated in every so-many-th step, the generator in each. Repository: 2."""
    disc_warmup: int = 0
    """Steps during which the discriminator learns but does not count in the generator's loss. Not known of the original."""
    lr: float = 1e-5
    """AdamW learning rate of the generator. Repository: 1e-4 for DiT; not known for Stable Diffusion."""
    disc_lr: float = 1e-5
    """AdamW learning rate of the discriminator. Repository: 1e-4 for DiT; not known for Stable Diffusion."""
    ema: float = 0.99
    """Decay of the averaged weights, which are exported. Repository: 0.99."""

    def __post_init__(self) -> None:
        if not 1 <= self.delta <= 999:
            raise ValueError("need 1 <= delta <= 999")
        if min(self.recon_weight, self.adv_weight) < 0 or self.recon_weight + self.adv_weight == 0:
            raise ValueError("recon_weight and adv_weight must be at least 0, and one of them above 0")
        if self.adv_scale == "gradient" and self.recon_weight == 0:
            raise ValueError("adv_scale gradient needs recon_weight above 0, whose gradient it is measured by")
        if self.clamp is not None and self.clamp <= 0:
            raise ValueError("clamp must be above 0, or none")
        if min(self.disc_rank, self.disc_every) < 1 or self.disc_warmup < 0:
            raise ValueError("disc_rank and disc_every must be at least 1, disc_warmup at least 0")
        if not 0 <= self.ema < 1 or min(self.lr, self.disc_lr) <= 0:
            raise ValueError("need 0 <= ema < 1 and positive lr and disc_lr")
