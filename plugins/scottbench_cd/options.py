"""Options of CD: of its trainer and of its sampler."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SamplerOptions:
    """Options of methods cd and lcm."""

    skip: int = 20
    """Spacing of the grid that the student was trained on. Not named: what its student.json says, else this."""

    def __post_init__(self) -> None:
        if self.skip < 1:
            raise ValueError("skip must be at least 1")


@dataclass(frozen=True)
class CDOptions:
    """Options of trainer cd."""

    variant: Literal["full", "lora"] = "full"
    """full: a copy of the U-Net with the guidance as an input; lora: LCM-LoRA, guidance baked in, sampled with guidance 1."""
    lora_rank: int = 64
    """Rank of variant lora. LCM-LoRA: 64, on every linear map and convolution of the blocks (7.8 % of SD 1.5)."""
    skip: int = 20
    """Skipping step k: the teacher's DDIM step goes from t to max(t - k, 0). LCM: 20."""
    w_min: float = 2.0
    """Lower end of the guidance w = s - 1 drawn in training. LCM paper: 2."""
    w_max: float = 14.0
    """Upper end. LCM paper: 14. Equal to w_min: one guidance, baked in; the student is sampled with guidance 1."""
    w_start: Literal["random", "zero"] = "random"
    """Start of the map of the guidance embedding: random (LCM), or zero, from which it hardly learns at a small learning rate."""
    weight: Literal["one", "alpha", "snr-clipped"] = "one"
    """Weight lambda(t) of the loss. one: LCM. alpha: alpha_t, which evens out the gradient over t. snr-clipped: min(SNR, 5) / 5."""
    lr: float = 1e-6
    """AdamW learning rate. LCM's scripts: 1e-6 for the full U-Net, 1e-4 for LoRA."""
    ema: float = 0.95
    """Decay of the target network theta_minus. Variant lora has none: its target is the student itself, as in LCM-LoRA."""
    huber: Literal["element", "norm"] = "element"
    """Pseudo-Huber of each element (LCM) or of each sample's L2 norm (improved consistency training)."""
    huber_c: float = 1e-3
    """The c of sqrt(d^2 + c^2) - c."""

    def __post_init__(self) -> None:
        if self.skip < 1 or self.lora_rank < 1:
            raise ValueError("skip and lora_rank must be at least 1")
        if not 0 <= self.w_min <= self.w_max:
            raise ValueError("need 0 <= w_min <= w_max")
        if not 0 <= self.ema < 1 or self.lr <= 0 or self.huber_c <= 0:
            raise ValueError("need 0 <= ema < 1, lr > 0 and huber_c > 0")
