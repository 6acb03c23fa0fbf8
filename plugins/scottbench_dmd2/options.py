"""Options of the DMD2 trainer. Defaults are the paper's for Stable Diffusion where it states them; see README, "ours beside the paper"."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DMD2Options:
    """Options of trainer dmd2."""

    steps: int = 1
    """Sampling steps that the generator is made for: it is trained at floor(999 j / steps), j = steps..1. Paper: 1, and 4 for SDXL."""
    inputs: Literal["simulated", "data"] = "simulated"
    """Inputs of the later steps: noised predictions of the generator itself, as sampling has them (paper), or noised data."""
    w: float = 0.75
    """Guidance w = s - 1 of the real score, which is baked into the student. Paper: s = 1.75 for SD 1.5, 8 for SDXL."""
    fake_updates: int = 5
    """Updates of the fake score for each of the generator. Paper: 5; 10 for SD 1.5."""
    fake_alone: float = 0.0
    """Part of the budget, at its start, that updates the fake score alone until it knows the samples. Paper: none."""
    normalise: Literal["alpha", "one", "none"] = "alpha"
    """Scale of the score difference: alpha_t (alpha) or 1 (one) over each sample's mean |x - real|, or alpha_t alone (none).
    alpha is the formula of the first DMD paper, which DMD2 keeps."""
    weight: Literal["one", "alpha", "snr-clipped"] = "one"
    """Weight of an item in the generator's losses by its input's time: 1 (paper), alpha_t, or min(SNR, 5) / 5.
    alpha makes the gradient's norm about the same at every step; with one step it is a constant."""
    t_min: int = 20
    """Least time step at which the scores are compared. Paper: 2 % of 1000."""
    t_max: int = 979
    """Largest of them. Paper: 98 % of 1000."""
    gan: bool = True
    """A head on the fake score's middle features tells data from samples, and the generator is trained against it."""
    gan_weight: float = 1e-3
    """Weight of the generator's adversarial term. Paper: 1e-3 for SD 1.5, 5e-3 for SDXL, 3e-3 for ImageNet."""
    gan_scale: Literal["fixed", "gradient"] = "fixed"
    """fixed: gan_weight times the loss (paper); gradient: gan_weight times the matching term's gradient norm at the sample.
    The loss is a mean over samples and the matching term one over elements, so a fixed weight depends on the size of latents."""
    gan_fake_weight: float = 1e-2
    """Weight of the head's loss beside the fake score's denoising loss. Paper: 1e-2."""
    gan_from: float = 0.0
    """Part of the budget after which the head is there and learns. Paper: SD 1.5 is trained without it first, then with it."""
    adv_from: float = 0.0
    """Part of the budget after which it counts in the generator's loss; not before gan_from."""
    lr: float = 1e-5
    """AdamW learning rate of the generator. Paper: 1e-5 for SD 1.5, then 5e-7 with the GAN; 5e-7 for SDXL."""
    fake_lr: float = 1e-5
    """AdamW learning rate of the fake score and its head. Paper: as the generator's."""
    ema: float = 0.0
    """Decay of averaged weights, which are exported; 0 for none. Paper: none."""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 50:
            raise ValueError("need 1 <= steps <= 50")
        if self.w < 0:
            raise ValueError("w must be at least 0: w = s - 1, and s = 1 is unguided")
        if self.fake_updates < 1:
            raise ValueError("fake_updates must be at least 1")
        if not all(0 <= part < 1 for part in (self.fake_alone, self.gan_from, self.adv_from)):
            raise ValueError("fake_alone, gan_from and adv_from are parts of the budget: at least 0 and below 1")
        if not 0 <= self.t_min <= self.t_max <= 999:
            raise ValueError("need 0 <= t_min <= t_max <= 999")
        if self.gan and min(self.gan_weight, self.gan_fake_weight) <= 0:
            raise ValueError("gan_weight and gan_fake_weight must be above 0; gan=false trains without")
        if not 0 <= self.ema < 1 or min(self.lr, self.fake_lr) <= 0:
            raise ValueError("need 0 <= ema < 1 and positive lr and fake_lr")
