"""Take the teacher's rows out of a published run, for `recorded` of the preset: they are shown beside every run of equal N and prompts.

    python -m scottbench_pocket.build.recorded reports/pocket-main
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import scottbench

from . import common


def rows(folder: Path) -> dict[str, Any]:
    """Give the document: every row of `folder` (a run of one seed of sampling noise) that samples from the teacher itself."""
    run = scottbench.open_run(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found = run.results.filter(run.results["value"].is_not_null()).to_dicts()
    return {
        "schema": "scottbench.recorded/1", "source": f"{folder.parent.name}/{folder.name}",
        "version": manifest["environment"]["packages"]["scottbench"], "model": manifest["plan"]["model"]["digest"],
        "rows": [row(cell, found) for cell in manifest["cells"] if cell["student"] is None and cell["error"] is None],
    }  # fmt: skip


def row(cell: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the row of a cell of the manifest, with every metric of it in `results`, rows of results.parquet."""
    place = (cell["method"], cell["steps"], cell["seed"])
    own = [one for one in results if (one["method"], one["steps"], one["seed"]) == place]
    values = {one["metric"]: {"value": one["value"], "low": one["ci_low"], "high": one["ci_high"], "fingerprint": one["fingerprint"]}
              for one in own}  # fmt: skip
    return {"method": cell["method"], "steps": cell["steps"], "nfe": cell["nfe"], "n": own[0]["n"], "values": values}


def main() -> None:
    """Write assets/recorded.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the published run")
    parser.add_argument("--out", type=Path, default=common.ASSETS / "recorded.json")
    arguments = parser.parse_args()
    common.write_json(arguments.out, rows(arguments.folder))


if __name__ == "__main__":
    main()
