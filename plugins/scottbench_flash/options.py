"""Options of Flash Diffusion's trainer. "Paper": read in its text, captions or model card. "Recalled": known without the text at hand,
confidence C. README lists what is not known."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FlashOptions:
    """Options of trainer flash."""

    variant: Literal["lora", "full"] = "lora"
    """lora: adapters over the teacher's own weights (paper); full: a copy of the U-Net, all of it trained. The guidance is baked in."""
    lora_rank: int = 64
    """Rank of variant lora, on every linear map and convolution of the blocks: 67.25 M of SD 1.5. The published student has 26.4 M."""
    grid: int = 32
    """K: number of time steps that the student is trained at, evenly from T/K to T (paper: 32). From the k-th the teacher makes k steps."""
    modes: int = 4
    """Number of time steps of the grid that are over-sampled after the warm-up, evenly spread. Paper: 4."""
    phases: int = 4
    """Equal parts of the budget: a warm-up over the whole grid, then phases that move from little noise to full. Paper: 4."""
    shift: float = 1.0
    """The weight of the j-th of M modes in phase p = 1, 2, ... goes like (j/M)^(shift (p - 1)). The paper shows its weights in a figure."""
    solver: Literal["dpmpp", "ddim"] = "dpmpp"
    """The teacher's: DPM-Solver++ 2M, or DDIM. Not known of the original."""
    w_min: float = 2.0
    """Lower end of the teacher's guidance w = s - 1, drawn for each sample; the student has no input for it."""
    w_max: float = 12.0
    """Upper end. Recalled: s of 3 to 13 for SD 1.5."""
    distance: Literal["l2", "huber"] = "l2"
    """Distance between student and teacher: mean square (recalled; LPIPS, which the paper tries too, is not here), or pseudo-Huber of each
    element."""
    huber_c: float = 1e-3
    """The c of sqrt(d^2 + c^2) - c."""
    weight: Literal["one", "alpha", "snr-clipped"] = "one"
    """Weight over time of that distance, and of distribution matching: 1, alpha_t, which evens out the gradient over t, or
    min(SNR, 5) / 5."""
    dm_weight: float = 0.7
    """lambda of distribution matching in the last phase; 0 for none. Recalled: .3, .5, .7 after the warm-up."""
    dm_scale: Literal["fixed", "gradient"] = "fixed"
    """fixed: lambda times the loss; gradient: lambda times the distillation loss's gradient norm at the student's output."""
    dm_form: Literal["mean", "score"] = "mean"
    """The gradient is the difference of both clean predictions. mean: over the mean distance between sample and real prediction (DMD,
    eq. 8); score: times alpha_t^2 / sigma_t^2, which makes it the difference of the scores."""
    dm_t_min: int = 20
    """Lowest level of noise at which the scores are compared. DMD: 20."""
    dm_t_max: int = 980
    """Highest level. DMD: 980."""
    adv_weight: float = 0.3
    """lambda of the adversarial loss in the last phase; 0 for none, and no discriminator. Recalled: .1, .2, .3 after the warm-up."""
    adv_scale: Literal["fixed", "gradient"] = "fixed"
    """fixed: lambda times the loss; gradient: lambda times the distillation loss's gradient norm at the student's output."""
    adv_loss: Literal["lsgan", "hinge"] = "lsgan"
    """Least squares towards 1 and 0 (recalled), or hinge."""
    ramp: Literal["phases", "none"] = "phases"
    """phases: both lambdas are 0 in the warm-up and grow evenly to their value in the last phase (recalled: by phases). none: their value
    throughout."""
    tau_min: int = 0
    """Lowest level to which real and predicted latents are noised for the discriminator. Not known of the original."""
    tau_max: int = 999
    """Highest level."""
    disc_width: int = 256
    """Channels of the discriminator's trainable head. Not known of the original."""
    disc_every: int = 1
    """The discriminator is updated in every so-many-th step."""
    lr: float = 1e-5
    """AdamW learning rate of the student. Recalled: 1e-5."""
    disc_lr: float = 1e-5
    """AdamW learning rate of the head. Recalled: 1e-5."""

    def __post_init__(self) -> None:
        if self.lora_rank < 1 or self.disc_every < 1:
            raise ValueError("lora_rank and disc_every must be at least 1")
        if not 1 <= self.modes <= self.grid <= 1000 or self.grid % self.modes:
            raise ValueError("need 1 <= modes <= grid <= 1000, and modes a divisor of grid")
        if self.phases < 1 or self.shift < 0:
            raise ValueError("need phases >= 1 and shift >= 0")
        if not 0 <= self.w_min <= self.w_max:
            raise ValueError("need 0 <= w_min <= w_max")
        if min(self.dm_weight, self.adv_weight) < 0:
            raise ValueError("dm_weight and adv_weight must be at least 0")
        if not (0 <= self.dm_t_min <= self.dm_t_max <= 999 and 0 <= self.tau_min <= self.tau_max <= 999):
            raise ValueError("need 0 <= dm_t_min <= dm_t_max <= 999, and the same of tau_min and tau_max")
        if self.disc_width < 8 or self.disc_width % 8:
            raise ValueError("disc_width must be a multiple of 8")
        if min(self.lr, self.disc_lr, self.huber_c) <= 0:
            raise ValueError("need positive lr, disc_lr and huber_c")
