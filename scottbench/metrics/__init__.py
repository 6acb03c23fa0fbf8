"""Metrics as pure functions: arrays in, frozen records out. For runs, plug-ins register them; anyone may call them.

    from scottbench.metrics import frechet_distance
    frechet_distance(real, generated).value          # (n, d) float features of the two sets

Frechet distance: frechet_distance, GaussianFit (a reference that is factored once), frechet_influence
Kernel distance (KID): kernel_distance, kernel_influence
Precision, recall, density, coverage: prdc, and coverage_influence, precision_influence, recall_influence, density_influence
Vendi score: vendi_score, vendi_influence.   CLIP score: clip_score
Diversity within a prompt: pairwise_distance, ms_ssim_diversity.   Structural similarity: ms_ssim
Min-max harmonic mean over a sweep: mmhm
Errors and warnings: BadFeatures, NoInfluence, RankLimited

An influence (scottbench.registry.nouns.Influence) says how much each item moves the value: value(resampled) ~ value + the mean of the drawn
items' influences. Importing this package imports no array library; a function's own file is imported when it is first named.
"""

from __future__ import annotations

import importlib

_FILES = """
ball_counts: prdc PRDC balls Balls
ball_influence: ball_loss coverage_influence density_influence precision_influence recall_influence
clip: clip_score ClipScore
diversity: pairwise_distance Diversity
frechet: frechet_distance FrechetDistance GaussianFit RankLimited
frechet_derivative: frechet_influence NoInfluence
kernel: kernel_distance kernel_influence kernel_sums KernelDistance
nearest: nearest_neighbours Neighbours
ssim: ms_ssim ms_ssim_diversity
sweep: mmhm MinMaxHarmonicMean
vendi: vendi_score vendi_influence VendiScore
"""
_WHERE = {
    name: f"scottbench.metrics.{file}" for file, _, names in (line.partition(":") for line in _FILES.split("\n")) for name in names.split()
}
_WHERE["BadFeatures"] = "scottbench.metrics.checks"
__all__ = sorted(_WHERE)


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'scottbench.metrics' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
