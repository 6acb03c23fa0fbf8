"""Published weights become a student folder: a whole U-Net as it is, or a LoRA folded into its teacher's U-Net, with their origin."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from scottbench.errors import DamagedAsset, Incomplete, Unfit, UsageError
from scottbench.models.admission import CLASSES, PREDICTIONS, check_unet, read_schedule
from scottbench.models.configs import check_against_weights, leaves, one_of, read_config
from scottbench.models.diffusion_model import DiffusionModel, UNet
from scottbench.models.importing import importing
from scottbench.models.lora import fold
from scottbench.models.published import Published, first
from scottbench.models.student import WEIGHTS, sealed
from scottbench.store.assets import file_digest
from scottbench.store.files import json_bytes, replace_file, replace_folder, writing
from scottbench.store.weights import weights_digest
from scottbench.text import one_line

FORMATS = {"F16", "BF16", "F32", "F64"}
"""Number formats of weights that are read."""
HINT = "Give another folder with -o, or make room."


@dataclass(frozen=True)
class Wishes:
    """All that a user says of published weights beside where they are."""

    name: str
    method: str
    """Name of the sampler that they were published for, or PLAIN."""
    trainer: str
    """Whose students that sampler takes; PLAIN: any sampler of the teacher samples them."""
    sampler: Mapping[str, Any] = field(default_factory=dict)
    """Options of the sampler, typed, that they were published with."""
    known: frozenset[str] = frozenset()
    """All options of that sampler, or of those: what a scheduler's config says beside them is not recorded."""
    made_for: tuple[int, ...] = ()
    guidance: tuple[float, float] | str | None = None
    """ "baked", "free", the range of the guidance scale s that a U-Net knows which takes it as an input, or None: baked where it takes
    none."""
    by: str | None = None
    licence: str | None = None
    trained_from: str | None = None
    unet_only: bool = False


def adopt(published: Published, teacher: DiffusionModel, named: str, wishes: Wishes, out: Path, made_by: dict[str, str]) -> dict[str, Any]:
    """Write the student folder `out`, and return its student.json.

    teacher: in float32 on a CPU; a LoRA is folded into its U-Net in place. named: what the teacher is called. made_by: digests of the code.
    Raises UsageError: `out` holds something, or a wish that the weights do not fit; Unfit: another base; DamagedAsset: numbers that are not
    finite; Incomplete: the disk is full."""
    check_out(out)
    check_scheduler(published, teacher)
    guidance = guidance_facts(published, wishes.guidance)
    with writing(out, HINT):
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with writing(out, HINT):
            left = write_lora(published, teacher.unet, made / "unet", wishes.unet_only) if published.kind == "LoRA" else []
            if published.kind == "U-Net":
                write_unet(published, teacher.unet, made / "unet")
            facts = sealed({
                "trainer": wishes.trainer, "name": wishes.name, "teacher": named, "teacher_digest": teacher.digest, **guidance,
                "published": origin_facts(published, wishes, left), "made_by": made_by,
                "sampler": {**scheduler_facts(published, len(teacher.schedule), wishes.known), **wishes.sampler},
                **({"made_for": list(wishes.made_for)} if wishes.made_for else {}),
                "weights_digest": weights_digest(made / "unet"),
            })  # fmt: skip
            replace_file(made / "student.json", json_bytes(facts, sort_keys=True))
            made.chmod(0o755)  # the temporary folder was ours alone
            replace_folder(made, out)
    except SafetensorError as error:
        raise Incomplete(f"cannot write {out}: {one_line(error)}. {HINT}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return facts


def check_out(out: Path) -> None:
    """Raise UsageError where `out` is there and holds something."""
    try:
        taken = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}. {HINT}") from None
    if taken:
        raise UsageError(f"{out} is there already. Give another folder with -o.")


def check_scheduler(published: Published, teacher: DiffusionModel) -> None:
    """Hold the scheduler's config of the pipeline that a U-Net is of against its teacher's. Raises Unfit: another schedule of noise, or
    another parametrisation."""
    config, where = published.scheduler, published.files[0].parent.parent / "scheduler" / "scheduler_config.json"
    if not config:
        return
    prediction = one_of(where, config, "prediction_type", PREDICTIONS, "epsilon")
    if prediction != teacher.prediction:
        raise Unfit(f"{where}: prediction_type is \"{prediction}\"; supported: \"{teacher.prediction}\", its teacher's. Name its own "
                    "teacher with --teacher.")
    own, taught = read_schedule(config, where).alphas_cumprod, teacher.schedule.alphas_cumprod
    if own.shape != taught.shape or not torch.allclose(own, taught, atol=1e-6):
        raise Unfit(f"{where} has another schedule of noise (betas) than its teacher. Name its own teacher with --teacher.")


def scheduler_facts(published: Published, steps: int, known: frozenset[str]) -> dict[str, Any]:
    """Return the options, of those `known` to the sampler, that the published pipeline's scheduler names: spacing, and the grid of
    consistency models on a schedule of so many steps."""
    config, found = published.scheduler, {}
    if config.get("timestep_spacing") in ("leading", "trailing"):
        found["spacing"] = config["timestep_spacing"]
    count = config.get("original_inference_steps")
    if type(count) is int and 1 <= count <= steps:
        found["skip"] = steps // count
    return {key: value for key, value in found.items() if key in known}


