"""Measure students and teachers on items of the training split, where settings are chosen: FID and CLIP score, one line of JSON a row.

    python tests/gpu/judge.py --out FILE.jsonl [--n 1024] [--device cuda] [--model FOLDER] ROW ...

ROW is STUDENT_FOLDER:METHOD:STEPS, or GUIDANCE:METHOD:STEPS of the teacher, such as 3:ddim:25. N prompts of the training split are drawn
with a fixed seed; the reference is all of its images. Items whose loss the polish of the teacher was watched on are among them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from scottbench_pocket.build import common, measure

from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.models.sampling import Sampler, embed_prompts
from scottbench.models.student import read_student, sampler_defaults
from scottbench.plan.device import choose_micro_batch
from scottbench.registry.loader import load_plugins
from scottbench.registry.options import make_options, options_of


def main() -> None:
    """Sample and measure every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="ROW")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", type=Path, default=common.ASSETS / "model")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plugins, teacher = load_plugins(), open_pipeline(arguments.model, arguments.device)
    images, captions = common.load_split("train")
    order = np.random.default_rng(5).permutation(len(captions))[: arguments.n]
    prompts, ids = [captions[i] for i in order], [f"t{i}" for i in order]
    judge = measure.Judge(common.ASSETS / "evaluator", images)
    fixed, size = choose_micro_batch(arguments.device, teacher.latent_shape), 128 if arguments.device == "cpu" else 512
    with torch.inference_mode():
        text, uncond = embed_prompts(teacher, prompts, fixed, size), teacher.empty_prompt()
    for word in arguments.rows:
        what, name, steps = word.rsplit(":", 2)
        method, began = plugins.find("method", name).noun, time.monotonic()
        if what.replace(".", "", 1).isdigit():
            model, made, guidance = teacher, make_options(method.options, {}, name), float(what)
        else:
            facts = read_student(Path(what))
            model = open_student(teacher, Path(what), method.trainer)
            made = make_options(method.options, sampler_defaults(facts, [one.name for one in options_of(method.options)]), name)
            if facts.get("guidance") != "baked":
                raise SystemExit(f"{what}: its guidance is no constant; judge it by a run.")
            guidance = 1.0
        with torch.inference_mode():
            sampler = Sampler(model, method, name, made, uncond, guidance, int(steps), seed=0)
            pictures = sampler.images(text, ids, fixed, size)
        row = judge(torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))), prompts)
        line = {"what": f"{Path(what).name}:{name}:{steps}", **{key: round(float(value), 4) for key, value in row.items()},
                "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
        common.log(json.dumps(line))
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
