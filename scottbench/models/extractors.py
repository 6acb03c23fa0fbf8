"""Images and prompts to features, once per extractor, shared by all metrics of a run.

A named resize rule (scottbench/models/images.py) to the extractor's input size, then the extractor's own mean and standard deviation.
With the rule "clean", `extractor.network` and `extractor.resize` are a custom feature extractor of clean-fid. Weights come from a
local folder or a local cache; nothing here opens a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.images import MODES, RULES, USUAL, Fit, resize
from scottbench.models.importing import importing
from scottbench.store.assets import Needed, cache_dir, file_digest, require, verify_folder
from scottbench.text import bytes_in_words, one_line

BATCH = 64
"""Images per forward pass. Fixed: features must not depend on --batch-size."""
INCEPTION = Needed(
    Path("inception-2015-12-05.pt"),
    "curl -L --create-dirs -o {path} https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    95_607_719,
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)
"""The one InceptionV3 that clean-fid uses (TorchScript); pinned, because TorchScript is code."""


@dataclass(frozen=True)
class Source:
    """An extractor that was found and checked, not yet opened."""

    kind: str
    label: str
    digest: str
    """sha256 hex of its weights (and config)."""
    path: Path
    """A folder, or a weights file."""
    model: str | None = None
    """open_clip's name of the architecture, where `path` is a weights file."""
    pretrained: str | None = None
    """open_clip's tag of the weights, where `path` is a weights file."""
    resize: str = "clean"
    """Name of the resize rule, a key of `scottbench.models.images.RULES`."""
    prefix: str = ""
    """Put before every prompt, with a blank between."""
    form: str = ""
    """Mean, std, resize mode and activation of the weights' tag in open_clip's table, where they are not usual; "" where all are."""

    @property
    def papers(self) -> list[str]:
        """List what a fingerprint says of it: label, model and weights tag, form, digest, rule, prefix."""
        tag = [] if self.model is None else [f"{self.model}/{self.pretrained}"]
        prefix = [f"prefix '{self.prefix}'"] if self.prefix else []
        form = [self.form] if self.form else []
        return [f"{self.label} {self.digest[:8]}", *tag, *form, f"resize {self.resize}", *prefix]


@dataclass
class Extractor:
    """An opened extractor. The two towers are plain attributes, so that a caller may wrap them with a clock."""

    source: Source
    size: int
    """Input height and width S in pixels."""
    image_tower: Callable[[Tensor], Tensor]
    """(N,3,S,S) float32 0..255 -> (N,d) float32, not normalised."""
    text_tower: Callable[[Tensor], Tensor] | None
    """(N,L) int64 tokens -> (N,d) float32, not normalised; None without a text tower."""
    tokenize: Callable[[list[str]], Tensor] | None
    device: str = "cpu"
    fit: Fit = USUAL
    """How its own rule, "open_clip", fits pictures."""

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resize (H,W,3) uint8 to (S,S,3) float32 0..255 by the source's rule."""
        return resize(image, self.size, self.source.resize, self.fit)

    @torch.inference_mode()
    def network(self, batch: Tensor) -> Tensor:
        """Run the image tower: (N,3,S,S) float32 0..255 -> (N,d) float32. clean-fid calls this a custom feature extractor."""
        return self.image_tower(batch.to(self.device))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Resize images (N,H,W,3) uint8, `BATCH` at a time, and give their features (N,d) float32."""
        parts = []
        for start in range(0, len(images), BATCH):
            resized = np.stack([self.resize(image) for image in images[start : start + BATCH]])
            parts.append(self.network(torch.from_numpy(resized).permute(0, 3, 1, 2)).cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def text_features(self, prompts: Sequence[str]) -> np.ndarray:
        """Give features (n,d) float32 of n prompts, the prefix put before each.

        The end token of a prompt that is too long is kept, since CLIP pools on it. Raises TypeError without a text tower.
        """
        if self.text_tower is None or self.tokenize is None:
            raise TypeError(f"extractor '{self.source.label}' has no text tower")
        texts = [f"{self.source.prefix} {prompt}" if self.source.prefix else prompt for prompt in prompts]
        batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return torch.cat([self.text_tower(self.tokenize(batch).to(self.device)) for batch in batches]).cpu().numpy()


def find_extractor(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Locate and digest the extractor of a preset's [extractors.x] table; `path` resolves its relative paths.

    Raises MissingAsset or DamagedAsset naming file, size and the line that fetches it; UsageError for an unknown kind or rule.
    """
    kind, rule = spec.get("kind"), spec.get("resize", "clean")
    if kind not in ("inception", "open_clip"):
        raise UsageError(f"extractor kind '{kind}' is unknown; known: open_clip, inception")
    known = [name for name in RULES if name != "open_clip" or kind == "open_clip"]
    if rule not in known:
        raise UsageError(f"resize rule '{rule}' of an extractor of kind '{kind}' is unknown; known: {', '.join(known)}")
    if kind == "inception" and "prefix" in spec:
        raise UsageError("an extractor of kind 'inception' reads no prompts and takes no 'prefix'.")
    found = _find_inception(spec) if kind == "inception" else _find_open_clip(spec, path)
    return replace(found, resize=rule, prefix=" ".join(spec.get("prefix", "").split()))


def open_extractor(source: Source, device: str = "cpu") -> Extractor:
    """Load the network of a Source in float32, ready to use. Raises DamagedAsset if its files cannot be read."""
    from safetensors import SafetensorError

    try:
        return _open_inception(source, device) if source.kind == "inception" else _open_open_clip(source, device)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise DamagedAsset(f"cannot read the extractor at {source.path}: {one_line(error)}. Restore the files.") from None


# --- Inception -------------------------------------------------------------------------------------------------------


def _find_inception(spec: dict[str, Any]) -> Source:
    path = cache_dir() / INCEPTION.path
    label = spec.get("label", "Inception")
    require(f"extractor '{label}'", [Needed(path, INCEPTION.fetch.format(path=path), INCEPTION.bytes, INCEPTION.sha256)])
    return Source("inception", label, file_digest(path), path)


def _open_inception(source: Source, device: str) -> Extractor:
    with importing():
        from cleanfid.inception_torchscript import InceptionV3W

    network = InceptionV3W(str(source.path.parent), download=False, resize_inside=False).to(device).eval()
    return Extractor(source, 299, network, None, None, device)


# --- open_clip -------------------------------------------------------------------------------------------------------


def _find_open_clip(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    from scottbench.store.weights import weights_digest

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
    "mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711), "resize_mode": "shortest",
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


def _open_open_clip(source: Source, device: str) -> Extractor:
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
    mean = 255 * torch.tensor(preprocess["mean"], device=device).view(1, 3, 1, 1)
    std = 255 * torch.tensor(preprocess["std"], device=device).view(1, 3, 1, 1)

    def image_tower(batch: Tensor) -> Tensor:
        return clip.encode_image((batch - mean) / std)

    return Extractor(source, _side(preprocess["size"], source), image_tower, clip.encode_text, open_clip.get_tokenizer(name), device, fit)


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
