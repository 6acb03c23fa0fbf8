"""Options of SCott's trainer and sampler. Where the paper is silent the field says so; see README, "ours beside the paper"."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SamplerOptions:
    """Options of method scott."""

    skip: int = 24
    """Spacing of the grid that the student was trained on. Not named: what its student.json says, else this."""

    def __post_init__(self) -> None:
        if self.skip < 1:
            raise ValueError("skip must be at least 1")


NoiseFunction = Literal["x", "x^1.5", "x^2", "x^2.5", "x(exp(-1/x)+10)", "x^0.9*log10(1+100x^1.5)", "x(exp(x^0.3)+10)"]
"""The noise functions phi of ER-SDE, by formula."""


@dataclass(frozen=True)
class ERSDEOptions:
    """Options of method er-sde."""

    noise_function: NoiseFunction = "x(exp(x^0.3)+10)"
    """phi, by formula; x is the ODE. The solver's default, SDE_5."""
    order: Literal[1, 2, 3] = 3
    """Order. The solver's default: 3."""
    strength: float = 1.0
    """Exponent a of rho: 0 is the ODE, 1 the noise function as published."""

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise ValueError("strength must be at least 0")


@dataclass(frozen=True)
class SCottOptions:
    """Options of trainer scott."""

    variant: Literal["full", "lora"] = "full"
    """full: a copy of the U-Net, all of it trained, as in the paper. lora: adapters over the teacher's own weights, for both student and
    target; the guidance is baked in, and it is sampled with guidance 1. The trainable part is that of LCM-LoRA."""
    lora_rank: int = 64
    """Rank of variant lora, on every linear map and convolution of the blocks (7.8 % of SD 1.5)."""
    skip: int = 24
    """The teacher's chain goes from t_n to t_m = max(t_n - skip, 0). Paper: 24."""
    h: int = 3
    """SDE sub-steps between t_n and t_m. Paper: 3."""
    solver: Literal["er-sde", "ddim", "ode"] = "er-sde"
    """er-sde: rho from a noise function; ddim: DDIM(eta); ode: no noise (CD's teacher, in h sub-steps)."""
    noise_function: NoiseFunction = "x(exp(x^0.3)+10)"
    """phi of ER-SDE, by formula. Paper: "function 5", read as the solver's default SDE_5 (methods.md 3.2)."""
    order: Literal[1, 2] = 1
    """Order of er-sde and ode: 2 extrapolates x0 from the sub-step before, at no further evaluation. Not known of the original."""
    strength: float = 1.0
    """Exponent a of rho: 0 is the ODE, 1 the noise function as published."""
    eta: float = 0.3
    """eta of solver ddim. Paper's ablation: 0, 0.1, 0.2, 0.3, 0.6."""
    t_sampling: Literal["grid", "uniform"] = "grid"
    """t_n from 999, 975, ..., 15 (grid) or uniform in skip..999. Not known of the original."""
    w_min: float = 2.0
    """Lower end of the guidance w = s - 1 drawn in training."""
    w_max: float = 14.0
    """Upper end. Not known of the original; LCM's range. Equal to w_min: one guidance, baked in."""
    w_start: Literal["random", "zero"] = "random"
    """Start of the map of the guidance embedding: random (LCM), or zero, from which it hardly learns at a small learning rate."""
    weight: Literal["one", "alpha", "snr-clipped"] = "one"
    """Weight lambda(t) of the consistency loss. Not known of the original; one: LCM. alpha: alpha_t, which evens out the gradient over t.
    snr-clipped: min(SNR, 5) / 5."""
    reuse: int = 1
    """Updates of the student per chain of the teacher; each has a target of its own. Paper: 1."""
    lr: float = 8e-6
    """AdamW learning rate of the student. Paper: 8e-6."""
    ema: float = 0.95
    """Decay of the target network theta_minus. Paper: 0.95."""
    huber: Literal["element", "norm"] = "element"
    """Pseudo-Huber of each element or of each sample's L2 norm. Not known of the original."""
    huber_c: float = 1e-3
    """The c of sqrt(d^2 + c^2) - c. Not known of the original; LCM's value."""
    discriminator: Literal["lora", "full", "unconditional", "none"] = "lora"
    """lora: teacher U-Net with LoRA on its decoder; full: all decoder weights; unconditional: lora without text and time; none."""
    adv_weight: float = 0.4
    """lambda of the hinge adversarial loss. Paper: 0.4."""
    adv_scale: Literal["fixed", "gradient"] = "fixed"
    """fixed: lambda times the loss (paper); gradient: lambda times the consistency loss's gradient norm at the student's output."""
    adv_fade: Literal["none", "margin"] = "none"
    """margin: the adversarial term is multiplied by half the margin by which D tells real from fake, at most 1, so that it does not push
    while D guesses."""
    adv_loss: Literal["hinge", "relu"] = "hinge"
    """Student's term: -D(fake) (hinge) or relu(1 - D(fake)) (PCM)."""
    disc_input: Literal["renoise", "clean", "target"] = "renoise"
    """Input of the discriminator. renoise: data and f, noised to tau. clean: both as they are, at the student's time t_n (two summaries
    of the paper). target: as renoise, with the EMA network's target for data."""
    tau_min: int = 0
    """Lowest level of re-noising."""
    tau_max: int = 999
    """Highest level. Not known of the original; flaws are fine detail, so a small level shows more of them."""
    adv_t_min: int = 0
    """Fakes made from t_n below this are left out of the adversarial loss: they are nearly the real image."""
    disc_rank: int = 64
    """Rank of the LoRA. 64 on attention, feed-forward and convolutions of SD 1.5's decoder is 3.65 %; paper: about 3.6 %."""
    disc_lr: float = 2e-5
    """AdamW learning rate of the discriminator. Paper: 2e-5."""
    disc_steps: int = 1
    """Updates of the discriminator per update of the student."""
    disc_every: int = 1
    """Updates of the student per round of the discriminator's updates."""
    disc_warmup: int = 0
    """Updates during which the discriminator learns but does not count in the student's loss."""

    def __post_init__(self) -> None:
        if self.lora_rank < 1:
            raise ValueError("need lora_rank >= 1")
        if not 1 <= self.h <= self.skip <= 999:
            raise ValueError("need 1 <= h <= skip <= 999")
        if not 0 <= self.w_min <= self.w_max:
            raise ValueError("need 0 <= w_min <= w_max")
        if self.order == 2 and (self.solver == "ddim" or self.h == 1):
            raise ValueError("order 2 needs solver er-sde or ode, and h of at least 2")
        if not 0 <= self.eta <= 1 or self.strength < 0:
            raise ValueError("need 0 <= eta <= 1 and strength >= 0")
        if not 0 <= self.tau_min <= self.tau_max <= 999:
            raise ValueError("need 0 <= tau_min <= tau_max <= 999")
        if not 0 <= self.adv_t_min <= 999:
            raise ValueError("need 0 <= adv_t_min <= 999")
        if not 0 <= self.ema < 1 or min(self.lr, self.disc_lr, self.huber_c) <= 0:
            raise ValueError("need 0 <= ema < 1 and positive lr, disc_lr and huber_c")
        if self.adv_weight < 0 or self.disc_rank < 1 or self.disc_steps < 1 or self.disc_warmup < 0:
            raise ValueError("need adv_weight >= 0, disc_rank >= 1, disc_steps >= 1 and disc_warmup >= 0")
        if self.disc_every < 1 or self.reuse < 1:
            raise ValueError("need disc_every >= 1 and reuse >= 1")
