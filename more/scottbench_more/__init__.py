"""Students for the embedded preset that the main wheel has no room for: DMD2, PCM and Flash Diffusion. Weights alone."""

from pathlib import Path

from scottbench import hookimpl

__version__ = "0.1.0"


@hookimpl
def register_presets() -> list[Path]:
    """Register what is added to the embedded preset."""
    return [Path(__file__).with_name("more.toml")]
