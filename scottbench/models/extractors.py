"""Images and prompts to features or scores, once per extractor, shared by all metrics of a run.

A named resize rule (scottbench/models/images.py) to the extractor's input size, then the extractor's own mean and standard deviation.
With the rule "clean", `extractor.network` and `extractor.resize` are a custom feature extractor of clean-fid. The networks themselves come
from plug-ins (`scottbench.registry.nouns.Extractor`). Weights come from a local folder or a local cache; nothing here opens a socket.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scottbench.errors import DamagedAsset, UsageError
from scottbench.models.images import PATCHES, USUAL, Fit, patches, resize
from scottbench.registry.guard import PluginFailed
from scottbench.registry.nouns import Extractor
from scottbench.store.assets import Needed, cache_dir, require, verify_folder
from scottbench.store.weights import weights_digest as weights_digest  # extractors digest their folders by it
from scottbench.text import one_line

BATCH = 64
"""Images per forward pass. Fixed: features must not depend on --batch-size."""


@dataclass(frozen=True)
class Source:
    """An extractor that was found and checked, not yet opened."""

    kind: str
    """Name of the registered extractor."""
    label: str
    """Name for tables and error lines."""
    digest: str
    """sha256 hex of its weights (and config)."""
    path: Path
    """A folder, or a weights file."""
    model: str | None = None
    """open_clip's name of the architecture, where `path` is a weights file."""
    pretrained: str | None = None
    """open_clip's tag of the weights, where `path` is a weights file."""
    resize: str = "clean"
    """Name of the resize rule, a key of `scottbench.models.images.RULES` or `PATCHES`."""
    prefix: str = ""
    """Put before every prompt, with a blank between."""
    form: str = ""
    """All that is not usual of what the network does to pictures and features, in words; "" where nothing is."""
    precision: str = "float32"
    """"float32", "tf32" or "bfloat16": how the towers multiply; a digest covers it."""
    noun: Extractor | None = field(default=None, compare=False, repr=False)
    """The registered extractor that opens it; set by `find_extractor`."""

    @property
    def papers(self) -> list[str]:
        """List what a fingerprint says of it: label, model and weights tag, form, digest, rule, prefix."""
        tag = [] if self.model is None else [f"{self.model}/{self.pretrained}"]
        prefix = [f"prefix '{self.prefix}'"] if self.prefix else []
        form = [self.form] if self.form else []
        form += [] if self.precision == "float32" else [self.precision]
        return [f"{self.label} {self.digest[:8]}", *tag, *form, f"resize {self.resize}", *prefix]

    @property
    def gives_score(self) -> bool:
        """True of an extractor that gives each generated image a score; it sees no reference images."""
        return self.noun is not None and self.noun.gives == "score"

    def by_crop(self, rows: np.ndarray) -> np.ndarray:
        """Give the rows of several crops, (n,k*d), as (n,k,d); those of whole images, (n,d), as they are."""
        return rows.reshape(len(rows), PATCHES[self.resize] ** 2, -1) if self.resize in PATCHES else rows


