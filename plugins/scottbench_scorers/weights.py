"""Weights of a scorer against its network: every name and shape, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import DamagedAsset, UsageError
from scottbench.models.importing import importing

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Sequential

PLACES = (0, 2, 4, 6, 7)
"""Numbers of the five linear layers in the heads of ImageReward and of LAION's predictor; the others are dropout."""
CONVERT = "python -m scottbench_scorers.build.convert {name} {{folder}}/{pickle} --allow-unsafe-checkpoint"
"""The line that makes safetensors of a published pickle, which no run reads."""


def fetched(name: str, fetch: str, pickle: str) -> str:
    """Write the lines that fetch a published pickle and convert it. fetch: with {folder}, where it goes."""
    return f"{fetch}, then: {CONVERT.format(name=name, pickle=pickle)}"


def read(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file, float32 of any shape. Raises SafetensorError or OSError."""
    from safetensors.torch import load_file

    return {name: tensor.float() for name, tensor in load_file(path).items()}


def open_clip_of(name: str, path: Path, what: str, **form: Any) -> Any:
    """Make a model of open_clip in float32 and load the weights of a file. what: whose it is, for a message; form: as of `create_model`.

    Raises DamagedAsset for weights of another model, UsageError for one that open_clip does not know.
    """
    with importing():
        import open_clip

    if open_clip.get_model_config(name) is None:
        raise UsageError(f"open_clip knows no model '{name}'. {what}.")
    clip = open_clip.create_model(name, pretrained=None, load_weights=False, precision="fp32", **form)
    load_exactly(clip, read(path), path, f"open_clip's {name}")
    return clip


def side_of(tower: Any) -> int:
    """Return the input height and width of an image tower of open_clip."""
    size = tower.image_size
    return int(size if isinstance(size, int) else size[0])


def linears(width: int, outputs: Sequence[int]) -> Sequential:
    """Make a head of linear layers with nothing between them but dropout, which does nothing here: (N,width) -> (N,outputs[-1]).

    The layers have the numbers, `PLACES`, that they have in the published nn.Sequential.
    """
    from torch.nn import Linear, Sequential

    head = Sequential()
    for place, before, out in zip(PLACES, (width, *outputs), outputs):
        head.add_module(str(place), Linear(before, out))
    return head


def load_exactly(network: Module, weights: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load weights that have every name and shape of a network, and no other. Raises DamagedAsset, which names the first that differs.

    what: the architecture, for the message.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name, shape in wanted.items():
        if found.get(name) != shape:
            has = f"has it as {found[name]}" if name in found else "lacks it"
            raise DamagedAsset(f"{path} is of another model: {what} has {name} as {shape}, and the file {has}. Fetch the weights again.")
    extra = sorted(found.keys() - wanted.keys())
    if extra:
        raise DamagedAsset(f"{path} is of another model: it has {extra[0]}, which {what} has not. Fetch the weights again.")
    network.load_state_dict(dict(weights), strict=True)
