"""Any CLIP model of open_clip, from a folder or by its tag, with both towers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.extractors import CLIP_PIXELS, OpenExtractor, Source, normaliser, weights_digest
from scottbench.models.images import MODES, Fit
from scottbench.models.importing import importing
from scottbench.store.assets import Needed, bytes_in_words, file_digest, require, verify_folder


def find(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Find a folder of open_clip, or the weights of a tag in the local hub cache. Raises MissingAsset or DamagedAsset, UsageError where
    neither is named."""
    if "folder" in spec:
        folder = path(spec["folder"])
        label = spec.get("label", folder.name)
        require(f"extractor '{label}'", [Needed(folder / "open_clip_config.json")])
        verify_folder(folder, f"extractor '{label}'")
        if not list(folder.glob("*.safetensors")):
            raise MissingAsset(f"extractor '{label}' cannot be used:\n  missing {folder}/*.safetensors (its weights)")
        return Source("open_clip", label, weights_digest(folder), folder)
    if "model" not in spec or "pretrained" not in spec:
        raise UsageError("an open_clip extractor needs 'folder', or 'model' and 'pretrained'")
    label = spec.get("label", f"{spec['model']} {spec['pretrained']}")
    (weights, fetch), digest = _cached_weights(spec, label), spec.get("sha256")
    require(f"extractor '{label}'", [Needed(weights, f"{fetch} --force-download", spec.get("bytes"), digest)])
    form = tag_form(spec["model"], spec["pretrained"], spec.get("resize", "clean"))
    digest = file_digest(weights) if digest is None else digest
    return Source("open_clip", label, digest, weights, spec["model"], spec["pretrained"], form=form)


OPENAI: dict[str, Any] = {
    "mean": CLIP_PIXELS[0], "std": CLIP_PIXELS[1], "resize_mode": "shortest",
    "interpolation": "bicubic", "quick_gelu": False,
}  # fmt: skip
"""OpenAI's values, which most tags of open_clip's table have."""


def tag_config(model: str, pretrained: str) -> dict[str, Any]:
    """Return what open_clip's table says of a weights tag: "mean", "std", "resize_mode", "interpolation", "quick_gelu"."""
    from open_clip.pretrained import get_pretrained_cfg

    found = get_pretrained_cfg(model, pretrained)
    return {key: usual if found.get(key) is None else found[key] for key, usual in OPENAI.items()}


def tag_form(model: str, pretrained: str, rule: str) -> str:
    """Say what a weights tag has that is not usual: "mean 0.5 0.5 0.5, std 0.5 0.5 0.5, squash"; "" for OpenAI's values and GELU.

    rule: the resize rule; only "open_clip" goes by the tag.
    """
    parts: list[str] = []
    for key, value in tag_config(model, pretrained).items():
        if key in ("resize_mode", "interpolation") and rule != "open_clip":
            continue
        if isinstance(value, bool):
            parts += [key] if value else []
        elif isinstance(value, str):
            parts += [value] if value != OPENAI[key] else []
        elif tuple(value) != OPENAI[key]:
            parts.append(f"{key} {' '.join(f'{number:g}' for number in value)}")
    return ", ".join(parts)


def _cached_weights(spec: dict[str, Any], label: str) -> tuple[Path, str]:
    """The safetensors file of a pretrained tag in the local hub cache, and the line that fetches it. Raises MissingAsset; pickled
    .bin weights are never read."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME
    from open_clip.pretrained import get_pretrained_cfg

    config = get_pretrained_cfg(spec["model"], spec["pretrained"])
    if not config or not config.get("hf_hub"):
        raise UsageError(f"open_clip knows no hub weights '{spec['pretrained']}' of model '{spec['model']}'.")
    repository, _, name = config["hf_hub"].rpartition("/")
    name = spec.get("file", Path(name).stem + ".safetensors" if name else HF_SAFE_WEIGHTS_NAME)
    revision = spec.get("revision")
    fetch = " ".join(["hf download", repository, *([] if revision is None else ["--revision", revision]), name])
    found = try_to_load_from_cache(repository, name, revision=revision)
    if isinstance(found, str):
        return Path(found), fetch
    size = spec.get("size", bytes_in_words(spec["bytes"]) if "bytes" in spec else "size unknown")
    raise MissingAsset(f"extractor '{label}' cannot be used:\n  missing {repository}/{name} ({size})  fetch: {fetch}")


def open_model(source: Source, device: str) -> OpenExtractor:
    """Open a model of open_clip with its mean, deviation and tokenizer. Raises RuntimeError and the like for weights of another form."""
    with importing():
        import open_clip

    name = source.model if source.model is not None else f"local-dir:{source.path}"
    # weights given as a file lose what the table says of their tag: it is put back here
    own: dict[str, Any] = {}
    if source.model is not None and source.pretrained is not None:
        table = tag_config(source.model, source.pretrained)
        own = {"pretrained": str(source.path), "force_quick_gelu": table.pop("quick_gelu"), "force_preprocess_cfg": table}
    clip = open_clip.create_model(name, device=device, precision="fp32", require_pretrained=True, **own)
    clip.requires_grad_(False).eval()
    preprocess = clip.visual.preprocess_cfg
    fit = _fit(preprocess, source)
    normal = normaliser(preprocess["mean"], preprocess["std"], device)

    def image_tower(batch: Tensor) -> Tensor:
        return clip.encode_image(normal(batch))

    size, tokenize = _side(preprocess["size"], source), open_clip.get_tokenizer(name)
    return OpenExtractor(source, size, image_tower, clip.encode_text, tokenize, device, fit)


def _fit(preprocess: dict[str, Any], source: Source) -> Fit:
    """The way in which open_clip fits pictures to a model. Raises UsageError for one that is not known, where the rule asks for it."""
    fit = Fit(preprocess["resize_mode"], preprocess["interpolation"], preprocess.get("fill_color", 0))
    if source.resize == "open_clip" and (fit.mode not in MODES or fit.interpolation not in ("bicubic", "bilinear")):
        raise UsageError(
            f"extractor '{source.label}' was trained with another resize rule ({fit.mode}, {fit.interpolation}). Use resize = \"clean\".")
    return fit


def _side(size: int | Sequence[int], source: Source) -> int:
    sides = (size,) if isinstance(size, int) else tuple(size)
    if len(set(sides)) != 1:
        raise DamagedAsset(f"{source.path}: input size {sides} is not square")
    return sides[0]
