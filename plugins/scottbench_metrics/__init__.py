"""Metrics on features and images; one file each, over the array functions of scottbench.metrics. See README.md."""

from __future__ import annotations

from typing import Any

from scottbench import Extractor, Metric, hookimpl, lazy
from scottbench_metrics.options import (
    BallOptions,
    ClipOptions,
    DistanceOptions,
    GaussianOptions,
    KernelOptions,
    SlicedOptions,
    TeacherOptions,
    VendiOptions,
)

NAEEM = "Naeem et al. 2020, Reliable Fidelity and Diversity Metrics for Generative Models, arXiv 2002.09797"
KYNKAANNIEMI = "Kynkaanniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative Models, arXiv 1904.06991"
HEUSEL = "Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, arXiv 1706.08500"
BINKOWSKI = "Binkowski et al. 2018, Demystifying MMD GANs, arXiv 1801.01401"
HESSEL = "Hessel et al. 2021, CLIPScore: A Reference-free Evaluation Metric for Image Captioning, arXiv 2104.08718"
FRIEDMAN = "Friedman & Dieng 2023, The Vendi Score: A Diversity Evaluation Metric for Machine Learning, arXiv 2210.02410"
STEIN = "Stein et al. 2023, Exposing Flaws of Generative Model Evaluation Metrics and Their Unfair Treatment, arXiv 2306.04675"
JAYASUMANA = "Jayasumana et al. 2024, Rethinking FID: Towards a Better Evaluation Metric for Image Generation, arXiv 2401.09603"
BERTHET = "Berthet et al. 2026, MIND: Monge Inception Distance for Generative Models Evaluation, arXiv 2605.06797"
LIN = "Lin et al. 2024, SDXL-Lightning: Progressive Adversarial Diffusion Distillation, arXiv 2402.13929"
WANG = "Wang et al. 2023, Exploring CLIP for Assessing the Look and Feel of Images, arXiv 2207.12396"
ZHANG = "Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, arXiv 1801.03924"
ODENA = "Odena et al. 2017, Conditional Image Synthesis with Auxiliary Classifier GANs, arXiv 1610.09585"


def metric(name: str, label: str, summary: str, paper: str, higher_is_better: bool = True, **fields: Any) -> Metric:
    """Make a Metric from the file of its name: its function of the same name, its `influence` and, if it is a mean, its `items`.

    is_mean=False: the file has no `items`. has_influence=False: it has no `influence`, and intervals come from half-sampling. For k-NN
    counts the leave-one-out influence overstates the error, by 2.6 to 3.6 times on normal features (n = 300, d = 32, 60 draws).
    """
    file = f"scottbench_metrics.{name}"
    if fields.pop("is_mean", True):
        fields["items"] = lazy(f"{file}:items")
    if fields.pop("has_influence", True):
        fields["influence"] = lazy(f"{file}:influence")
    return Metric(name, summary, lazy(f"{file}:{name}"), higher_is_better, label=label, paper=paper, **fields)


@hookimpl
def register_metrics() -> list[Metric]:
    """Register the metrics, in the order of the README's table."""
    return [*cell_metrics(), *further_metrics(), *seed_metrics()]


@hookimpl
def register_extractors() -> list[Extractor]:
    """Register the network of CLIP-IQA."""
    return [
        Extractor(
            "clip_iqa", "CLIP-IQA by torchmetrics on CLIP ViT-L/14: the probability of a good photo, without its prompt",
            lazy("scottbench_metrics.clip_iqa:find"), lazy("scottbench_metrics.clip_iqa:open_scorer"),
            gives="score", rules=("open_clip", "clean"), defaults={"label": "CLIP ViT-L/14"},
            weights="openai/clip-vit-large-patch14: config.json, model.safetensors, 1.71 GB", licence="MIT",
            source="https://huggingface.co/openai/clip-vit-large-patch14", paper=WANG,
        ),
    ]  # fmt: skip


