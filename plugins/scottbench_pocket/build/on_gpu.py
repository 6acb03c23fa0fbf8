"""Train the pocket students and their ablations on one accelerator, side by side, each group with the same number of counted passes, and
make the runs of the published reports with them.

    python -m scottbench_pocket.build.on_gpu --out DIR --passes 400000 [--ablation-passes 80000] [--minutes 7] [--device cuda] [--jobs 16]
        [--batch 64] [--only main ablations] [--teacher FOLDER] [--extra FILE] [--tiny]

A small U-Net leaves a large accelerator idle between its kernels, so the trainings run side by side as processes. Each student is a
folder in DIR with fp16 safetensors, student.json and log.jsonl, trained in float32 with TF32 products, which its student.json says.
FILE holds lines "NAME TRAINER WORDS" of further trainings; `--rates` measures the passes a second of a few updates of each and stops;
`--tiny` tries the script on a CPU: a few updates each.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import common

RATE = "-O lr=3e-4"
"""Learning rate for batches of 64; the preset's is for 32."""
MAIN = {
    "scott": f"scott {RATE}", "scott-1": f"scott --seed 1 {RATE}", "cd": f"cd {RATE}", "cd-1": f"cd --seed 1 {RATE}",
    "instaflow": f"instaflow {RATE} -O distil_lr=3e-4", "ufogen": f"ufogen {RATE} -O adv_weight=1.0",
}  # fmt: skip
"""Name -> trainer and words of its command line: the students that are shipped, and a second training of two of them."""
AXES = {
    "reference": "", "ode": "-O solver=ode", "none": "-O discriminator=none", "h1": "-O h=1", "full": "-O discriminator=full",
    "unconditional": "-O discriminator=unconditional", "eta03": "-O solver=ddim -O eta=0.3", "clean": "-O disc_input=clean",
    "flat": "-O weight=one", "fixed": "-O adv_scale=fixed", "half": "-O strength=0.5", "noreuse": "-O reuse=1 -O disc_every=1",
}  # fmt: skip
"""Ablation -> the option of SCott that it changes; each is trained with two seeds. The first are those of the paper's claims."""


@dataclass
class Job:
    """One training: a process, and its folder."""

    name: str
    words: list[str]
    """Trainer, and words of its command line."""
    ablation: bool = False

    def command(self, folder: Path, arguments: argparse.Namespace, *budget: str) -> list[str]:
        """Give the command line of the training."""
        words = [sys.executable, "-m", "scottbench", "train", self.words[0], "-q", "-o", str(folder / self.name)]
        words += ["-b", str(arguments.batch), "--device", arguments.device, "--evaluate-every", "0", "--precision", "float32"]
        words += ["--checkpoint-minutes", "0"]
        words += [] if arguments.device == "cpu" else ["--tf32"]
        words += [] if arguments.teacher is None else ["--model", str(arguments.teacher)]
        return words + [*budget, *self.words[1:]]


def jobs(only: Iterable[str], extra: Path | None = None) -> list[Job]:
    """List the trainings; only: names, or "main", "extra" or "ablations" for all of those; extra: a file of further ones."""
    wanted = set(only)
    found = [Job(name, shlex.split(words)) for name, words in MAIN.items() if {"main", name} & wanted]
    for line in extra.read_text(encoding="utf-8").splitlines() if extra is not None else []:
        if words := shlex.split(line, comments=True):
            found += [Job(words[0], words[1:])] if {"extra", words[0]} & wanted else []
    for axis, options in AXES.items():
        for seed in ("0", "1"):
            name = f"{axis}-{seed}"
            if {"ablations", name} & wanted:
                found.append(Job(name, ["scott", "--seed", seed, *shlex.split(f"{RATE} {options}")], ablation=True))
    return found


