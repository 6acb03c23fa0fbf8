"""Take the teacher's image features out of the cache, where a run with `fid_t` left them, for `teachers` of the preset.

    python -m scottbench_pocket.build.teachers

Writes assets/teachers/METHOD-STEPS-DIGEST.safetensors in half precision, for all items of the evaluation split.
"""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np

from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.plan.teachers import brought_file, kept_file
from scottbench.registry.loader import load_plugins
from scottbench.run.teacher import read_kept, write_kept

from . import common

FOLDER = "assets/teachers"


def main() -> None:
    """Write the features of the teacher that `fid_t` compares with, in place of those that were there."""
    shutil.rmtree(common.ASSETS / "teachers", ignore_errors=True)
    plugins = load_plugins()
    plan = make_plan(plugins, RunRequest("pocket", device="cpu", methods=["cd"], steps=[2], metrics=["fid_t"]))
    images, source = plan.metrics[0].teacher, plan.sources[plan.roles["image"]]
    assert images is not None
    target = brought_file(images, source, dataclasses.replace(plan.preset, teachers=FOLDER))
    assert target is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    write_kept(target, read_kept(kept_file(images, source), plan.n), np.float16)
    common.log(f"{target.name}: {plan.n:,} items, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
