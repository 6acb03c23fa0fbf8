"""The targets of the run store at full size, by hand or with `tox -e crash`; the suite has each in a short form.

    python tests/store/full.py kills       kill -9 at 20 random moments of a 512-prompt run of the default preset, resumed each time
    python tests/store/full.py workers     two processes of `accelerate launch` with one thread each against one process with one
    python tests/store/full.py overhead    share of the run's time that goes into storing
    python tests/store/full.py memory      peak memory of a 5,000-prompt run against a 512-prompt run

Each prints what it measured, and exits 1 where a target is missed. The machine must be idle for all but the first.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scottbench.store.events import read_events
from scottbench.store.files import read_json

COMMAND = [sys.executable, "-P", "-m", "scottbench", "run", "-q"]


def run(folder: Path, *arguments: str, launcher: tuple[str, ...] = (), threads: int | None = None) -> float:
    """Seconds that `scottbench run` took, start included; exits where it failed."""
    environment = dict(os.environ) if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [*launcher, "-m", "scottbench", "run", "-q"] if launcher else COMMAND
    begun = time.monotonic()
    found = subprocess.run([*command, *arguments, "-o", str(folder)], stdout=subprocess.DEVNULL, env=environment)
    if found.returncode:
        sys.exit(f"exit code {found.returncode} of {' '.join(command)}")
    return time.monotonic() - begun


def same(a: Path, b: Path) -> bool:
    return (a / "results.parquet").read_bytes() == (b / "results.parquet").read_bytes()


def report(name: str, good: bool, text: str) -> bool:
    print(f"{'ok  ' if good else 'MISS'}  {name}: {text}", flush=True)
    return good


def kills(folder: Path, count: int, prompts: int) -> bool:
    """Each kill falls between the middle of the start-up and four times the share of the work that one of `count` attempts has: so the
    kills spread over start-up, every phase of the work, scoring and the report, and a few hit nothing any more."""
    whole = folder / "whole"
    length = run(whole, "-n", str(prompts))
    walls = [event["wall"] for event in read_events(whole) if event["event"] == "chunk"]
    start = length - (read_json(whole / "manifest.json")["wall_seconds"] - walls[0])
    arguments, moments, ended = ["-n", str(prompts), "-o", str(folder / "killed")], random.Random(), 0
    for _ in range(count):
        process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.5 * start, start + 4 * (length - start) / count))
        process.send_signal(signal.SIGKILL)
        ended += process.wait() == 0
    run(folder / "killed", "-n", str(prompts))
    events = [event for event in read_events(folder / "killed") if event["event"] == "chunk"]
    chunks = {(event["part"], event["first"]) for event in events}
    attempts = len({event["attempt"] for event in events})
    stored = f"{len(events)} chunks stored by {attempts} attempts for {len(chunks)} wanted"
    text = f"{count} kills ({ended} after the end), {stored}, same bytes: "
    equal = same(folder / "whole", folder / "killed")
    return report("kills", equal and len(events) == len(chunks), text + ("yes" if equal else "NO"))


def workers(folder: Path, prompts: int) -> bool:
    """Throughput: images over the seconds from the event log in which chunks were made, so that start-up counts for neither."""
    # accelerate's launcher starts several processes on CPUs too, but only under this flag; the device is the run's own choice
    several = ("--multi_gpu", "--num_machines", "1", "--num_processes", "2", "--num_cpu_threads_per_process", "1")
    launcher = (sys.executable, "-m", "accelerate.commands.launch", *several, "--mixed_precision", "no", "--dynamo_backend", "no")
    run(folder / "one", "-n", str(prompts), threads=1)
    run(folder / "two", "-n", str(prompts), launcher=launcher, threads=1)
    spans = []
    for name in ("one", "two"):
        walls = [event["wall"] for event in read_events(folder / name) if event["event"] in ("start", "chunk")]
        spans.append(max(walls) - min(walls))
    gain, equal = spans[0] / spans[1], same(folder / "one", folder / "two")
    return report("workers", equal and gain >= 1.5, f"{gain:.2f}x the throughput, same bytes: {'yes' if equal else 'NO'}")


def overhead(folder: Path, prompts: int) -> bool:
    run(folder / "run", "-n", str(prompts))
    manifest = read_json(folder / "run" / "manifest.json")
    share = manifest["store_seconds"] / manifest["wall_seconds"]
    text = f"{manifest['store_seconds']:.1f} s of {manifest['wall_seconds']:.1f} s, {100 * share:.1f} %"
    return report("overhead", share <= 0.08, text)


def memory(folder: Path) -> bool:
    peaks = []
    for prompts in (512, 5000):
        run(folder / str(prompts), "-n", str(prompts))
        peaks.append(read_json(folder / str(prompts) / "manifest.json")["peak_memory_bytes"])
    ratio = peaks[1] / peaks[0]
    return report("memory", ratio <= 1.2, f"{peaks[0] / 1e9:.2f} GB at 512 prompts, {peaks[1] / 1e9:.2f} GB at 5,000: {ratio:.2f}x")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["kills", "workers", "overhead", "memory"])
    parser.add_argument("--prompts", type=int, default=512, help="of all but memory")
    parser.add_argument("--kills", type=int, default=20)
    chosen = parser.parse_args()
    good = True
    for what in chosen.what:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            checks = {
                "kills": lambda folder=folder: kills(folder, chosen.kills, chosen.prompts),
                "workers": lambda folder=folder: workers(folder, chosen.prompts),
                "overhead": lambda folder=folder: overhead(folder, chosen.prompts),
                "memory": lambda folder=folder: memory(folder),
            }
            good = checks[what]() and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
