"""A Stable Diffusion pipeline folder, opened as a DiffusionModel; only safetensors are read, and no code of the folder runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, TypeVar

import torch

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.admission import Admission, admit_pipeline, admit_student, check_kind
from scottbench.models.configs import variants
from scottbench.models.diffusion_model import DTYPES, VAE, DiffusionModel, UNet
from scottbench.models.importing import importing
from scottbench.models.student import check_student
from scottbench.models.text_encoders import TwoEncoders
from scottbench.store.assets import verify_folder
from scottbench.store.weights import absent_files, hashed_beside, parts_with_weights, pickled_weights, weights_digest
from scottbench.text import one_line

M = TypeVar("M", bound=torch.nn.Module)


def load_unet(folder: Path, dtype: torch.dtype, pickled: bool = False) -> UNet:
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
    except MemoryError:
        raise
    except Exception as error:  # a config that does not fit makes the libraries raise anything, ZeroDivisionError too
        line = one_line(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
        raise DamagedAsset(f"cannot read {folder}: {line}. Restore the folder (safetensors and config.json) and try again.") from None
    if info["missing_keys"]:
        absent = sorted(info["missing_keys"])
        raise DamagedAsset(f"cannot read {folder}: its safetensors lack {len(absent)} weights, first '{absent[0]}'. Restore the folder.")
    return network.requires_grad_(False).eval()


def open_pipeline(
    folder: Path, device: str = "cpu", dtype: str = "float32", expected: dict[str, str] | None = None, allow_unsafe: bool = False
) -> DiffusionModel:
    """Open any Stable Diffusion 1.x, 2.x or XL pipeline folder. Its files are hashed while the libraries are imported.

    Safety checker and feature extractor are not loaded: black images would be counted as samples (evaluation.md 3c.5). expected: as for
    `weights_digest`. allow_unsafe: read pickled weights where a part has no safetensors; otherwise they raise UsageError. Raises
    MissingAsset for absent parts, Unfit for another kind of model, DamagedAsset for files that cannot be read or are not the expected ones.
    """
    folder = Path(folder)
    with contextlib.suppress(DamagedAsset):  # told below, where it is known whether the folder lists its files' digests
        if (folder / "model_index.json").is_file():
            check_kind(folder / "model_index.json")  # the gigabytes of another kind of model are not hashed
    digests = hashed_beside(folder)
    with importing():
        import transformers.models.clip  # noqa: F401
    known = digests()
    verify_folder(folder, f"the model at {folder}", known)
    pickled = _check_parts(folder, allow_unsafe)
    found = admit_pipeline(folder)
    digest = weights_digest(folder, expected, known)
    unsafe = {part: any(name.startswith(f"{part}/") for name in pickled) for part in parts_with_weights(folder)}
    kind = DTYPES[dtype]
    tokenizers, text_encoder = _load_text(folder, found, kind, unsafe)
    vae, wide = _load_vae(found.vae, folder / "vae", kind, unsafe["vae"], device)
    unet = load_unet(folder / "unet", kind, unsafe["unet"]).to(device)
    return DiffusionModel(
        digest, found.schedule, found.prediction, tokenizers[0], text_encoder.to(device), unet, vae, device, pickled=pickled,
        side=found.side, wide_vae=wide, tokenizer_2=tokenizers[1] if found.two_encoders else None, zero_empty=found.zero_empty,
        warnings=list(found.warnings))


def _load_text(folder: Path, found: Admission, kind: torch.dtype, unsafe: dict[str, bool]) -> tuple[list[Any], torch.nn.Module]:
    """The tokenizers, and the text encoder or both as one network. Raises DamagedAsset, also where one knows more words than the other."""
    with importing():
        from transformers import CLIPTextModel, CLIPTextModelWithProjection
    classes: dict[str, Any] = {"text_encoder": CLIPTextModel}
    if found.two_encoders:
        classes["text_encoder_2"] = CLIPTextModelWithProjection
    tokenizers, encoders = [], []
    for part, opened in classes.items():
        tokenizers.append(_tokenizer(folder / part.replace("text_encoder", "tokenizer"), found.tokens))
        encoders.append(_load(opened, folder / part, kind, unsafe[part]))
        if len(tokenizers[-1]) > encoders[-1].config.vocab_size:
            raise DamagedAsset(
                f"{folder}: its tokenizer knows {len(tokenizers[-1])} tokens, its text encoder {encoders[-1].config.vocab_size} "
                "(vocab_size): they are of different models. Restore the folder.")
    return tokenizers, TwoEncoders(*encoders) if found.two_encoders else encoders[0]


def _tokenizer(folder: Path, tokens: int) -> Any:
    """The tokenizer, which pads and truncates to so many tokens. Raises DamagedAsset."""
    with importing():
        from transformers import CLIPTokenizer
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # its parser, written in another language, raises plain Exceptions
        raise DamagedAsset(f"cannot read {folder}: {one_line(error)}. Restore the folder.") from None
    tokenizer.model_max_length = tokens
    return tokenizer


def _load_vae(name: str, folder: Path, kind: torch.dtype, pickled: bool, device: str) -> tuple[VAE, VAE | None]:
    """The VAE, and in float16 once more in float32, for the images that overflow."""
    opened: Any
    with importing():
        if name == "AutoencoderTiny":
            from diffusers import AutoencoderTiny

            opened = AutoencoderTiny
        else:
            from diffusers import AutoencoderKL

            opened = AutoencoderKL
    vae = fast_layout(_load(opened, folder, kind, pickled)).to(device)
    wide = fast_layout(_load(opened, folder, torch.float32, pickled)).to(device) if kind == torch.float16 else None
    return vae, wide


def _check_parts(folder: Path, allow_unsafe: bool) -> list[str]:
    """`pickled_weights` of a pipeline folder that has all its parts, and none of them pickled unless that is allowed."""
    pickled = pickled_weights(folder)
    if pickled and not allow_unsafe:
        raise UsageError(
            f"{folder} holds pickled weights ({', '.join(pickled)}), which can run code when they are read. Convert them to safetensors, "
            "or, where you trust their source, add --allow-unsafe-checkpoint.")
    absent = absent_files(folder)
    only = [found for part in parts_with_weights(folder) if f"{part}/*.safetensors" in absent for found in variants(folder / part)]
    if only:
        raise MissingAsset(
            f"{folder} holds only a variant of some weights ({', '.join(path.relative_to(folder).as_posix() for path in only)}). Fetch the "
            "weights without it, or, to use the variant, rename its files: x.fp16.safetensors to x.safetensors.")
    if absent:
        raise MissingAsset(f"no diffusers pipeline at {folder}: {', '.join(absent)} missing.")
    return pickled


def open_student(teacher: DiffusionModel, folder: Path, trainer: str, facts: dict | None = None) -> DiffusionModel:
    """Return the teacher's model with the U-Net of a student folder. Raises as `scottbench.models.student.check_student`,
    and Unfit for a U-Net that does not fit the teacher.

    facts: student.json as `check_student` has returned it, where the folder has been checked already: nothing is hashed again."""
    facts = check_student(folder, trainer, teacher.digest) if facts is None else facts
    admit_student(folder, teacher)
    return teacher.with_unet(load_unet(folder / "unet", teacher.dtype).to(teacher.device), facts)
