"""How long it takes until something happens: `python tests/speed/first_call.py`.

`scottbench run -n 16` until its first network call and its first U-Net call, beside `import torch` alone; `scottbench --help` and `import
scottbench` beside `python -c pass`. Each in fresh processes that take turns, median of 5; the first round only warms the disk cache.
Wall time depends on what else the machine does, which is printed; user CPU time hardly does.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from common import machine

RUN = """
import os, resource, sys, time
from scottbench.models.importing import importing
with importing():
    import torch
seen = set()
def tell(module, arguments):
    kind = "U-Net" if type(module).__name__ == "UNet2DConditionModel" else "network"
    if kind not in seen:
        seen.add(kind)
        user = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        print("call", kind, time.monotonic() - float(sys.argv[1]), user, file=sys.__stdout__, flush=True)
    if kind == "U-Net":
        os._exit(0)
torch.nn.modules.module.register_module_forward_pre_hook(tell)
from scottbench.cli import main
main(["run", "-n", "16", "-q", "-o", sys.argv[2]])
"""
"""Runs until the first call of a U-Net; says when, and when the first network of any kind was called."""
PROGRAMS = {"pass": "pass", "import torch": "import torch", "import scottbench": "import scottbench",
            "--help": "from scottbench.cli import main; main(['--help'])", "run": RUN}  # fmt: skip


def seconds(program: str) -> dict[str, tuple[float, float]]:
    """Run a program in a fresh process: {moment: (wall, user CPU) seconds since its start}."""
    with tempfile.TemporaryDirectory() as folder:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.monotonic()
        command = [sys.executable, "-c", program, str(started), os.path.join(folder, "run")]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        end = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    calls = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("call ")]
    return {f"first {kind} call": (float(wall), float(user)) for kind, wall, user in calls} or {"end": end}


def medians(repeat: int) -> dict[str, tuple[float, float]]:
    """Medians of (wall, user CPU) seconds, by program or moment; the programs take turns."""
    found: dict[str, list[tuple[float, float]]] = {}
    for turn in range(repeat + 1):
        for name, program in PROGRAMS.items():
            for moment, taken in seconds(program).items():
                found.setdefault(name if moment == "end" else moment, []).extend([taken] if turn else [])
    wall, user = ({name: statistics.median(one[i] for one in taken) for name, taken in found.items()} for i in (0, 1))
    return {name: (wall[name], user[name]) for name in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each (default 5)")
    load = os.getloadavg()[0]
    found = medians(parser.parse_args().repeat)
    print(f"{machine()}; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    for name, (wall, user) in found.items():
        print(f"{name:<20} wall {wall:6.2f} s, user CPU {user:6.2f} s")
    for name, base, target in [("first network call", "import torch", 2.0), ("first U-Net call", "import torch", None)]:
        ratios = [of / to for of, to in zip(found[name], found[base])]
        verdict = "" if target is None else f" (target {target:g}: {'met' if ratios[1] <= target else 'MISSED'})"
        print(f"{name}: {ratios[0]:.1f} times {base} by wall, {ratios[1]:.1f} by user CPU{verdict}")
    for name, limit in [("--help", 0.4), ("import scottbench", 0.06)]:
        over = [of - to for of, to in zip(found[name], found["pass"])]
        verdict = "met" if over[1] <= limit else "MISSED"
        print(f"{name}: {over[0]:.3f} s over pass by wall, {over[1]:.3f} by user CPU (target {limit:g}: {verdict})")


if __name__ == "__main__":
    main()
