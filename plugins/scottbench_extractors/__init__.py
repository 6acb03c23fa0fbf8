"""The networks behind the metrics: Inception, anything of open_clip, and those with a protocol of their own. See README.md."""

from __future__ import annotations

from scottbench import Extractor, hookimpl, lazy

BY_TAG = ("clean", "gigagan256", "tf1", "tm-aa", "open_clip")
"""Resize rules of a model of open_clip; "open_clip" goes by its tag or folder."""


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
            "cmmd", "CLIP ViT-L/14-336 of OpenAI, the network of the metric CMMD",
            lazy("scottbench_extractors.open_clip:find"), lazy("scottbench_extractors.open_clip:open_model"),
            reads="images+prompts", rules=("open_clip", *BY_TAG[:-1]),
            defaults={"model": "ViT-L-14-336", "pretrained": "openai", "label": "CLIP ViT-L/14-336", "size": "1.7 GB"},
            weights="a safetensors file of the local hub cache, 1.7 GB", licence="MIT", source="https://github.com/openai/CLIP",
            paper="Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020",
        ),
        Extractor(
            "patch", "InceptionV3 on a square of 299 pixels from each image, not scaled: for patch FID",
            lazy("scottbench_extractors.inception:find"), lazy("scottbench_extractors.inception:open_inception"),
            rules=("patch", "patch2x2", "patch3x3", "patch4x4"), weights="inception-2015-12-05.pt, 96 MB", licence="Apache-2.0",
            source="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/",
            paper="Lin et al. 2024, SDXL-Lightning: Progressive Adversarial Diffusion Distillation, arXiv 2402.13929",
        ),
    ]  # fmt: skip
