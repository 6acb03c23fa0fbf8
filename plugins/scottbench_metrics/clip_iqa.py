"""CLIP-IQA: how much more an image is like "Good photo." than like "Bad photo." to CLIP (Wang et al. 2023), by torchmetrics.

The paper's network is CLIP's ResNet-50 without positions, which the package piq brings as pickled code. Here it is OpenAI's CLIP
ViT-L/14, one of those that torchmetrics names. torchmetrics has the prompts and the formula; its way to the network, through a processor
that scales pixels twice and outputs that transformers 5 changed, is replaced by the two adapters below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench import CellFeatures, Influence, NoOptions
from scottbench.metrics import score_column
from scottbench.models.extractors import CLIP_PIXELS, POSITIONS, OpenExtractor, Source, find_folder, normaliser, open_pretrained
from scottbench.models.importing import importing
from scottbench.stats.intervals import of_mean
from scottbench.store.assets import Needed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

ROLE = "clip_iqa"
FOLDER = "clip-vit-large-patch14"
FETCH = "hf download openai/clip-vit-large-patch14 config.json model.safetensors --local-dir {folder}"


def clip_iqa(cell: CellFeatures, options: NoOptions) -> float:
    """Average the probability of "Good photo." over the images, 0..1; neither prompts nor references enter."""
    return float(items(cell, options).mean())


def items(cell: CellFeatures, options: NoOptions) -> np.ndarray:
    """Return the score of each image, (n,) float64. Raises BadFeatures for what is no column of finite numbers."""
    return score_column(cell.generated[ROLE], ROLE)


def influence(cell: CellFeatures, options: NoOptions) -> Influence:
    """Compute the influence of every image: the items are independent."""
    return of_mean(items(cell, options))


def find(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Find the folder of CLIP in transformers' form. Raises MissingAsset with the line that fetches it, or DamagedAsset."""
    folder, digest = find_folder(spec, path, FOLDER, [Needed(Path("model.safetensors"), FETCH), Needed(Path("config.json"), FETCH)])
    return Source(ROLE, spec.get("label", folder.name), digest, folder)


def open_scorer(source: Source, device: str) -> OpenExtractor:
    """Open CLIP in float32 and hand it to torchmetrics. Raises DamagedAsset where weights are missing or of another shape."""
    import torch

    with importing():
        from torchmetrics.multimodal.clip_iqa import CLIPImageQualityAssessment
        from transformers import CLIPModel

    clip = open_pretrained(CLIPModel, source.path, POSITIONS)
    assess: Any = CLIPImageQualityAssessment
    # data_range = 1: pixels of 0..255 go to the adapter as they are
    metric = assess(model_name_or_path=lambda: (towers_of(clip), _Processor(clip.config.text_config)), data_range=1.0).to(device)

    def image_tower(batch: Tensor) -> Tensor:
        metric.reset()
        metric.update(batch)
        return torch.as_tensor(metric.compute()).reshape(-1, 1)

    return OpenExtractor(source, clip.config.vision_config.image_size, image_tower, None, None, device)


def towers_of(clip: Any) -> Any:
    """Wrap a CLIPModel in a torch module whose two towers give tensors in every version of transformers, as torchmetrics expects."""
    import torch

    class Towers(torch.nn.Module):
        """Both towers with their projections."""

        def __init__(self) -> None:
            super().__init__()
            self.clip = clip

        def get_text_features(self, tokens: Tensor, mask: Tensor) -> Tensor:
            """Give (N,d) features of (N,L) tokens; attention is causal, so that what follows the end token is not seen."""
            return clip.text_projection(clip.text_model(input_ids=tokens).pooler_output)

        def get_image_features(self, pixels: Tensor) -> Tensor:
            """Give (N,d) features of (N,3,S,S) normalised pixels."""
            return clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)

    return Towers()


class _Processor:
    """Tokens and pixels for CLIP, under the names by which torchmetrics asks for them."""

    def __init__(self, text: Any) -> None:
        self.length, self.words = text.max_position_embeddings, text.vocab_size

    def __call__(self, text: Sequence[str] = (), images: Sequence[Tensor] = (), **_: Any) -> dict[str, Tensor]:
        import torch

        if text:
            with importing():
                from open_clip.tokenizer import SimpleTokenizer

            tokens = SimpleTokenizer(context_length=self.length)(list(text))
            return {"input_ids": tokens, "attention_mask": (tokens > 0).long()}
        batch = torch.stack(list(images))
        return {"pixel_values": normaliser(*CLIP_PIXELS, str(batch.device))(batch)}