def guidance_facts(published: Published, asked: tuple[float, float] | str | None) -> dict[str, Any]:
    """Return what student.json says of the guidance. Raises UsageError for a range where it is no input, and "baked" where it is one."""
    is_input = "time_embedding.cond_proj.weight" in published.shapes
    if isinstance(asked, tuple) and not is_input:
        raise UsageError("--guidance LOW..HIGH: these weights take no guidance scale as an input (no time_embedding.cond_proj). Say "
                         "baked or free.")
    if asked == "baked" and is_input:
        raise UsageError("--guidance baked: the guidance scale is an input of these weights. Say its range, LOW..HIGH, or free.")
    if isinstance(asked, tuple):
        return {"w_min": asked[0] - 1, "w_max": asked[1] - 1}
    return {} if is_input or asked == "free" else {"guidance": "baked"}


def origin_facts(published: Published, wishes: Wishes, left: list[str]) -> dict[str, Any]:
    """Return the table `published` of student.json: the source, its digest, licence, author and teacher, as far as somebody says them."""
    files = published.files
    told = {
        "kind": published.kind, "method": wishes.method, "source": published.source, "revision": published.revision,
        "sha256": file_digest(files[0]) if len(files) == 1 else weights_digest(files[0].parent),
        "by": first(wishes.by, published.by), "licence": first(wishes.licence, published.licence, "unknown"),
        "trained_from": first(wishes.trained_from, published.trained_from),
        "left_out": left, "own_parts_not_used": list(published.own_parts),
    }  # fmt: skip
    return {key: one_line(value)[:200] if isinstance(value, str) else value for key, value in told.items() if value}


# --- weights ---------------------------------------------------------------------------------------------------------


def write_lora(published: Published, unet: UNet, folder: Path, unet_only: bool) -> list[str]:
    """Fold a LoRA into a U-Net in place, write that in float32, and return what was left out. Raises as `scottbench.models.lora.fold`."""
    left = fold(unet, published, unet_only)
    tensors = {name: weight.detach().contiguous() for name, weight in unet.state_dict().items()}
    write_config(unet, folder)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return left


def write_unet(published: Published, taught: UNet, folder: Path) -> None:
    """Write a whole U-Net: the bytes of its one file, or its shards put together. Raises as `check_form`; DamagedAsset for numbers that are
    not finite."""
    network = check_form(published, taught)
    for path in published.files:
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if not torch.isfinite(weights.get_tensor(name)).all():
                    raise DamagedAsset(f"{path}: '{one_line(name)}' has numbers that are not finite. Fetch it again.")
    write_config(network, folder)
    if len(published.files) == 1:
        shutil.copyfile(published.files[0], folder / WEIGHTS)
        return
    shards = {name: value for path in published.files for name, value in load_file(path).items()}
    save_file(shards, folder / WEIGHTS, metadata={"format": "pt"})


def check_form(published: Published, taught: UNet) -> UNet:
    """Build the U-Net without weights, by its config, or its teacher's where it has none, and hold names and shapes of its tensors against
    it.

    Raises Unfit: other channels, text of another width, other layers; DamagedAsset: a config of which nothing can be built."""
    where = published.files[0] if published.config is None else published.config
    if published.config is None:
        config = {key: value for key, value in taught.config.items() if not key.startswith("_")}
        guided = published.shapes.get("time_embedding.cond_proj.weight")
        config["time_cond_proj_dim"] = None if guided is None else guided[1]
    else:
        config = read_config(published.config)
        one_of(where, config, "_class_name", (None, *CLASSES["unet"][1]))
        check_unet(where, config, taught.config.in_channels, leaves(taught.config.cross_attention_dim)[0])
        check_against_weights(where, config, published.files)
    with importing():
        from diffusers import UNet2DConditionModel
    try:
        with torch.device("meta"):
            network = UNet2DConditionModel.from_config(config)
    except Exception as error:  # a config that does not fit makes the library raise anything
        raise DamagedAsset(f"cannot read {where}: {one_line(error)}. Restore the folder.") from None
    compare_tensors(published, {name: tuple(value.shape) for name, value in network.state_dict().items()})
    return network


def compare_tensors(published: Published, wanted: dict[str, tuple[int, ...]]) -> None:
    """Hold the tensors of a U-Net's files against those of its form. Raises Unfit, which names the first that differs."""
    found, path = published.shapes, published.files[0]
    form = "its teacher's U-Net" if published.config is None else "its config.json"
    channels = found["conv_in.weight"][1] if len(found["conv_in.weight"]) == 4 else None
    if channels is not None and channels != wanted["conv_in.weight"][1]:
        raise Unfit(f"{path}: a U-Net with {channels} input channels ('conv_in.weight' is {found['conv_in.weight']}), as inpainting models "
                    f"have; supported: {wanted['conv_in.weight'][1]}, the channels of a latent.")
    for name, shape in wanted.items():
        if name not in found or found[name] != shape:
            has = "is missing" if name not in found else f"has shape {found[name]}"
            raise Unfit(f"{path} is of another base: '{name}' {has}, and {form} has {shape}. Name its own base with --teacher.")
    extra = next((name for name in found if name not in wanted), None)
    if extra is not None:
        raise Unfit(f"{path} is of another base: {form} has no '{one_line(extra)}'. Name its own base with --teacher.")
    strange = next((kind for header in published.headers for kind in header.kinds.values() if kind not in FORMATS), None)
    if strange is not None:
        raise Unfit(f"{path}: its weights are in the format {strange}; supported: {', '.join(sorted(FORMATS))}.")


def write_config(unet: UNet, folder: Path) -> None:
    """Write a U-Net's config.json, without the folder that it was opened from."""
    unet.save_config(folder)
    config = read_config(folder / "config.json")
    kept = {key: value for key, value in config.items() if key not in ("_name_or_path", "_use_default_values")}
    replace_file(folder / "config.json", json_bytes(kept, indent=2, sort_keys=True))
