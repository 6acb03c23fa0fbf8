"""Metrics on features: fid, coverage, precision, recall, density, clip_score. One file each; see README.md."""

from __future__ import annotations

from scottbench.hookspecs import hookimpl
from scottbench.nouns import Metric, lazy
from scottbench_metrics.options import BallOptions

NAEEM = "Naeem et al. 2020, Reliable Fidelity and Diversity Metrics for Generative Models, arXiv 2002.09797"
KYNKAANNIEMI = "Kynkaanniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative Models, arXiv 1904.06991"
HEUSEL = "Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, arXiv 1706.08500"
HESSEL = "Hessel et al. 2021, CLIPScore: A Reference-free Evaluation Metric for Image Captioning, arXiv 2104.08718"


@hookimpl
def register_metrics() -> list[Metric]:
    def of_balls(name: str, summary: str, paper: str) -> Metric:
        return Metric(
            name,
            summary,
            lazy(f"scottbench_metrics.{name}:{name}"),
            higher_is_better=True,
            label=name.capitalize(),
            options=BallOptions,
            paper=paper,
        )

    return [
        Metric(
            "fid",
            "Frechet distance between Gaussian fits of image features",
            lazy("scottbench_metrics.fid:fid"),
            higher_is_better=False,
            label="FID",
            paper=HEUSEL,
        ),
        of_balls("coverage", "share of reference images with a generated image among their k nearest", NAEEM),
        of_balls("precision", "share of generated images inside the reference's k-NN balls", KYNKAANNIEMI),
        of_balls("recall", "share of reference images inside the generated images' k-NN balls", KYNKAANNIEMI),
        of_balls("density", "number of reference k-NN balls around a generated image, per k", NAEEM),
        Metric(
            "clip_score",
            "mean cosine between image and prompt features",
            lazy("scottbench_metrics.clip_score:clip_score"),
            higher_is_better=True,
            features="clip",
            label="CLIP score",
            paper=HESSEL,
        ),
    ]
