"""Options of the metrics. They stand apart from the code, so that listing them imports no array library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BallOptions:
    """Options of coverage, precision, recall and density."""

    k: int = 5
    """The ball of a point reaches to its k-th nearest neighbour in its own set; 1 or more, below the number of images."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k must be at least 1")


@dataclass(frozen=True)
class TeacherOptions:
    """Options of FID-T: the teacher's cell that it compares with."""

    teacher: str = "ddim"
    """Method that samples the teacher itself, at the preset's guidance."""
    steps: int = 25
    """Its number of sampling steps."""
    seed: int = 0
    """Its seed."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.seed < 0:
            raise ValueError("steps must be at least 1 and seed at least 0")


@dataclass(frozen=True)
class KernelOptions:
    """Options of the kernel distance."""

    subsets: int = 0
    """0: one value from all images. Else the mean over so many random subsets, as clean-fid and torchmetrics have it (100)."""
    subset_size: int = 1000
    """Images of each side in a subset, at most all of them."""
    seed: int = 0
    """Seed of the random subsets."""
    scale: float = 1.0
    """The value is multiplied by this; papers print KID times 1000."""

    def __post_init__(self) -> None:
        if self.subsets < 0 or self.subset_size < 2:
            raise ValueError("subsets must be at least 0 and subset_size at least 2")
        if not self.scale > 0:
            raise ValueError("scale must be above 0")


@dataclass(frozen=True)
class VendiOptions:
    """Options of the Vendi score."""

    kernel: Literal["cosine", "rbf"] = "cosine"
    """Similarity of two images: cosine of their features, or exp(-|x - y|^2 / (2 width^2))."""
    q: float = 1.0
    """Order of the entropy, above 0: small orders count rare images, large ones frequent images."""
    width: float | None = None
    """Width of the RBF kernel, in feature units; none: the root of the mean squared distance of the cell's own images."""

    def __post_init__(self) -> None:
        if not self.q > 0:
            raise ValueError("q must be above 0")
        if self.width is not None and not self.width > 0:
            raise ValueError("width must be above 0")


@dataclass(frozen=True)
class ClipOptions:
    """Options of the CLIP score."""

    scale: float = 1.0
    """The cosine is multiplied by this: 1 raw, 100 as many papers print it (Hessel et al. take 2.5 and set negative ones to 0)."""

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError("scale must be above 0")


@dataclass(frozen=True)
class DistanceOptions:
    """Options of the diversity."""

    distance: Literal["cosine", "euclidean"] = "cosine"
    """Distance between two images' features: 1 - cosine, or the Euclidean one in feature units."""


@dataclass(frozen=True)
class GaussianOptions:
    """Options of CMMD."""

    sigma: float = 10.0
    """Width of the Gaussian kernel between features of length 1; the paper's is 10."""
    scale: float = 1000.0
    """The squared distance is multiplied by this; the paper's is 1000."""

    def __post_init__(self) -> None:
        if not self.sigma > 0 or not self.scale > 0:
            raise ValueError("sigma and scale must be above 0")


@dataclass(frozen=True)
class SlicedOptions:
    """Options of MIND."""

    projections: int = 1000
    """Number of random directions, the default of torch-fidelity."""
    seed: int = 2020
    """Seed of the directions, the default of torch-fidelity; all cells share them."""

    def __post_init__(self) -> None:
        if self.projections < 1:
            raise ValueError("projections must be at least 1")
        if self.seed < 0:
            raise ValueError("seed must be at least 0")
