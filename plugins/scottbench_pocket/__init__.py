"""The embedded default: Emoji-5K, a small latent diffusion model in Stable Diffusion's form, its students and its evaluator."""

from pathlib import Path

from scottbench import Dataset, Model, hookimpl, lazy

HERE = Path(__file__).parent


@hookimpl
def register_models() -> list[Model]:
    """Register the pocket model."""
    return [
        Model(
            name="pocket",
            summary="embedded 64x64 latent diffusion model trained on Emoji-5K (Stable Diffusion's form, 16x16x4 latents)",
            open=lazy("scottbench_pocket.model:open_pocket"),
            folder=lambda: HERE / "assets" / "model",
        )
    ]


@hookimpl
def register_datasets() -> list[Dataset]:
    """Register Emoji-5K."""
    return [
        Dataset(
            name="emoji5k",
            summary="5,000 held-out emoji of six icon families with captions, 64x64 (and a training split)",
            open=lazy("scottbench_pocket.emoji5k:Emoji5K"),
            licence="Apache-2.0 (Noto), CC BY 4.0 (Twemoji, EmojiOne 2), MIT (Fluent Emoji)",
        )
    ]


@hookimpl
def register_presets() -> list[Path]:
    """Register the preset of this setting."""
    return [HERE / "pocket.toml"]