@dataclass
class OpenExtractor:
    """An opened extractor. The towers are plain attributes, so that a caller may wrap them with a clock."""

    source: Source
    """The extractor as it was found."""
    size: int
    """Input height and width S in pixels."""
    image_tower: Callable[[Tensor], Tensor]
    """(N,3,S,S) float32 0..255 -> (N,d) float32, not normalised; (N,1) of an extractor that gives a score for images alone."""
    text_tower: Callable[[Tensor], Tensor] | None
    """(N,L) int64 tokens -> (N,d) float32, not normalised; None without a text tower."""
    tokenize: Callable[[list[str]], Tensor] | None
    """n prompts -> (n,L) int64 tokens; None without a text tower."""
    device: str = "cpu"
    """Its place, in torch's words."""
    fit: Fit = USUAL
    """How its own rule, "open_clip", fits pictures."""
    pair_tower: Callable[[Tensor, Tensor], Tensor] | None = None
    """((N,3,S,S) float32 0..255, (N,L) int64 tokens of each one's prompt) -> (N,) float32 scores; None where images are read alone."""
    each: Callable[..., Iterable[Any]] = map
    """A `map` that resizes several images at once, where a run has threads for it."""

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resize (H,W,3) uint8 to (S,S,3) float32 0..255 by the source's rule."""
        return resize(image, self.size, self.source.resize, self.fit)

    def views(self, image: np.ndarray) -> np.ndarray:
        """Return all that the network sees of (H,W,3) uint8, by the source's rule: (k,S,S,3) float32 0..255, k = 1 but for crops."""
        grid = PATCHES.get(self.source.resize)
        return self.resize(image)[None] if grid is None else patches(image, self.size, grid)

    @torch.inference_mode()
    def network(self, batch: Tensor) -> Tensor:
        """Run the image tower: (N,3,S,S) float32 0..255 -> (N,d) float32. clean-fid calls this a custom feature extractor."""
        return self.image_tower(batch.to(self.device))

    def features(self, images: np.ndarray, prompts: Sequence[str] = ()) -> np.ndarray:
        """Resize images (N,H,W,3) uint8, `BATCH` at a time, and give their features (N,d) float32, or their scores (N,1) float32.

        Features of k crops stand side by side, (N,k*d); `Source.by_crop` takes them apart.
        prompts: N, one for each image; read only where the extractor reads images with their prompts. Raises TypeError where those lack.
        """
        if self.pair_tower is not None and len(prompts) != len(images):
            raise TypeError(f"extractor '{self.source.label}' reads pairs, and was given {len(images)} images, {len(prompts)} prompts")
        parts, step = [], max(1, BATCH // PATCHES.get(self.source.resize, 1) ** 2)
        for start in range(0, len(images), step):
            views = np.stack(list(self.each(self.views, images[start : start + step])))
            batch = torch.from_numpy(views).flatten(0, 1).permute(0, 3, 1, 2)
            found = self.network(batch) if self.pair_tower is None else self.scores(batch, prompts[start : start + step])
            parts.append(found.cpu().numpy().reshape(len(views), -1))
        return np.concatenate(parts)

    @torch.inference_mode()
    def scores(self, batch: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score (N,3,S,S) float32 0..255 with N prompts: (N,1) float32. Raises TypeError for an extractor that reads no pairs."""
        if self.pair_tower is None or self.tokenize is None:
            raise TypeError(f"extractor '{self.source.label}' reads no pairs of image and prompt")
        return self.pair_tower(batch.to(self.device), self.tokenize(self._texts(prompts)).to(self.device)).float().reshape(-1, 1)

    @torch.inference_mode()
    def text_features(self, prompts: Sequence[str]) -> np.ndarray:
        """Give features (n,d) float32 of n prompts, the prefix put before each.

        The end token of a prompt that is too long is kept, since CLIP pools on it. Raises TypeError without a text tower.
        """
        if self.text_tower is None or self.tokenize is None:
            raise TypeError(f"extractor '{self.source.label}' has no text tower")
        texts = self._texts(prompts)
        batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return torch.cat([self.text_tower(self.tokenize(batch).to(self.device)) for batch in batches]).cpu().numpy()

    def _texts(self, prompts: Sequence[str]) -> list[str]:
        return [f"{self.source.prefix} {prompt}" if self.source.prefix else prompt for prompt in prompts]


CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and standard deviation of OpenAI's CLIP, for pixels 0..1."""
POSITIONS = ("position_ids",)
"""A table that CLIP's files of older versions keep, and that is no weight: `spare` of `open_pretrained`."""


def normaliser(mean: Sequence[float], std: Sequence[float], device: str) -> Callable[[Tensor], Tensor]:
    """Return what brings pixels, (N,3,S,S) float32 0..255, to the mean and deviation that a network was trained on, given for 0..1."""
    shift, scale = (255 * torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))
    return lambda batch: (batch - shift) / scale


def open_pretrained(kind: Any, folder: Path, spare: tuple[str, ...] = ()) -> Any:
    """Open a network of transformers from a folder, in float32, frozen. kind: its class. spare: endings of names that may lack or be there.

    Raises DamagedAsset where weights are missing or others are there; shapes that differ are transformers' own error.
    """
    # not `dtype=`, which is of newer versions of transformers
    network, told = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, output_loading_info=True)
    wrong = sorted(name for name in [*told["missing_keys"], *told["unexpected_keys"]] if not name.endswith(spare))
    if wrong:
        raise DamagedAsset(f"{folder}/model.safetensors is not of this network: {len(wrong)} tensors differ, such as {wrong[0]}.")
    return network.requires_grad_(False).float().eval()


