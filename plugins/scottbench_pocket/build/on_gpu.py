"""Train the pocket students and their ablations on one accelerator, all at once, each with the same number of counted passes.

    python -m scottbench_pocket.build.on_gpu --out DIR [--minutes 9] [--device cuda] [--jobs 6] [--tiny]

A small U-Net leaves a large accelerator idle between its kernels, so the trainings run side by side as processes. A trial of each
measures how fast it goes beside the others; the number of passes, equal for all, is what the slowest can do in the time that is left. Each
student is a folder in DIR with fp16 safetensors, student.json and log.jsonl. `--tiny` tries the script on a CPU: a few updates each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import common

MAIN = {
    "cd": ("cd", {}), "cd-1": ("cd", {"seed": "1"}), "scott": ("scott", {}), "scott-1": ("scott", {"seed": "1"}),
    "instaflow": ("instaflow", {}), "ufogen": ("ufogen", {}),
}  # fmt: skip
"""Name -> (trainer, settings): the students that are shipped, and a second training of two of them."""
AXES = {
    "reference": {}, "ode": {"solver": "ode"}, "eta03": {"solver": "ddim", "eta": "0.3"}, "half": {"strength": "0.5"}, "h1": {"h": "1"},
    "none": {"discriminator": "none"}, "full": {"discriminator": "full"}, "unconditional": {"discriminator": "unconditional"},
    "clean": {"disc_input": "clean"}, "flat": {"weight": "one"}, "fixed": {"adv_scale": "fixed"},
}  # fmt: skip
"""Ablation -> the option of SCott that it changes; each is trained with two seeds."""
SPARE = 25.0
"""Seconds left for the export of the students."""


@dataclass
class Job:
    """One training: a process, its folder, and what it measured in its trial."""

    name: str
    trainer: str
    settings: dict[str, str]
    options: dict[str, str] = field(default_factory=dict)
    rate: float = 0.0
    """Passes per second beside the others."""

    def command(self, folder: Path, batch: int, device: str, *budget: str) -> list[str]:
        """Give the command line of the training."""
        words = [sys.executable, "-m", "scottbench", "train", self.trainer, "-q", "-o", str(folder / self.name), "-b", str(batch)]
        words += ["--device", device, "--evaluate-every", "0", "--precision", "float32", *budget]
        words += [word for key, value in self.settings.items() for word in (f"--{key}", value)]
        return words + [word for key, value in self.options.items() for word in ("-O", f"{key}={value}")]


def jobs(only: Iterable[str]) -> list[Job]:
    """List the trainings; only: names, or "main" or "ablations" for all of those."""
    wanted = set(only)
    found = [Job(name, trainer, settings) for name, (trainer, settings) in MAIN.items() if {"main", name} & wanted]
    for axis, options in AXES.items():
        for seed in ("0", "1"):
            name = f"{axis}-{seed}"
            if {"ablations", name} & wanted:
                found.append(Job(name, "scott", {"seed": seed}, options))
    return found


def run_all(commands: dict[str, list[str]], at_once: int, deadline: float) -> dict[str, int]:
    """Run processes, `at_once` at a time, and return name -> exit code. At the deadline those that still run are asked to stop (their
    checkpoints are kept)."""
    waiting, running, ended = list(commands.items()), {}, {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if at_once > 1 else os.environ.get("OMP_NUM_THREADS", "1")}
    while waiting or running:
        while waiting and len(running) < at_once and time.monotonic() < deadline:
            name, words = waiting.pop(0)
            running[name] = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=environment)
        for name, process in list(running.items()):
            if time.monotonic() > deadline and process.poll() is None:
                process.terminate()
                process.wait()
            if process.poll() is not None:
                ended[name] = running.pop(name).returncode
        if time.monotonic() > deadline and not running:
            ended |= {name: -1 for name, _ in waiting}
            break
        time.sleep(0.1)
    return ended


def log_rates(found: list[Job], folder: Path) -> None:
    """Read from the trials' logs how many passes a second each training made after its first step."""
    for job in found:
        lines = [json.loads(line) for line in (folder / job.name / "log.jsonl").read_text().splitlines()]
        first, last = lines[0], lines[-1]
        job.rate = (last["passes"] - first["passes"]) / max(1e-9, last["seconds"] - first["seconds"])
        common.log(f"{job.name}: {job.rate:,.0f} passes a second")


def equal_passes(found: list[Job], seconds: float, at_once: int) -> int:
    """Return the passes that every training of a group can make within the seconds, run in rounds of `at_once`."""
    rounds = -(-len(found) // at_once)
    return int(min(job.rate for job in found) * seconds / rounds)


def main() -> None:
    """Try, divide the time, train, and write what was done to OUT/on_gpu.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="all in all (default: %(default)s)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--jobs", type=int, default=6, help="trainings at once (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--only", nargs="+", default=["main"], help="main, ablations, or names (default: main)")
    parser.add_argument("--trial-steps", type=int, default=41)
    parser.add_argument("--tiny", action="store_true", help="a few updates on a CPU")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.device, arguments.batch, arguments.jobs, arguments.trial_steps, arguments.minutes = "cpu", 4, 1, 11, 60.0
    started, found = time.monotonic(), jobs(arguments.only)
    deadline = started + 60 * arguments.minutes - SPARE
    trial, out = arguments.out / "trial", arguments.out
    place = (arguments.batch, arguments.device)
    # one first, alone: it encodes the training split for all
    first = {found[0].name: found[0].command(out / "first", *place, "--max-steps", "1")}
    failed = {k: v for k, v in run_all(first, 1, deadline).items() if v}
    trials = {job.name: job.command(trial, *place, "--max-steps", str(arguments.trial_steps)) for job in found}
    failed |= {k: v for k, v in run_all(trials, arguments.jobs, deadline).items() if v}
    found = [job for job in found if job.name not in failed]
    log_rates(found, trial)
    left = deadline - time.monotonic()
    passes = 3000 if arguments.tiny else equal_passes(found, left, arguments.jobs)
    common.log(f"{len(found)} trainings, {passes:,} passes each, {left:.0f} s left")
    ended = run_all({job.name: job.command(out, *place, "--passes", str(passes)) for job in found}, arguments.jobs, deadline + SPARE / 2)
    common.write_json(out / "on_gpu.json", {
        "passes": passes, "batch": arguments.batch, "seconds": round(time.monotonic() - started, 1), "failed": failed, "exit_codes": ended,
        "passes_per_second": {job.name: round(job.rate) for job in found}, "jobs_at_once": arguments.jobs,
    })  # fmt: skip
    common.log(f"done: {sum(code == 0 for code in ended.values())} of {len(ended)} trainings ended whole")


if __name__ == "__main__":
    main()
