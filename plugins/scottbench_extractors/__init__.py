"""The networks behind the metrics: Inception, anything of open_clip, and those with a protocol of their own. See docs/extractors.md."""

from __future__ import annotations

from scottbench import Extractor, hookimpl, lazy

BY_TAG = ("clean", "gigagan256", "tf1", "tm-aa", "open_clip")
"""Resize rules of a model of open_clip; "open_clip" goes by its tag or folder."""

STEIN = (
    "Stein et al. 2023, Exposing flaws of generative model evaluation metrics and their unfair treatment of diffusion models, "
    "arXiv 2306.04675")


@hookimpl
def register_extractors() -> list[Extractor]:
    """Register the extractors, the two oldest first."""
    return [
        Extractor(
            "inception", "InceptionV3 of 2015 in TorchScript, as clean-fid uses it: pool features (n,2048)",
            lazy("scottbench_extractors.inception:find"), lazy("scottbench_extractors.inception:open_inception"),
            weights="inception-2015-12-05.pt, 96 MB", licence="Apache-2.0",
            source="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/",
            paper="Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision, arXiv 1512.00567",
        ),
        Extractor(
            "open_clip", "a CLIP model of open_clip, by folder or by model and pretrained tag, with its text tower",
            lazy("scottbench_extractors.open_clip:find"), lazy("scottbench_extractors.open_clip:open_model"),
            reads="images+prompts", rules=BY_TAG, weights="a folder, or a safetensors file of the local hub cache",
            licence="of the weights that are named", source="https://github.com/mlfoundations/open_clip",
            paper="Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020",
        ),
        Extractor(
            "dinov2", "DINOv2 ViT-L/14 as FD-DINOv2 takes it: the class token (n,1024) at 224 pixels",
            lazy("scottbench_extractors.dinov2:find"), lazy("scottbench_extractors.dinov2:open_dinov2"),
            rules=("squash8", "clean"), defaults={"label": "DINOv2 ViT-L/14"},
            weights="facebook/dinov2-large: config.json, model.safetensors, 1.22 GB", licence="Apache-2.0",
            source="https://huggingface.co/facebook/dinov2-large",
            paper=STEIN,
        ),
        Extractor(
            "clip_l14_336", "OpenAI's CLIP ViT-L/14 at 336 pixels, as CMMD takes it: image features (n,768), not normalised",
            lazy("scottbench_extractors.open_clip:find"), lazy("scottbench_extractors.open_clip:open_model"),
            reads="images+prompts", rules=("open_clip", *BY_TAG[:-1]),
            defaults={"label": "CLIP ViT-L/14-336", "model": "ViT-L-14-336", "pretrained": "openai", "size": "1.71 GB"},
            weights="timm/vit_large_patch14_clip_336.openai: open_clip_model.safetensors, 1.71 GB", licence="MIT",
            source="https://huggingface.co/timm/vit_large_patch14_clip_336.openai",
            paper="Jayasumana et al. 2024, Rethinking FID: Towards a Better Evaluation Metric for Image Generation, arXiv 2401.09603",
        ),
        of_crops(),
    ]  # fmt: skip


def of_crops() -> Extractor:
    """Make the extractor of patch FID; a preset may give its rules to any other extractor of features too."""
    return Extractor(
        "patch", "InceptionV3 on a square of 299 pixels from each image, not scaled: for patch FID",
        lazy("scottbench_extractors.inception:find"), lazy("scottbench_extractors.inception:open_inception"),
        rules=("crop", "crop2x2", "crop3x3", "crop4x4"), weights="inception-2015-12-05.pt, 96 MB", licence="Apache-2.0",
        source="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/",
        paper="Lin et al. 2024, SDXL-Lightning: Progressive Adversarial Diffusion Distillation, arXiv 2402.13929",
    )  # fmt: skip
