"""Opens the embedded model."""

from scottbench.models.pipeline import open_pipeline
from scottbench_pocket import HERE


def open_pocket(device: str = "cpu", dtype: str = "float32"):
    """The pocket teacher as a DiffusionModel; stored as fp16, computed in `dtype` (CPUs without bf16 units want float32)."""
    return open_pipeline(HERE / "assets" / "model", device, dtype)
