"""Does a folder fit? What its configs tell of a pipeline or a student is checked before anything is computed or loaded.

A folder may come from anywhere: classes are taken from the lists below, never by the name that a file gives. One sentence names the file,
the field, its value and what is supported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.diffusion import Schedule
from scottbench.errors import DamagedAsset, Unfit
from scottbench.models.configs import VOCABULARY_BYTES, check_against_weights, check_size, leaves, one_of, read_config, real, refuse, whole

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel

LCM, XL = "LatentConsistencyModelPipeline", "StableDiffusionXLPipeline"
PIPELINES = ("StableDiffusionPipeline", LCM, XL)
"""Classes of pipelines that a folder may be of: text to image, Stable Diffusion 1.x, 2.x and XL."""
FLOW, TRANSFORMER = "a transformer trained by flow matching, without betas", "a transformer in place of the U-Net"
ELSEWHERE = {
    **dict.fromkeys(
        ("StableDiffusion3", "Flux", "Sana", "AuraFlow", "Lumina", "QwenImage", "HiDream", "CogView4", "Chroma", "ZImage"), FLOW),
    **dict.fromkeys(("PixArt", "HunyuanDiT"), TRANSFORMER),
}  # fmt: skip
"""Head of a pipeline's class -> what keeps it out."""
SCHEDULERS = tuple(f"{name}Scheduler" for name in (
    "DDIM", "DDPM", "PNDM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete",
    "KDPM2AncestralDiscrete", "DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE", "DEISMultistep", "UniPCMultistep", "LCM", "TCD",
))  # fmt: skip
"""Schedulers whose config describes a schedule of betas. They are never opened: methods bring their own sampler."""
CLASSES = {
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "vae": ("diffusers", ("AutoencoderKL", "AutoencoderTiny")),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
    "scheduler": ("diffusers", SCHEDULERS),
}
"""Part of a pipeline -> its library and the classes that it may be of."""
SECOND = {
    "text_encoder_2": ("transformers", ("CLIPTextModelWithProjection",)),
    "tokenizer_2": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
}
"""The further parts of Stable Diffusion XL."""
NETWORKS = ("text_encoder", "unet", "vae")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
EXTRAS = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "encoder_hid_dim")
"""Fields of a U-Net's config that mean further inputs beside latents, time and text."""
SIZE_IDS = 6
"""Numbers that say the size of a picture to Stable Diffusion XL's U-Net."""
SIDES = 512
"""Largest side of a latent: pictures of 4096 pixels."""
UNSET = 10**20
"""transformers writes 10^30 where a tokenizer does not know its length."""


@dataclass(frozen=True)
class Admission:
    """A pipeline folder that fits, with all that its configs say of it."""

    vae: str
    """Class of its VAE: "AutoencoderKL" or "AutoencoderTiny"."""
    schedule: Schedule
    prediction: str
    """ "epsilon", "v_prediction" or "sample"."""
    tokens: int
    """Length of a prompt in tokens."""
    side: int
    """Height and width of a latent."""
    warnings: tuple[str, ...]
    """Sentences for plan and report."""
    two_encoders: bool = False
    """It has a second text encoder and a second tokenizer."""
    zero_empty: bool = False
    """The unconditional pass is told zeros."""


