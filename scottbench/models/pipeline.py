"""A Stable Diffusion pipeline folder, opened as a DiffusionModel; only safetensors are read, and no code of the folder runs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError

from scottbench.diffusion import Schedule
from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.diffusion_model import DTYPES, DiffusionModel
from scottbench.models.importing import importing
from scottbench.models.student import check_student
from scottbench.store.assets import verify_folder
from scottbench.store.files import read_object
from scottbench.store.weights import WEIGHTS, absent_files, hashed_beside, pickled_weights, weights_digest

M = TypeVar("M", bound=torch.nn.Module)


def load_unet(folder: Path, dtype: torch.dtype, pickled: bool = False) -> torch.nn.Module:
    """Load a U-Net folder (config.json + safetensors), frozen and in eval mode. Raises DamagedAsset."""
    with importing():
        from diffusers import UNet2DConditionModel

    return fast_layout(_load(UNet2DConditionModel, folder, dtype, pickled))


def fast_layout(network: M) -> M:
    """Turn the weights to channels-last: convolutions are a third faster so on CPUs, and on tensor cores too."""
    return network.to(memory_format=torch.channels_last)


def _load(cls: Any, folder: Path, dtype: torch.dtype, pickled: bool = False) -> Any:
    """cls.from_pretrained, frozen, in eval mode, without network, pickles or remote code; a damaged file becomes a DamagedAsset, and so
    does one that lacks a weight: the libraries would go on with random numbers in its place. pickled: read a .bin, as tensors only."""
    safely = {"local_files_only": True, "use_safetensors": not pickled, "low_cpu_mem_usage": False, "output_loading_info": True}
    try:
        network, info = cls.from_pretrained(folder, torch_dtype=dtype, **safely)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DamagedAsset(f"cannot read {folder}: {line}. Restore the folder (safetensors and config.json) and try again.") from None
    if info["missing_keys"]:
        absent = sorted(info["missing_keys"])
        raise DamagedAsset(f"cannot read {folder}: its safetensors lack {len(absent)} weights, first '{absent[0]}'. Restore the folder.")
    return network.requires_grad_(False).eval()


def open_pipeline(
    folder: Path, device: str = "cpu", dtype: str = "float32", expected: dict[str, str] | None = None, allow_unsafe: bool = False
) -> DiffusionModel:
    """Open any Stable Diffusion 1.x / 2.x pipeline folder. Its files are hashed while the libraries are imported.

    Safety checker and feature extractor are not loaded: black images would be counted as samples (evaluation.md 3c.5). expected: as for
    `weights_digest`. allow_unsafe: read pickled weights where a part has no safetensors; otherwise they raise UsageError. Raises
    MissingAsset for absent parts, DamagedAsset for files that cannot be read or are not the expected ones.
    """
    folder = Path(folder)
    digests = hashed_beside(folder)
    with importing():
        from transformers import CLIPTextModel, CLIPTokenizer
    known = digests()
    verify_folder(folder, f"the model at {folder}", known)
    pickled = _check_parts(folder, allow_unsafe)
    kind = DTYPES[dtype]

    def broken(error: Exception) -> DamagedAsset:
        return DamagedAsset(f"cannot read the pipeline at {folder}: {error}. Restore the folder.")

    scheduler = read_object(folder / "scheduler" / "scheduler_config.json", broken)
    index = read_object(folder / "model_index.json", broken)
    try:
        vae_class = _vae_class(index)
        schedule = read_schedule(scheduler)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise broken(error) from None
    digest = weights_digest(folder, expected, known)
    unsafe = {part: any(name.startswith(f"{part}/") for name in pickled) for part in WEIGHTS}
    text_encoder = _load(CLIPTextModel, folder / "text_encoder", kind, unsafe["text_encoder"]).to(device)
    vae = fast_layout(_load(vae_class, folder / "vae", kind, unsafe["vae"])).to(device)
    unet = load_unet(folder / "unet", kind, unsafe["unet"]).to(device)
    prediction = scheduler.get("prediction_type", "epsilon")
    return DiffusionModel(digest, schedule, prediction, tokenizer, text_encoder, unet, vae, device, pickled=pickled)


def _vae_class(index: dict[str, Any]) -> Any:
    """The class of a pipeline's VAE, which diffusers imports when it is named. index: model_index.json."""
    with importing():
        import diffusers

        return getattr(diffusers, index["vae"][1])


def _check_parts(folder: Path, allow_unsafe: bool) -> list[str]:
    """`pickled_weights` of a pipeline folder that has all its parts, and none of them pickled unless that is allowed."""
    pickled = pickled_weights(folder)
    if pickled and not allow_unsafe:
        raise UsageError(
            f"{folder} holds pickled weights ({', '.join(pickled)}), which can run code when they are read. Convert them to safetensors, "
            "or, where you trust their source, add --allow-unsafe-checkpoint.")
    absent = absent_files(folder)
    if absent:
        raise MissingAsset(f"no diffusers pipeline at {folder}: {', '.join(absent)} missing.")
    return pickled


def read_schedule(config: dict) -> Schedule:
    """Turn a diffusers scheduler config into a Schedule. Raises ValueError for an unknown one, rather than to guess."""
    name = config.get("beta_schedule", "linear")
    makers = {"scaled_linear": Schedule.scaled_linear, "linear": Schedule.linear}
    if name not in makers:
        raise ValueError(f"beta_schedule '{name}' is not supported; supported: {', '.join(makers)}")
    for key in ("trained_betas", "rescale_betas_zero_snr"):
        if config.get(key) not in (None, False):
            raise ValueError(f"{key} is not supported")
    # configs written by hand or by other tools hold the numbers as text
    return makers[name](float(config["beta_start"]), float(config["beta_end"]), int(config["num_train_timesteps"]))


def open_student(teacher: DiffusionModel, folder: Path, trainer: str, facts: dict | None = None) -> DiffusionModel:
    """Return the teacher's model with the U-Net of a student folder. Raises as `scottbench.models.student.check_student`.

    facts: student.json as `check_student` has returned it, where the folder has been checked already: nothing is hashed again."""
    facts = check_student(folder, trainer, teacher.digest) if facts is None else facts
    return teacher.with_unet(load_unet(folder / "unet", teacher.dtype).to(teacher.device), facts)