PRECISIONS = ("float32", "tf32", "bfloat16")
"""Values of `precision` in [extractors.ROLE]; weights and features are float32 in all."""


def in_precision(extractor: OpenExtractor) -> OpenExtractor:
    """Let an opened extractor's towers multiply as its source says; return it."""
    if extractor.source.precision != "float32":
        around = _tf32 if extractor.source.precision == "tf32" else _bfloat16(extractor.device)
        for name in ("image_tower", "text_tower", "pair_tower"):
            if (tower := getattr(extractor, name)) is not None:
                setattr(extractor, name, _within(tower, around))
    return extractor


def _within(tower: Callable[..., Tensor], around: Callable[[], contextlib.AbstractContextManager[Any]]) -> Callable[..., Tensor]:
    def run(*batch: Tensor) -> Tensor:
        with around():
            return tower(*batch).float()

    return run


def _bfloat16(device: str) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return lambda: torch.autocast(device.partition(":")[0], torch.bfloat16)


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    """TF32 on a GPU, within the block; a CPU has none. The switches are those of the whole process."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def find_folder(spec: dict[str, Any], path: Callable[[str], Path], usual: str, files: Sequence[Needed]) -> tuple[Path, str]:
    """Find the folder of an extractor's files and digest it: (folder, sha256 hex of its weights, configs and vocabularies).

    spec: its "folder", else the folder `usual` in the cache of large files; its "sha256" is that of the weights file, where it is given.
    files: paths within the folder, weights first, each with the line that fetches it, in which {folder} is the folder. Raises
    MissingAsset or DamagedAsset.
    """
    folder, who = path(spec["folder"]) if "folder" in spec else cache_dir() / usual, f"extractor '{spec.get('label', usual)}'"
    needed = [replace(file, path=folder / file.path, fetch=file.fetch.format(folder=folder)) for file in files]
    require(who, [replace(needed[0], sha256=spec.get("sha256", needed[0].sha256)), *needed[1:]])
    verify_folder(folder, who)
    return folder, weights_digest(folder)


def find_extractor(noun: Extractor, spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Locate and digest the extractor of a preset's [extractors.ROLE] table; `path` resolves its relative paths.

    Raises MissingAsset or DamagedAsset naming file, size and the line that fetches it; UsageError for a rule or key that it cannot have.
    """
    spec = {**noun.defaults, **spec}
    rule = spec.get("resize", noun.rules[0])
    rules = tuple(dict.fromkeys([*noun.rules, *(PATCHES if noun.gives == "features" else ())]))
    if rule not in rules:
        raise UsageError(f"resize rule '{rule}' of an extractor of kind '{noun.name}' is unknown; known: {', '.join(rules)}")
    if noun.reads == "images" and "prefix" in spec:
        raise UsageError(f"an extractor of kind '{noun.name}' reads no prompts and takes no 'prefix'.")
    precision = spec.pop("precision", "float32")
    if precision not in PRECISIONS:
        raise UsageError(f"precision '{one_line(precision)}' of an extractor is unknown; known: {', '.join(PRECISIONS)}")
    found = noun.find({**spec, "resize": rule}, path)
    if precision != "float32":  # features are bound to this digest: two precisions never mix
        digest = hashlib.sha256(f"{found.digest}/{precision}".encode()).hexdigest()
        found = replace(found, digest=digest, precision=precision)
    return replace(found, kind=noun.name, resize=rule, prefix=" ".join(spec.get("prefix", "").split()), noun=noun)


def open_extractor(source: Source, device: str = "cpu") -> OpenExtractor:
    """Load the network of a Source in float32, ready to use in the source's precision. Raises DamagedAsset if its files cannot be read,
    UsageError if nobody found it by `find_extractor`."""
    from safetensors import SafetensorError

    if source.noun is None:
        raise UsageError(f"the extractor at {source.path} belongs to no registered kind.")
    unreadable = (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError)
    try:
        return in_precision(source.noun.open(source, device))
    except (PluginFailed, *unreadable) as error:
        cause = error.__cause__ if isinstance(error, PluginFailed) else error
        if not isinstance(cause, unreadable):
            raise
        raise DamagedAsset(f"cannot read the extractor at {source.path}: {one_line(cause)}. Restore the files.") from None
