"""Preference models and an aesthetic predictor: a score for each generated image, and its mean as a metric. See docs/extractors.md."""

from __future__ import annotations

from scottbench import Extractor, Metric, hookimpl, lazy
from scottbench_scorers.mean import MeanScore

XU = "Xu et al. 2023, ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation, arXiv 2304.05977"
KIRSTAIN = "Kirstain et al. 2023, Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation, arXiv 2305.01569"
WU = "Wu et al. 2023, Human Preference Score v2: A Solid Benchmark for Evaluating Human Preferences, arXiv 2306.09341"
SCHUHMANN = "Schuhmann 2022, improved-aesthetic-predictor (github.com/christophschuhmann/improved-aesthetic-predictor)"


def scorer(name: str, summary: str, label: str, **fields: str) -> Extractor:
    """Make an extractor of scores from the module of its name: its `find` and its `open_scorer`."""
    module = f"scottbench_scorers.{name}"
    return Extractor(
        name, summary, lazy(f"{module}:find"), lazy(f"{module}:open_scorer"), gives="score", rules=("open_clip", "clean"),
        defaults={"label": label}, **fields)


@hookimpl
def register_extractors() -> list[Extractor]:
    """Register the four scorers."""
    return [
        scorer(
            "image_reward", "ImageReward 1.0 (BLIP): how well people would like an image of its prompt", "ImageReward-v1.0",
            reads="images+prompts", weights="ImageReward.safetensors, 1.79 GB, made of ImageReward.pt; vocab.txt", licence="Apache-2.0",
            source="https://huggingface.co/THUDM/ImageReward", paper=XU,
        ),
        scorer(
            "pick_score", "PickScore v1 (CLIP-H): how well people would like an image of its prompt", "PickScore_v1",
            reads="images+prompts", weights="yuvalkirstain/PickScore_v1: config.json, model.safetensors, 3.94 GB", licence="MIT",
            source="https://huggingface.co/yuvalkirstain/PickScore_v1", paper=KIRSTAIN,
        ),
        scorer(
            "hpsv2", "HPSv2.1 (CLIP ViT-H-14 of open_clip): how well people would like an image of its prompt", "HPSv2.1",
            reads="images+prompts", weights="HPS_v2.1.safetensors, 1.97 GB, made of HPS_v2.1_compressed.pt", licence="Apache-2.0",
            source="https://huggingface.co/xswu/HPSv2", paper=WU,
        ),
        scorer(
            "aesthetic", "LAION aesthetic predictor v2 on CLIP ViT-L/14: how well an image looks, without its prompt",
            "LAION aesthetic v2",
            reads="images", weights="sac+logos+ava1-l14-linearMSE.safetensors, 4 MB, made of the .pth; CLIP ViT-L/14, 1.71 GB",
            licence="Apache-2.0 (predictor), MIT (CLIP)", source="https://github.com/christophschuhmann/improved-aesthetic-predictor",
            paper=SCHUHMANN,
        ),
    ]  # fmt: skip


@hookimpl
def register_metrics() -> list[Metric]:
    """Register the mean of each scorer as a metric of the same name."""
    return [
        mean_score("image_reward", "ImageReward", "mean ImageReward of image and prompt", XU),
        mean_score("pick_score", "PickScore", "mean PickScore of image and prompt", KIRSTAIN, 2),
        mean_score("hpsv2", "HPSv2.1", "mean HPSv2.1 of image and prompt, a cosine", WU, 4),
        mean_score("aesthetic", "Aesthetic", "mean LAION aesthetic score of an image, about 1 to 10", SCHUHMANN),
    ]


def mean_score(name: str, label: str, summary: str, paper: str, digits: int = 3) -> Metric:
    """Make the metric of a scorer: the mean over items, with items and influence, so that intervals and paired tests are exact."""
    score = MeanScore(name)
    return Metric(
        name, summary, score.value, True, features=name, label=label, digits=digits, paper=paper, influence=score.influence,
        items=score.items, reference=False)
