"""Find published weights: a file, a folder, or a repository of the hub's local cache; and what stands beside them.

Nothing is fetched. Only safetensors are read. What a publisher says of weights (licence, teacher) is text from elsewhere: it is shown,
never acted on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scottbench.errors import MissingAsset, Unfit, UsageError
from scottbench.models.configs import Header, read_config, read_header, variants
from scottbench.store.assets import walked
from scottbench.store.files import Refused, read_plain
from scottbench.text import one_line

PICKLED = {".bin", ".ckpt", ".pt", ".pth", ".pkl"}
"""Endings of weights in Python's pickle format, which may hold code."""
ADAPTER = re.compile(r"[._]lora[._](?:down|up|a|b|linear_layer|magnitude)|\.alpha$", re.IGNORECASE)
"""In the name of a LoRA's tensor."""
OTHERS = {"hada_w": "LoHa", "lokr_w": "LoKr", "oft_": "OFT", "dora_scale": "DoRA", "magnitude_vector": "DoRA", "ip_adapter": "IP-Adapter"}
"""Parts of the names of tensors of other adapters -> which."""
HUB = re.compile(r"([\w.-]+/[\w.-]+?)((?:/[\w.-]+)*)(?:@([\w.-]+))?")
CARD_BYTES = 2**20
UNSPOKEN = {"", "unknown", "other", "none"}
"""Licences of a model card that say nothing."""


@dataclass(frozen=True)
class Published:
    """Weights that were found, and what their publisher says of them."""

    kind: str
    """ "LoRA" or "U-Net"."""
    files: tuple[Path, ...]
    """One safetensors file, or the shards of a U-Net."""
    headers: tuple[Header, ...]
    source: str
    """Name without a path of this machine: that of a file or folder, or OWNER/NAME/FILE of the hub."""
    config: Path | None = None
    """config.json of the U-Net, where there is one."""
    scheduler: dict[str, Any] = field(default_factory=dict)
    """Config of the scheduler of the pipeline that the U-Net is of."""
    own_parts: tuple[str, ...] = ()
    """Further parts of that pipeline with weights, which are not used: the student shares those of its teacher."""
    revision: str | None = None
    by: str | None = None
    licence: str | None = None
    trained_from: str | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Map each tensor to its shape."""
        return {name: shape for header in self.headers for name, shape in header.shapes.items()}

    @property
    def text_width(self) -> int | None:
        """Return the width of the text that its cross-attention reads; None where no tensor tells."""
        for name, shape in self.shapes.items():
            # of a LoRA the inner factor: (rank, width)
            inner = self.kind == "U-Net" or re.search(r"down|lora_A", name)
            if re.search(r"attn2.*to[._]k", name) and inner and len(shape) == 2:
                return shape[1]
        return None


def find_published(text: str) -> Published:
    """Find the weights that a user names: FILE.safetensors, FOLDER (a pipeline, a U-Net, or one LoRA), or OWNER/NAME[/FILE][@REVISION] of
    the hub, from the local cache.

    Raises UsageError for pickled weights, or several files to choose from; MissingAsset with the line that fetches them; DamagedAsset for
    a file that cannot be read; Unfit for one that holds neither a U-Net nor a LoRA.
    """
    path = Path(text).expanduser()
    refuse_pickle(path)
    if path.is_file():
        return _of_file(path, path.name)
    if path.is_dir():
        return _of_folder(path, one_line(path.resolve().name))
    return _of_hub(text)


def refuse_pickle(path: Path) -> None:
    """Raise UsageError for a file that can run code when it is read, with the line that converts it."""
    if path.suffix.lower() not in PICKLED:
        return
    code = (f"import torch; from safetensors.torch import save_file; d = torch.load({str(path)!r}, weights_only=True); d = d.get("
            f"'state_dict', d); save_file({{k: v.contiguous() for k, v in d.items()}}, {str(path.with_suffix('.safetensors'))!r})")
    raise UsageError(
        f"{one_line(path)}: {path.suffix} is Python's pickle format, which can run code when it is read; only safetensors are. Look for a "
        f"safetensors file beside it, or convert it: python -c {shlex.quote(code)}")


def _of_hub(text: str) -> Published:
    """Find OWNER/NAME[/FILE][@REVISION] in the hub's cache. Raises MissingAsset."""
    match = HUB.fullmatch(text)
    if match is None:
        raise MissingAsset(f"{one_line(text)}: no such file or folder, and no hub id (OWNER/NAME or OWNER/NAME/FILE).")
    repository, inside, asked = match[1], match[2].strip("/"), match[3]
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    revision = asked if asked is not None else _text_of(place / "refs" / "main")
    snapshot = place / "snapshots" / revision if revision else None
    wanted = snapshot / inside if snapshot is not None else None
    if wanted is None or not wanted.exists():
        fetch = " ".join(["hf download", repository, *([inside] if inside else []), *(["--revision", asked] if asked else [])])
        raise MissingAsset(f"{one_line(text)}: no such file or folder, and not in the hub's cache ({place}). Fetch it: {fetch}")
    refuse_pickle(wanted)
    name = f"{repository}/{inside}".rstrip("/")
    assert snapshot is not None
    found = _of_file(wanted, name) if wanted.is_file() else _of_folder(wanted, name)
    card = _card(snapshot)
    return replace(
        found, revision=revision, by=repository.partition("/")[0], licence=first(found.licence, card.get("license")),
        trained_from=first(found.trained_from, card.get("base_model")))


