"""Its claim quotes the numbers the wrong way round."""

from pathlib import Path

from scottbench import hookimpl


@hookimpl
def register_claims():
    return [Path(__file__).parent / "claim.toml"]
