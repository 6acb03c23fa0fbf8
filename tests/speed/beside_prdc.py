"""Precision, recall, density and coverage beside the prdc package: `python tests/speed/beside_prdc.py` (minutes, 3 GB for prdc)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from common import arguments, features, machine, report, seconds

from scottbench.metrics import prdc


def memory(real: np.ndarray, generated: np.ndarray) -> None:
    """Print the most memory that the process held while our function ran: inputs, what it adds, and interpreter with libraries."""
    prdc(real[:50, :8], generated[:50, :8])  # libraries loaded
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (proc(5)): making the features took more
    before = held("VmRSS")
    prdc(real, generated)
    inputs, peak = (real.nbytes + generated.nbytes) / 1e9, held("VmHWM")
    added = peak - before
    verdict = "met" if inputs + added <= 1 else "MISSED"
    print(f"memory at n = {len(real)}: inputs {inputs:.2f} GB, at most {added:.2f} GB more (target 1 GB together: {verdict}); "
          f"the process {peak:.2f} GB")  # fmt: skip


def held(key: str) -> float:
    """GB by /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024 / 1e9


def main() -> None:
    asked = arguments(__doc__, 10_000, memory=30_000)
    real, generated = features(asked.n, asked.d, 0), features(asked.n, asked.d, 1)
    if asked.only:
        memory(real, generated)
        return
    from prdc import compute_prdc

    print(f"{machine()}; n = {asked.n}, d = {asked.d}, k = 5")
    small = real[:50, :8], generated[:50, :8]
    prdc(*small), seconds(lambda: compute_prdc(*small, 5), 1)  # libraries loaded
    found = {}
    ours = seconds(lambda: found.update(vars(prdc(real, generated))), 1)
    theirs = seconds(lambda: found.update(peer=compute_prdc(real, generated, 5)), 1)
    print("values", {name: (found[name], float(value)) for name, value in found["peer"].items()})
    report("all four", ours, theirs, "prdc", 3)
    subprocess.run([sys.executable, __file__, "-n", str(asked.memory), "-d", str(asked.d), "--only", "ours"], check=True)


if __name__ == "__main__":
    main()
