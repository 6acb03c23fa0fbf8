"""Precision, recall, density and coverage beside the prdc package: `python tests/speed/beside_prdc.py` (several minutes, 2 GB for prdc)."""

from __future__ import annotations

import resource
import subprocess
import sys

from common import arguments, features, machine, report, seconds

from scottbench.metrics import prdc


def main() -> None:
    asked = arguments(__doc__, 10_000)
    real, generated = features(asked.n, asked.d, 0), features(asked.n, asked.d, 1)
    if asked.only:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        prdc(real, generated)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        inputs = (real.nbytes + generated.nbytes) / 1e9
        print(f"peak memory of a process of ours alone: {after:.2f} GB (target 1); its inputs {inputs:.2f} GB, before {before:.2f} GB")
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
    subprocess.run([sys.executable, __file__, "-n", str(asked.n), "-d", str(asked.d), "--only", "ours"], check=True)


if __name__ == "__main__":
    main()