def _of_folder(folder: Path, name: str) -> Published:
    """Find the U-Net or the one LoRA of a folder. Raises MissingAsset, UsageError, and as `_of_file`."""
    pipeline = folder if (folder / "model_index.json").is_file() else None
    unet = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    files = [path for path in sorted(unet.glob("*.safetensors")) if path not in variants(unet)] or variants(unet)
    card = _card(folder)
    licence, trained_from = card.get("license"), card.get("base_model")
    if not files:
        pickled = [path for path in walked(folder) if path.suffix in PICKLED]
        if pickled:
            refuse_pickle(pickled[0])
        raise MissingAsset(f"{folder} holds no safetensors. Name a folder with a U-Net (config.json beside it) or the file of a LoRA.")
    if (unet / "config.json").is_file():
        scheduler = folder / "scheduler" / "scheduler_config.json"
        return replace(
            _unet(files, name), config=unet / "config.json", scheduler=read_config(scheduler) if scheduler.is_file() else {},
            own_parts=tuple(part for part in ("text_encoder", "vae") if pipeline is not None and (folder / part).is_dir()),
            licence=licence, trained_from=trained_from)
    if len(files) > 1:
        raise UsageError(f"{folder} holds {len(files)} safetensors files ({', '.join(path.name for path in files[:4])}, ...). Name one: "
                         f"{name}/{files[0].name}")
    found = _of_file(files[0], f"{name}/{files[0].name}")
    return replace(found, licence=first(found.licence, licence), trained_from=first(found.trained_from, trained_from))


def _of_file(path: Path, name: str) -> Published:
    """Say what a safetensors file holds. Raises Unfit or DamagedAsset."""
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: only safetensors files and folders of them are adopted.")
    header = read_header(path)
    other = next((kind for name_ in header.shapes for part, kind in OTHERS.items() if part in name_), None)
    if other is not None:
        raise Unfit(f"{path} holds an adapter of another kind ({other}); supported: LoRA. Fold it into a U-Net with its own tools first.")
    if any(ADAPTER.search(tensor) for tensor in header.shapes):
        meta = {key: one_line(value) for key, value in header.metadata.items()}
        return Published(
            "LoRA", (path,), (header,), name, by=meta.get("modelspec.author"), licence=meta.get("modelspec.license"),
            trained_from=meta.get("ss_sd_model_name"))
    beside = path.parent / "config.json"
    return replace(_unet([path], name), config=beside if beside.is_file() else None)


def _unet(files: Iterable[Path], name: str) -> Published:
    """Check that files hold a U-Net by the names that diffusers gives its tensors. Raises Unfit or DamagedAsset."""
    files = tuple(files)
    found = Published("U-Net", files, tuple(read_header(path) for path in files), name)
    if any(tensor.startswith("model.diffusion_model.") for tensor in found.shapes):
        raise Unfit(
            f"{files[0]} is a whole checkpoint in Stable Diffusion's original form; supported: U-Nets as diffusers writes them. Convert "
            f"it: StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER), and adopt FOLDER.")
    if not {"conv_in.weight", "time_embedding.linear_1.weight"} <= found.shapes.keys():
        first = next(iter(found.shapes), None)
        names = "it has no tensors" if first is None else f"its tensors are called '{one_line(first)}', ..."
        raise Unfit(f"{files[0]} holds neither a U-Net of diffusers' form nor a LoRA: {names}")
    return found


def first(*texts: str | None) -> str | None:
    """Return the first of several texts that somebody wrote."""
    return next((text for text in texts if text is not None), None)


def _text_of(path: Path) -> str:
    """The one line of a small file; "" where there is none."""
    try:
        return one_line(read_plain(path, 1024).decode("utf-8", "replace"))
    except (OSError, Refused):
        return ""


def _card(folder: Path) -> dict[str, str]:
    """`license` and `base_model` of a model card's head (README.md between its two --- lines); those that say something."""
    try:
        text = read_plain(folder / "README.md", CARD_BYTES).decode("utf-8", "replace")
    except (OSError, Refused):
        return {}
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(?:\n|$)", text, re.DOTALL)
    found = {}
    for key in ("license", "base_model"):
        line = re.search(rf"^{key}:[ \t]*(?:\n[ \t]*-[ \t]*)?(\S[^\n]*)$", head[1], re.MULTILINE) if head is not None else None
        if line is not None and (value := one_line(line[1]).strip("'\"")).lower() not in UNSPOKEN:
            found[key] = value[:200]
    return found
