"""Metrics as plain functions: arrays in, a frozen record out. Runs use them through plug-ins, and anyone may call them.

    from scottbench.metrics import frechet_distance
    frechet_distance(real, generated).value          # (m, d) and (n, d) float features of the two sets

Frechet distance (FID): frechet_distance, frechet_influence; GaussianFit factors a reference once for many comparisons
Frechet distance of crops (patch FID): patch_distance, patch_influence
Kernel distance (KID): kernel_distance, kernel_influence
Gaussian kernel distance (CMMD): gaussian_distance, gaussian_influence
Sliced Wasserstein distance (MIND): sliced_distance
Precision, recall, density, coverage: prdc; coverage_influence, precision_influence, recall_influence, density_influence
Vendi score: vendi_score, vendi_influence
CLIP score: clip_score
Diversity within a prompt: pairwise_distance, ms_ssim_diversity
Structural similarity: ms_ssim
Min-max harmonic mean over a sweep: mmhm
Scores of an extractor, checked: score_column
Errors and warnings: BadFeatures, NoInfluence, RankLimited

An influence (`scottbench.Influence`) says how much each item moves the value: the value of other items is about the value plus the
mean of their influences. Importing this package imports no array library: the file of a function is imported when it is first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scottbench.metrics.ball_counts import PRDC as PRDC
    from scottbench.metrics.ball_counts import Balls as Balls
    from scottbench.metrics.ball_counts import balls as balls
    from scottbench.metrics.ball_counts import prdc as prdc
    from scottbench.metrics.ball_influence import BallLoss as BallLoss
    from scottbench.metrics.ball_influence import ball_loss as ball_loss
    from scottbench.metrics.ball_influence import coverage_influence as coverage_influence
    from scottbench.metrics.ball_influence import density_influence as density_influence
    from scottbench.metrics.ball_influence import precision_influence as precision_influence
    from scottbench.metrics.ball_influence import recall_influence as recall_influence
    from scottbench.metrics.ball_parts import BallParts as BallParts
    from scottbench.metrics.ball_parts import balls_of_parts as balls_of_parts
    from scottbench.metrics.checks import BadFeatures as BadFeatures
    from scottbench.metrics.checks import score_column as score_column
    from scottbench.metrics.clip import ClipScore as ClipScore
    from scottbench.metrics.clip import clip_score as clip_score
    from scottbench.metrics.diversity import Diversity as Diversity
    from scottbench.metrics.diversity import pairwise_distance as pairwise_distance
    from scottbench.metrics.frechet import FrechetDistance as FrechetDistance
    from scottbench.metrics.frechet import GaussianFit as GaussianFit
    from scottbench.metrics.frechet import RankLimited as RankLimited
    from scottbench.metrics.frechet import frechet_distance as frechet_distance
    from scottbench.metrics.frechet_derivative import NoInfluence as NoInfluence
    from scottbench.metrics.frechet_derivative import frechet_influence as frechet_influence
    from scottbench.metrics.gaussian_kernel import GaussianSums as GaussianSums
    from scottbench.metrics.gaussian_kernel import gaussian_distance as gaussian_distance
    from scottbench.metrics.gaussian_kernel import gaussian_influence as gaussian_influence
    from scottbench.metrics.gaussian_kernel import gaussian_sums as gaussian_sums
    from scottbench.metrics.kernel import KernelDistance as KernelDistance
    from scottbench.metrics.kernel import KernelSums as KernelSums
    from scottbench.metrics.kernel import kernel_distance as kernel_distance
    from scottbench.metrics.kernel import kernel_influence as kernel_influence
    from scottbench.metrics.kernel import kernel_sums as kernel_sums
    from scottbench.metrics.nearest import Neighbours as Neighbours
    from scottbench.metrics.nearest import nearest_neighbours as nearest_neighbours
    from scottbench.metrics.patches import patch_distance as patch_distance
    from scottbench.metrics.patches import patch_influence as patch_influence
    from scottbench.metrics.sliced import SlicedDistance as SlicedDistance
    from scottbench.metrics.sliced import sliced_distance as sliced_distance
    from scottbench.metrics.ssim import ms_ssim as ms_ssim
    from scottbench.metrics.ssim import ms_ssim_diversity as ms_ssim_diversity
    from scottbench.metrics.sweep import MinMaxHarmonicMean as MinMaxHarmonicMean
    from scottbench.metrics.sweep import mmhm as mmhm
    from scottbench.metrics.vendi import VendiScore as VendiScore
    from scottbench.metrics.vendi import vendi_influence as vendi_influence
    from scottbench.metrics.vendi import vendi_score as vendi_score

_FILES = """
ball_counts: Balls PRDC balls prdc
ball_influence: BallLoss ball_loss coverage_influence density_influence precision_influence recall_influence
ball_parts: BallParts balls_of_parts
checks: BadFeatures score_column
clip: ClipScore clip_score
diversity: Diversity pairwise_distance
frechet: FrechetDistance GaussianFit RankLimited frechet_distance
frechet_derivative: NoInfluence frechet_influence
gaussian_kernel: GaussianSums gaussian_distance gaussian_influence gaussian_sums
kernel: KernelDistance KernelSums kernel_distance kernel_influence kernel_sums
nearest: Neighbours nearest_neighbours
patches: patch_distance patch_influence
sliced: SlicedDistance sliced_distance
ssim: ms_ssim ms_ssim_diversity
sweep: MinMaxHarmonicMean mmhm
vendi: VendiScore vendi_influence vendi_score
"""
"""File: the public names that it defines. The block for type checkers above says the same, and a test compares the two. This is one text
because the host must not hold the name of a metric as a string, and some files are called like metrics."""
_MODULE = {
    name: f"scottbench.metrics.{file}"
    for file, _, names in (line.partition(":") for line in _FILES.splitlines()) for name in names.split()}  # fmt: skip
__all__ = sorted(_MODULE)

if not TYPE_CHECKING:  # a type checker that saw this function would believe in any name

    def __getattr__(name: str) -> object:
        if name not in _MODULE:
            raise AttributeError(f"module 'scottbench.metrics' has no attribute '{name}'. It has: {', '.join(__all__)}")
        found = getattr(importlib.import_module(_MODULE[name]), name)
        globals()[name] = found  # the next look-up does not come here
        return found


def __dir__() -> list[str]:
    return __all__