def cell_metrics() -> list[Metric]:
    """Make the metrics of one cell: one method, number of steps and seed."""
    share, ball = (0.0, 1.0), BallOptions
    return [
        metric("fid", "FID", "Frechet distance between Gaussian fits of image features", HEUSEL, False, is_mean=False, bounds=(0.0, None)),
        metric(
            "fid_t", "FID-T", "Frechet distance of image features to those of the teacher's images of the same prompts", HEUSEL, False,
            is_mean=False, bounds=(0.0, None), options=TeacherOptions, teacher=lazy("scottbench_metrics.fid_t:teacher"),
        ),
        metric(
            "kid", "KID", "unbiased squared MMD of a cubic kernel on image features", BINKOWSKI, False,
            is_mean=False, digits=5, options=KernelOptions,
        ),
        metric(
            "coverage", "Coverage", "share of reference images whose k-NN ball holds a generated image", NAEEM,
            options=ball, bounds=share, has_influence=False,
        ),
        metric(
            "precision", "Precision", "share of generated images inside the reference's k-NN balls", KYNKAANNIEMI,
            options=ball, bounds=share, has_influence=False,
        ),
        metric(
            "recall", "Recall", "share of reference images inside the generated images' k-NN balls", KYNKAANNIEMI,
            options=ball, bounds=share, has_influence=False,
        ),
        metric(
            "density", "Density", "number of reference k-NN balls around a generated image, per k", NAEEM, options=ball, bounds=(0.0, None)
        ),
        metric(
            "vendi", "Vendi", "effective number of different generated images", FRIEDMAN,
            is_mean=False, digits=2, options=VendiOptions, bounds=(1.0, None), reference=False,
        ),
        metric(
            "clip_score", "CLIP score", "mean cosine between image and prompt features", HESSEL, features="clip", options=ClipOptions,
            reference=False,
        ),
    ]  # fmt: skip


def further_metrics() -> list[Metric]:
    """Make the metrics of one cell that papers print beside FID; docs/metrics-more.md tells of them."""
    distance: dict[str, Any] = {"higher_is_better": False, "is_mean": False, "bounds": (0.0, None)}
    return [
        metric("fd_dinov2", "FD-DINOv2", "Frechet distance between Gaussian fits of DINOv2 features", STEIN, features="dinov2", **distance),
        metric(
            "cmmd", "CMMD", "squared MMD of a Gaussian kernel on CLIP ViT-L/14-336 features of unit length", JAYASUMANA,
            features="clip_l14_336", options=GaussianOptions, **distance,
        ),
        metric("mind", "MIND", "sliced Wasserstein distance between image features", BERTHET, options=SlicedOptions, **distance),
        metric("patch_fid", "Patch FID", "Frechet distance between crops that are not scaled down", LIN, features="patch", **distance),
        metric(
            "clip_iqa", "CLIP-IQA", "mean probability of \"Good photo.\" beside \"Bad photo.\" to CLIP", WANG,
            features="clip_iqa", bounds=(0.0, 1.0), reference=False,
        ),
    ]  # fmt: skip


def seed_metrics() -> list[Metric]:
    """Make the metrics of several seeds: how alike the images of one prompt are."""
    return [
        metric(
            "diversity", "Diversity", "mean feature distance between images of one prompt at several seeds", "",
            scope="seeds", options=DistanceOptions, bounds=(0.0, None), reference=False,
        ),
        metric(
            "ms_ssim", "MS-SSIM", "mean structural similarity of images of one prompt at several seeds", ODENA, False,
            scope="seeds", features="", bounds=(0.0, 1.0), reference=False,
        ),
        metric(
            "lpips", "LPIPS", "mean learned perceptual distance of images of one prompt at several seeds", ZHANG,
            scope="seeds", features="", bounds=(0.0, None), reference=False,
        ),
    ]  # fmt: skip
