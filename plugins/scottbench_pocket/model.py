"""The embedded model, opened."""

from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.pipeline import open_pipeline
from scottbench_pocket import HERE


def open_pocket(device: str = "cpu", dtype: str = "float32") -> DiffusionModel:
    """Open the pocket teacher. Its weights are stored as fp16 and computed in `dtype`; CPUs without bf16 units want float32.

    Raises DamagedAsset for files that are not those that were shipped, MissingAsset for absent ones.
    """
    return open_pipeline(HERE / "assets" / "model", device, dtype)