def run_all(commands: dict[str, list[str]], at_once: int, deadline: float, logs: Path) -> dict[str, int]:
    """Run processes, `at_once` at a time in the order given, and return name -> exit code. At the deadline those that still run are asked
    to stop (their checkpoints are kept). What a process says goes to LOGS/NAME.txt."""
    waiting, running, ended = list(commands.items()), {}, {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if at_once > 1 else os.environ.get("OMP_NUM_THREADS", "1")}
    logs.mkdir(parents=True, exist_ok=True)
    while waiting or running:
        while waiting and len(running) < at_once and time.monotonic() < deadline:
            name, words = waiting.pop(0)
            with (logs / f"{name}.txt").open("w") as said:
                running[name] = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, env=environment)
        late = time.monotonic() > deadline
        for process in running.values() if late else ():
            process.terminate()
        for name, process in list(running.items()):
            if late:
                process.wait()
            if process.poll() is not None:
                code = running.pop(name).returncode
                ended[name] = code
                said = (logs / f"{name}.txt").read_text(errors="replace").strip().splitlines()
                common.log(f"{name}: exit {code}" + (f": {' | '.join(said[-3:])[:400]}" if code else ""))
        if late and not running:
            ended |= {name: -1 for name, _ in waiting}
            break
        time.sleep(0.1)
    return ended


def rates(found: list[Job], folder: Path) -> dict[str, int]:
    """Read from the logs of trainings how many passes a second each made after its first logged step."""
    result = {}
    for job in found:
        path = folder / job.name / "log.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        if len(lines) > 1:
            first, last = lines[0], lines[-1]
            result[job.name] = round((last["passes"] - first["passes"]) / max(1e-9, last["seconds"] - first["seconds"]))
    return result


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--passes", type=int, default=400_000, help="of each main student (default: %(default)s)")
    parser.add_argument("--ablation-passes", type=int, default=80_000, help="of each ablation (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=7.0, help="trainings that still run then are stopped (default: %(default)s)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--jobs", type=int, default=16, help="trainings at once (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--only", nargs="+", default=["main"], help="main, extra, ablations, or names (default: main)")
    parser.add_argument("--teacher", type=Path, help="a pipeline folder in place of the shipped teacher")
    parser.add_argument("--extra", type=Path, help="file of further trainings")
    parser.add_argument("--rates", type=int, metavar="UPDATES", help="make so many updates of each, and measure")
    parser.add_argument("--tiny", action="store_true", help="a few updates on a CPU")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.device, arguments.batch, arguments.jobs, arguments.minutes = "cpu", 4, 1, 60.0
        arguments.passes, arguments.ablation_passes = 600, 600
    return arguments


def main() -> None:
    """Train, and write what was done to OUT/on_gpu.json."""
    arguments = options()
    started, found, out = time.monotonic(), jobs(arguments.only, arguments.extra), arguments.out
    deadline = started + 60 * arguments.minutes
    # one first, alone: it encodes the training split for all
    first = {found[0].name: found[0].command(out / "first", arguments, "--max-steps", "1")}
    run_all(first, 1, deadline, out / "logs")
    common.log(f"encoded; {len(found)} trainings, {arguments.jobs} at once, {deadline - time.monotonic():.0f} s left")
    commands = {}
    for job in found:
        budget = ("--passes", str(arguments.ablation_passes if job.ablation else arguments.passes))
        if arguments.rates:
            budget = ("--max-steps", str(arguments.rates))
        commands[job.name] = job.command(out, arguments, *budget)
    ended = run_all(commands, arguments.jobs, deadline, out / "logs")
    common.write_json(out / "on_gpu.json", {
        "passes": arguments.passes, "ablation_passes": arguments.ablation_passes, "batch": arguments.batch, "exit_codes": ended,
        "seconds": round(time.monotonic() - started, 1), "passes_per_second": rates(found, out), "jobs_at_once": arguments.jobs,
    })  # fmt: skip
    common.log(f"done: {sum(code == 0 for code in ended.values())} of {len(ended)} trainings ended whole; {rates(found, out)}")


if __name__ == "__main__":
    main()