def admit_pipeline(folder: Path) -> Admission:
    """Read the configs of a pipeline folder that has all its parts. Raises Unfit: another kind of model; DamagedAsset: unreadable."""
    index, warnings = check_index(folder / "model_index.json")
    two, vae = index["_class_name"] == XL, index["vae"][1]
    texts: tuple[str, ...] = ("text_encoder", "text_encoder_2") if two else ("text_encoder",)
    configs = {part: read_config(folder / part / "config.json") for part in dict.fromkeys((*NETWORKS, *texts))}
    for part, config in configs.items():
        check_network(folder, part, config)
    check_vae(folder / "vae" / "config.json", configs["vae"], vae)
    tokens = check_texts(folder, {part: configs[part] for part in texts})
    path, width = folder / "unet" / "config.json", sum(configs[part].get("hidden_size", 512) for part in texts)
    pooled = configs[texts[1]].get("projection_dim", 512) if two else None
    check_unet(path, configs["unet"], configs["vae"].get("latent_channels", 4), width, pooled)
    side, doubt = latent_side(path, configs["unet"])
    path = folder / "scheduler" / "scheduler_config.json"
    scheduler = read_config(path)
    schedule, prediction = read_schedule(scheduler, path), one_of(path, scheduler, "prediction_type", PREDICTIONS, "epsilon")
    if scheduler.get("_class_name") == "LCMScheduler":
        warnings.append(f"{path} is of a latent consistency model (LCMScheduler). {AS_TEACHER}")
    elif configs["unet"].get("time_cond_proj_dim") is not None:
        warnings.append(f"{folder}: guidance is an input of its U-Net (time_cond_proj_dim), as in consistency models. {AS_TEACHER}")
    # diffusers' own default is true
    zero_empty = two and one_of(folder / "model_index.json", index, "force_zeros_for_empty_prompt", (True, False), True)
    return Admission(vae, schedule, prediction, tokens, side, (*doubt, *warnings), two, zero_empty)


AS_TEACHER = "A teacher's sampler takes it for an ordinary diffusion model, so its pictures are not those of its own sampler."


def check_kind(path: Path) -> dict[str, Any]:
    """Read a model_index.json, and check that its pipeline is of a kind that is sampled here. Raises Unfit or DamagedAsset."""
    index = read_config(path)
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        why = next((f"This one is {why}. " for head, why in ELSEWHERE.items() if isinstance(kind, str) and kind.startswith(head)), "")
        names = f"{', '.join(PIPELINES[:-1])} and {PIPELINES[-1]}"
        raise refuse(path, "_class_name", kind, f"{names}, text to image by a U-Net. {why}Pictures of any model can be measured: "
                                                "scottbench score DIR --prompts FILE")
    return index


