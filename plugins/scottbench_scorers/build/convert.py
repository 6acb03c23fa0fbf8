"""Make safetensors of the pickled weights that a scorer is published as; every name and number stays.

    python -m scottbench_scorers.build.convert hpsv2 ~/.cache/scottbench/HPSv2.1/HPS_v2.1_compressed.pt --allow-unsafe-checkpoint

A pickle can hold code. torch's reader for weights alone is used, which runs none of it that is known; whoever trusts the source says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scottbench.errors import DamagedAsset, MissingAsset, ScottbenchError, UsageError
from scottbench_scorers import aesthetic, hpsv2, image_reward

FILES = {"aesthetic": aesthetic.HEAD, "hpsv2": hpsv2.FILE, "image_reward": image_reward.FILE}
"""Scorer -> name of the file that it reads."""


def convert(name: str, pickle: Path, allowed: bool) -> Path:
    """Write the file that a scorer reads beside its published pickle, and return it.

    Raises UsageError for an unknown scorer or where reading a pickle is not allowed, MissingAsset, and DamagedAsset for a file that is
    no pickle of named tensors.
    """
    import torch
    from safetensors.torch import save_file

    if name not in FILES:
        raise UsageError(f"no scorer '{name}' is published as a pickle; known: {', '.join(FILES)}.")
    if not pickle.is_file():
        raise MissingAsset(f"no file {pickle}.")
    if not allowed:
        raise UsageError(f"{pickle} is pickled, and a pickle can run code when it is read. Where you trust its source, add "
                         "--allow-unsafe-checkpoint.")
    try:
        found = torch.load(pickle, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip raise many things
        raise DamagedAsset(f"cannot read {pickle}: {str(error).splitlines()[0]}. Fetch it again.") from None
    found = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise DamagedAsset(f"{pickle} holds no table of named tensors. Fetch it again.")
    target = pickle.with_name(FILES[name])
    save_file({str(key): tensor.detach().clone().contiguous() for key, tensor in found.items()}, target)
    return target


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("scorer", help=", ".join(FILES))
    parser.add_argument("pickle", type=Path)
    parser.add_argument("--allow-unsafe-checkpoint", action="store_true", help="read a pickle of a source that you trust")
    asked = parser.parse_args()
    try:
        print(f"wrote {convert(asked.scorer, asked.pickle, asked.allow_unsafe_checkpoint)}")
    except ScottbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
