"""Take the teacher's rows out of a published run, for `recorded` of the preset: they are shown beside every run of equal N and prompts.

    python -m scottbench_pocket.build.recorded reports/pocket-main
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scottbench.store.record import CellRecord, read_record

from . import common


def rows(folder: Path) -> dict[str, Any]:
    """Give the document: every row of `folder` (a run of one seed of sampling noise) that samples from the teacher itself."""
    record = read_record(folder)
    teacher = [cell for cell in record.cells if cell.facts["student"] is None and cell.facts["error"] is None]
    return {
        "schema": "scottbench.recorded/1", "source": f"{folder.parent.name}/{folder.name}",
        "version": record.manifest["environment"]["packages"]["scottbench"], "rows": [row(cell) for cell in teacher],
    }  # fmt: skip


def row(cell: CellRecord) -> dict[str, Any]:
    """Give one row, with every metric that has a value."""
    values = {}
    for metric, value in cell.values.items():
        interval = cell.intervals.get(metric)
        values[metric] = {"value": value, "low": None if interval is None else interval.low,
                          "high": None if interval is None else interval.high, "fingerprint": cell.fingerprints[metric][1]}  # fmt: skip
    return {"method": cell.method, "steps": cell.steps, "nfe": cell.facts["nfe"], "n": cell.n, "values": values}


def main() -> None:
    """Write assets/recorded.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the published run")
    parser.add_argument("--out", type=Path, default=common.ASSETS / "recorded.json")
    arguments = parser.parse_args()
    common.write_json(arguments.out, rows(arguments.folder))


if __name__ == "__main__":
    main()