def check_index(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Check the classes that model_index.json names, and return what it says, with warnings. Raises Unfit or DamagedAsset."""
    index = check_kind(path)
    kind = index["_class_name"]
    for part, (library, allowed) in (CLASSES | SECOND if kind == XL else CLASSES).items():
        value = index.get(part)
        if not (isinstance(value, list) and len(value) == 2 and value[0] == library and value[1] in allowed):
            # the schedulers are many
            known = " or ".join(allowed) if len(allowed) < 4 else f"schedulers with betas, such as {allowed[0]}"
            raise refuse(path, part, value, f"{known} of {library}")
    return index, [f"{path.parent} is a latent consistency model. {AS_TEACHER}"] if kind == LCM else []


def check_network(folder: Path, part: str, config: dict[str, Any]) -> None:
    """Check what all networks share: no quantisation, adapter or code, and weights that are as large as the config says. Raises Unfit."""
    place = folder / part
    path = place / "config.json"
    for field, supported in (("quantization_config", "weights that are not quantised"), ("auto_map", "no code of its own")):
        if config.get(field) is not None:
            value = config[field]
            method = value.get("quant_method", value) if isinstance(value, dict) else value
            raise refuse(path, field, method, supported)
    for field in ("_attn_implementation", "attn_implementation"):
        if "/" in str(config.get(field)):
            raise refuse(path, field, config[field], "no code from elsewhere")
    if (place / "adapter_config.json").exists():
        raise Unfit(f"{place} holds an adapter (adapter_config.json); supported: whole weights. Merge it into the model first.")
    kind = config.get("_class_name")
    if part in ("unet", "vae") and kind is not None and kind not in CLASSES[part][1]:
        raise refuse(path, "_class_name", kind, " or ".join(CLASSES[part][1]))
    if config.get("norm_num_groups") is not None:
        whole(path, config, "norm_num_groups", 1, 65_536)
    check_shards(place)
    weights = [file for file in sorted(place.glob("*.safetensors")) if "." not in file.stem]
    if weights:
        check_against_weights(path, config, weights, ("projection_dim",) if part == "text_encoder_2" else ())


def check_shards(place: Path) -> None:
    """Check that lists of a part's shards name files beside them only. Raises DamagedAsset."""
    for path in sorted(place.glob("*.index.json")):
        names = read_config(path).get("weight_map")
        if not isinstance(names, dict) or any(type(name) is not str or "/" in name or "\\" in name for name in names.values()):
            raise DamagedAsset(f"cannot read {path}: its weight_map names no files beside it. Restore the file.")


def check_vae(path: Path, config: dict[str, Any], kind: str) -> None:
    """Check that a VAE is of the class that the pipeline names, of RGB pictures, with a usable scaling factor. Raises Unfit."""
    if config.get("_class_name", kind) != kind:
        raise refuse(path, "_class_name", config["_class_name"], f"{kind}, which model_index.json names")
    for field in ("in_channels", "out_channels"):
        one_of(path, config, field, (3,), 3)
    if "scaling_factor" in config and not real(path, config, "scaling_factor", "a number above 0") > 0:
        raise refuse(path, "scaling_factor", config["scaling_factor"], "a number above 0")
    if config.get("shift_factor") is not None:
        real(path, config, "shift_factor", "a number")
    one_of(path, config, "latents_mean", (None,))


def check_texts(folder: Path, configs: dict[str, dict[str, Any]]) -> int:
    """Check text encoders and their tokenizers, and return the length of a prompt in tokens, one for all. Raises Unfit or DamagedAsset."""
    tokens = [check_text(folder, part, config) for part, config in configs.items()]
    if len(set(tokens)) > 1:
        path = folder / "tokenizer_2" / "tokenizer_config.json"
        raise refuse(path, "model_max_length", tokens[1], f"{tokens[0]}, the length of a prompt of the first tokenizer")
    return tokens[0]


def check_text(folder: Path, part: str, config: dict[str, Any]) -> int:
    """Check a text encoder and its tokenizer, and return the length of a prompt in tokens. Raises Unfit or DamagedAsset.

    A tokenizer that does not name its length has that of the text encoder.
    """
    path = folder / part / "config.json"
    one_of(path, config, "model_type", ("clip_text_model",), "clip_text_model")
    one_of(path, config, "use_attention_mask", (False, None))
    positions = whole(path, {"max_position_embeddings": 77, **config}, "max_position_embeddings", 3, 10_000)
    place = folder / part.replace("text_encoder", "tokenizer")
    for file in sorted(place.iterdir()) if place.is_dir() else ():
        if file.suffix in {".json", ".txt"} and not file.name.startswith("."):
            check_size(file, VOCABULARY_BYTES)
    path = place / "tokenizer_config.json"
    tokenizer = read_config(path) if path.exists() else {}
    for field in ("vocab_file", "merges_file", "tokenizer_file", "auto_map"):
        if tokenizer.get(field) is not None:
            raise refuse(path, field, tokenizer[field], "none: the folder's own files are opened")
    length = tokenizer.get("model_max_length")
    if length is None or (isinstance(length, (int, float)) and length >= UNSET):
        return positions
    return whole(path, tokenizer, "model_max_length", 3, positions)


def check_unet(path: Path, config: dict[str, Any], channels: object, width: object, pooled: int | None = None) -> None:
    """Check that a U-Net takes latents of so many channels, a time and text of such a width, and nothing else, but for a pooled embedding
    of so many numbers and a picture's sizes where `pooled` is not None. Raises Unfit."""
    for field in ("in_channels", "out_channels"):
        if config.get(field, 4) != channels:
            raise refuse(path, field, config.get(field, 4), f"{channels}, the channels of a latent of its VAE")
    if pooled is not None:
        check_added(path, config, pooled)
    for field in EXTRAS if pooled is None else EXTRAS[1:]:
        if config.get(field) is not None:
            raise refuse(path, field, config[field], "null: inputs are latents, time and text")
    widths = leaves(config.get("cross_attention_dim", 1280))
    if any(found != width for found in widths) or not widths:
        raise refuse(path, "cross_attention_dim", config.get("cross_attention_dim", 1280), f"{width}, the width of its text encoder")


def check_added(path: Path, config: dict[str, Any], pooled: int) -> None:
    """Check that a U-Net takes, beside hidden states, a pooled embedding of so many numbers and a picture's sizes. Raises Unfit."""
    one_of(path, config, "addition_embed_type", ("text_time",))
    each = whole(path, config, "addition_time_embed_dim", 1, 100_000)
    if config.get("projection_class_embeddings_input_dim") != (total := pooled + SIZE_IDS * each):
        value = config.get("projection_class_embeddings_input_dim")
        raise refuse(path, "projection_class_embeddings_input_dim", value,
                     f"{total}: {pooled} of its second text encoder and {SIZE_IDS} times {each}")


def admit_student(folder: Path, teacher: DiffusionModel) -> None:
    """Check by its config that the U-Net of a student folder fits its teacher's latents and text. Raises Unfit or DamagedAsset."""
    path = Path(folder) / "unet" / "config.json"
    config = read_config(path)
    check_network(Path(folder), "unet", config)
    taught = teacher.unet.config
    check_unet(path, config, taught.in_channels, leaves(taught.cross_attention_dim)[0], pooled_width(taught))


def pooled_width(config: Any) -> int | None:
    """Return how many numbers a pooled embedding has that an opened U-Net takes, by its config; None where it takes none."""
    if getattr(config, "addition_embed_type", None) != "text_time":
        return None
    return int(config.projection_class_embeddings_input_dim - SIZE_IDS * config.addition_time_embed_dim)


def latent_side(path: Path, config: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the height and width of a latent by a U-Net's config, with a warning where they are not as written. Raises Unfit.

    Conversions to diffusers before 0.9 wrote 32 for Stable Diffusion 1.x, whose latents are 64x64; diffusers' pipelines take 64 too.
    """
    value = config.get("sample_size")
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if type(value) is not int or not 1 <= value <= SIDES:
        hint = ' (64 for pictures of 512x512 by a VAE that shrinks by 8: write "sample_size": 64)' if value is None else ""
        raise refuse(path, "sample_size", value, f"the side of a square latent, 1 to {SIDES}{hint}")
    version = str(config.get("_diffusers_version", "")).split(".")[:2]
    if value == 32 and len(version) == 2 and version[0] == "0" and version[1].isdecimal() and int(version[1]) < 9:
        return 64, [f"{path}: sample_size is 32 in a conversion by diffusers 0.{version[1]}, which wrote 32 for 64. Latents are 64x64."]
    return value, []


def read_schedule(config: dict[str, Any], path: Path = Path("scheduler_config.json")) -> Schedule:
    """Turn a diffusers scheduler config into a Schedule. Raises Unfit for an unknown one, rather than to guess. path: its name."""
    if (kind := config.get("_class_name")) is not None and kind not in SCHEDULERS:
        raise refuse(path, "_class_name", kind, f"schedulers with betas, such as {SCHEDULERS[0]}")
    makers = {"scaled_linear": Schedule.scaled_linear, "linear": Schedule.linear}
    name = one_of(path, config, "beta_schedule", tuple(makers), "linear")
    for key in ("trained_betas", "rescale_betas_zero_snr"):
        one_of(path, config, key, (None, False))
    # configs written by hand or by other tools hold the numbers as text
    betas = "0 < beta_start <= beta_end < 1"
    start, end = (real(path, config, key, betas) for key in ("beta_start", "beta_end"))
    if not 0 < start <= end < 1:
        raise refuse(path, "beta_start, beta_end", [start, end], betas)
    return makers[name](start, end, whole(path, config, "num_train_timesteps", 1, 100_000))
