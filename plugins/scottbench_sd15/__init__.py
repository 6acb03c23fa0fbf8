"""Stable Diffusion 1.5 on MSCOCO-2017: the setting of the few-step papers at full size. Nothing of it is shipped; see README.md."""

from pathlib import Path

from scottbench import Dataset, Model, hookimpl, lazy

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
    """Register COCO 2017."""
    return [
        Dataset(
            name="coco2017-5k",
            summary="MSCOCO 2017 validation, 5,000 images at 512x512, the caption with the lowest id of each (and train2017)",
            open=lazy("scottbench_sd15.coco:open_coco2017"),
            licence="captions CC BY 4.0; images under their owners' Flickr terms (cocodataset.org)",
            sizes={"evaluation": 5_000, "train": 118_287},
        )
    ]


@hookimpl
def register_presets() -> list[Path]:
    """Register the preset of this setting, and SCott's tables."""
    return [HERE / "sd15.toml", *sorted(HERE.glob("scott-paper-*.toml"))]
