"""Write the features that a preset brings of its teacher's images: `teachers` of the preset, out of the cache, where a run left them.

    python -m scottbench.run.brought PRESET METRIC

The preset names a folder (`teachers = "..."`); METRIC compares with the teacher's images. Run the teacher with that
metric on all prompts first: its features are then in the cache.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from scottbench.errors import ScottbenchError, UsageError
from scottbench.plan.plan import Plan, make_plan
from scottbench.plan.request import RunRequest
from scottbench.plan.teachers import brought_file, kept_file
from scottbench.registry.loader import load_plugins
from scottbench.run.teacher import read_kept, write_kept


def bring(plan: Plan) -> list[Path]:
    """Write the features that the metrics of a plan compare with, in half precision, to its preset's folder, one file for each extractor.
    Raises UsageError for a preset that names no folder or a plan without such a metric, DamagedAsset where the cache has none that are
    whole."""
    files = []
    for images, role in [(metric.teacher, role) for metric in plan.metrics for role in metric.noun.roles]:
        if images is None:
            continue
        source = plan.sources[plan.roles[role]]
        path = brought_file(images, source, plan.preset)
        if path is None:
            raise UsageError(f'preset \'{plan.preset.name}\' names no folder for them. Write in its file: teachers = "FOLDER"')
        path.parent.mkdir(parents=True, exist_ok=True)
        write_kept(path, read_kept(kept_file(images, source), plan.n), np.float16)
        files.append(path)
    if not files:
        raise UsageError("no metric of the plan compares with the teacher's images.")
    return files


def main(preset: str, metric: str) -> int:
    """Write the files of a preset and a metric, and say which; return the exit code."""
    try:
        for path in bring(make_plan(load_plugins(), RunRequest(preset, metrics=[metric]))):
            sys.stdout.write(f"{path.name}: {path.stat().st_size:,} bytes\n")
    except ScottbenchError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
