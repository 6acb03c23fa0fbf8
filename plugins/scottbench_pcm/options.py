"""Options of PCM: of its trainer and of its sampler. "Repository": the authors' public training scripts for Stable Diffusion 1.5."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SamplerOptions:
    """Options of method pcm."""

    eta: float = 0.0
    """Share of the noise that is drawn anew at each boundary: sigma (sqrt(1 - eta^2) eps + eta xi). 0 is the paper's deterministic
    sampling, 1 re-noises as consistency sampling does."""

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError("need 0 <= eta <= 1")


@dataclass(frozen=True)
class PCMOptions:
    """Options of trainer pcm."""

    phases: int = 4
    """Number N of equal parts of the time axis, each with an end of its own; the student is sampled in N steps. Repository: 4, and 2 with
    the adversarial term."""
    variant: Literal["full", "lora"] = "lora"
    """lora: adapters over the teacher's own weights, for student and target (repository). full: a copy of the U-Net, all of it trained."""
    lora_rank: int = 64
    """Rank of variant lora, on every linear map and convolution of the blocks (7.8 % of SD 1.5). Repository: 64."""
    skip: int = 20
    """The teacher's DDIM step goes from t to t - skip, or to the phase's end where that comes first. Repository: 20."""
    w_min: float = 4.0
    """Lower end of the guidance w = s - 1 of the teacher, drawn for each item. It is no input of the student. Repository: 4."""
    w_max: float = 5.0
    """Upper end. Repository: 5. Both 0: an unguided teacher; the student is then sampled with any guidance, at two evaluations a step."""
    empty_prompts: float = 0.0
    """Share of items that are trained with the empty prompt. Repository: 0, and 0.15 with an unguided teacher."""
    weight: Literal["one", "alpha"] = "one"
    """Weight of the consistency loss. one: repository. alpha: alpha_t / alpha_end, which evens out the gradient over t."""
    huber: Literal["element", "norm"] = "element"
    """Pseudo-Huber of each element (repository) or of each sample's L2 norm."""
    huber_c: float = 1e-3
    """The c of sqrt(d^2 + c^2) - c. Repository: 1e-3."""
    lr: float = 5e-6
    """AdamW learning rate of the student. Repository: 5e-6, for LoRA."""
    ema: float = 0.95
    """Decay of the target network theta_minus. The paper's figure has one, its decay is not known to us; 0: the target is the student
    itself, as in the repository."""
    discriminator: Literal["none", "heads", "lora", "full"] = "none"
    """The adversarial consistency loss. none: off. heads: small heads on the frozen teacher's features (paper). lora, full: the teacher's
    decoder as adapters or whole, as SCott has it."""
    disc_heads: int = 4
    """Heads on each block of discriminator heads. Repository: 4."""
    disc_rank: int = 64
    """Rank of discriminator lora."""
    adv_weight: float = 0.1
    """Weight of the adversarial term. Repository: 0.1."""
    adv_loss: Literal["relu", "hinge"] = "relu"
    """Student's term: relu(1 - D(fake)) (repository) or -D(fake)."""
    adv_scale: Literal["fixed", "gradient"] = "fixed"
    """fixed: adv_weight times the loss (repository); gradient: adv_weight times the consistency loss's gradient norm at the student's
    output."""
    disc_lr: float = 1e-5
    """AdamW learning rate of the discriminator. Repository: 1e-5."""
    disc_every: int = 1
    """The discriminator is updated after every so-many-th update of the student. Repository: they take turns."""
    disc_warmup: int = 0
    """Updates during which the discriminator learns but does not count in the student's loss. Repository: 0."""

    def __post_init__(self) -> None:
        if not 1 <= self.phases <= 100:
            raise ValueError("need 1 <= phases <= 100")
        if min(self.skip, self.lora_rank, self.disc_rank, self.disc_heads, self.disc_every) < 1:
            raise ValueError("skip, lora_rank, disc_rank, disc_heads and disc_every must be at least 1")
        if not 0 <= self.w_min <= self.w_max:
            raise ValueError("need 0 <= w_min <= w_max")
        if not 0 <= self.empty_prompts < 1:
            raise ValueError("need 0 <= empty_prompts < 1")
        if not 0 <= self.ema < 1 or min(self.lr, self.disc_lr, self.huber_c) <= 0:
            raise ValueError("need 0 <= ema < 1, and lr, disc_lr and huber_c above 0")
        if self.adv_weight < 0 or self.disc_warmup < 0:
            raise ValueError("adv_weight and disc_warmup must be at least 0")
