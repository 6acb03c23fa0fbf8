"""Stable Diffusion 1.5, MSCOCO 2017 and 2014, MJHQ and lists of prompts: the papers' settings at full size. Nothing of it is shipped; see
README.md and docs/datasets.md."""

from pathlib import Path

from scottbench import Dataset, Model, hookimpl, lazy
from scottbench_sd15.options import ListOptions, ReferenceOptions

HERE = Path(__file__).parent


@hookimpl
def register_models() -> list[Model]:
    """Register Stable Diffusion 1.5."""
    return [
        Model(
            name="sd15",
            summary="Stable Diffusion 1.5, 512x512: pinned hub revision in the local cache, or the folder in $SCOTTBENCH_SD15",
            open=lazy("scottbench_sd15.model:open_sd15"),
            folder=lazy("scottbench_sd15.model:sd15_folder"),
            configs=lambda: HERE / "configs",
        )
    ]


@hookimpl
def register_datasets() -> list[Dataset]:
    """Register COCO 2017 and 2014, MJHQ, PartiPrompts and DrawBench."""
    coco = "captions CC BY 4.0; images under their owners' Flickr terms (cocodataset.org)"
    return [
        Dataset(
            name="coco2017-5k",
            summary="MSCOCO 2017 validation, 5,000 images at 512x512, the caption with the lowest id of each (and train2017)",
            open=lazy("scottbench_sd15.coco:open_coco2017"),
            licence=coco,
            sizes={"evaluation": 5_000, "train": 118_287},
        ),
        *coco2014_datasets(coco),
        *mjhq_datasets(),
        *lists_of_prompts(),
    ]


def coco2014_datasets(licence: str) -> list[Dataset]:
    """Make the prompts and the reference of MSCOCO 2014."""
    return [
        Dataset(
            name="coco2014-30k",
            summary="MSCOCO 2014, 30,000 captions of val2014 drawn by a fixed rule, against all of its pictures (coco2014-val)",
            open=lazy("scottbench_sd15.coco2014:open_coco2014_30k"),
            licence="CC BY 4.0 (captions)",
            options=ListOptions,
            sizes={"evaluation": 30_000},
            reference="coco2014-val",
        ),
        Dataset(
            name="coco2014-val",
            summary="MSCOCO 2014 validation, all 40,504 images at 512x512: the reference of coco2014-30k",
            open=lazy("scottbench_sd15.coco2014:open_coco2014_val"),
            licence=licence,
            options=ReferenceOptions,
            sizes={"evaluation": 40_504},
        ),
    ]


def mjhq_datasets() -> list[Dataset]:
    """Make MJHQ's two."""
    licence = "none is stated: pictures of Midjourney's users, collected by Playground"
    return [
        Dataset(
            name="mjhq-5k",
            summary="MJHQ-30K, 500 of each of ten categories at 1024x1024, with tables by category",
            open=lazy("scottbench_sd15.mjhq:open_mjhq_5k"),
            licence=licence,
            sizes={"evaluation": 5_000},
        ),
        Dataset(
            name="mjhq-30k",
            summary="MJHQ-30K, all 30,000 pictures of ten categories at 1024x1024, with tables by category",
            open=lazy("scottbench_sd15.mjhq:open_mjhq_30k"),
            licence=licence,
            sizes={"evaluation": 30_000},
        ),
    ]


def lists_of_prompts() -> list[Dataset]:
    """Make the published lists of prompts alone."""
    return [
        Dataset(
            name="parti-prompts",
            summary="PartiPrompts, 1,632 prompts of 12 categories; prompts alone",
            open=lazy("scottbench_sd15.texts:open_parti"),
            licence="Apache 2.0 (google-research/parti)",
            sizes={"evaluation": 1_632},
            reference=None,
        ),
        Dataset(
            name="drawbench",
            summary="DrawBench, 200 prompts of 11 categories; prompts alone",
            open=lazy("scottbench_sd15.texts:open_drawbench"),
            licence="none is stated by the list's authors (Imagen, 2022)",
            sizes={"evaluation": 200},
            reference=None,
        ),
    ]


@hookimpl
def register_presets() -> list[Path]:
    """Register the presets of these settings, and SCott's tables."""
    return [HERE / name for name in ("sd15.toml", "coco2014.toml", "mjhq.toml")] + sorted(HERE.glob("scott-paper-*.toml"))
