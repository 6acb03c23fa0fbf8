"""The part of Slurm and torchrun that the scripts of examples/slurm use, on one machine: `Slurm` puts it on the path of a test.

This file itself is run by the names below. Jobs run one after another, at once; a step's task is a process on "node" SLURM_NODEID. Like
Slurm it keeps a copy of a job's script elsewhere, signals direct children alone, and starts a job again that asked to be queued again.
The worker of rank 0, and a shard, are command lines in the process of the test; a further worker only waits to be told.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("sbatch", "srun", "scontrol", "torchrun", "scottbench")


class Slurm:
    """Runs a script; `begin` and `end` of a command line are told to the test by `serve`."""

    def __init__(self, folder: Path):
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        for name in NAMES:
            (self.bin / name).write_text(f"#!{sys.executable} -SE\n" + Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
            (self.bin / name).chmod(0o755)

    def run(self, command: list[str], serve: Callable[..., tuple], cwd: Path) -> tuple[int, str, list[list[str]]]:
        """Run a command; `serve` answers each command line of scottbench by (code, out, err). Returns code, output, command lines."""
        asked: list[list[str]] = []
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.folder / "socket"))
            listening.listen()
            listening.settimeout(0.05)
            environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "FAKE_SLURM": str(self.folder),
                           "FAKE_TEST": str(os.getpid())}  # fmt: skip
            process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       text=True, start_new_session=True)  # fmt: skip
            try:
                end = time.monotonic() + 240
                while process.poll() is None:
                    assert time.monotonic() < end, "waited too long"
                    try:
                        connection, _ = listening.accept()
                    except TimeoutError:
                        continue
                    with connection:
                        asked.append(json.loads(connection.makefile().readline()))
                        connection.sendall(json.dumps(serve(*asked[-1])).encode() + b"\n")
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        (self.folder / "socket").unlink()
        return process.wait(), process.stdout.read(), asked

    def warn(self) -> None:
        """Send the job that runs the signal that its script asks for."""
        number = {"USR1": signal.SIGUSR1}[(self.folder / "signal").read_text()]
        os.kill(int((self.folder / "job").read_text()), number)

    def called(self, name: str) -> list[list[str]]:
        """List how a program was called."""
        path = self.folder / f"{name}.called"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def split(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Flags before the first word that is none, as a dict; and the rest. Flags of two words are not known."""
    flags = {}
    while arguments and arguments[0].startswith("--"):
        name, _, value = arguments[0].partition("=")
        flags[name], arguments = value, arguments[1:]
    return flags, arguments


def sbatch(folder: Path, arguments: list[str]) -> int:
    """Run a job, task after task, and print its number."""
    given, (script, *words) = split(arguments)
    flags = split(re.findall(r"^#SBATCH (\S+)", Path(script).read_text(), re.M))[0] | given
    number = len(list(folder.glob("spool.*"))) + 7001
    spool = folder / f"spool.{number}"
    spool.mkdir()
    shutil.copy(script, spool / "slurm_script")
    if wanted := flags.get("--dependency"):
        codes = (folder / f"codes.{wanted.removeprefix('afterok:')}").read_text().split()
        assert set(codes) == {"0"}, codes
    target, _, name = flags.get("--signal", "").partition(":")
    (folder / "signal").write_text(name.partition("@")[0] if target == "B" else "")
    first, last = (int(x) for x in flags["--array"].split("-")) if "--array" in flags else (0, 0)
    for task in range(first, last + 1):
        name = f"{number}_{task}" if last else str(number)
        common = {"SLURM_JOB_ID": str(number + task), "SLURM_NNODES": flags.get("--nodes", "1"), "SLURM_JOB_NODELIST": "localhost,other"}
        array = {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(last - first + 1)}
        restarts, again = 0, folder / f"requeue.{name if last else number}"
        while True:
            environment = {**os.environ, **common, **(array if last else {})}
            environment |= {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
            with open(folder / f"log.{name}", "a") as log:
                job = subprocess.Popen(["bash", str(spool / "slurm_script"), *words], env=environment, stdout=log, stderr=log)
                (folder / "job").write_text(str(job.pid))
                code = job.wait()
            if not again.exists():
                break
            again.unlink()
            restarts += 1
        with open(folder / f"codes.{number}", "a") as codes:
            codes.write(f"{code} ")
    sys.stdout.write(f"{number}\n")
    return 0


def scontrol(folder: Path, arguments: list[str]) -> int:
    """`show hostnames A,B` and `requeue JOB`."""
    if arguments[:2] == ["show", "hostnames"]:
        sys.stdout.write(arguments[2].replace(",", "\n") + "\n")
    else:
        assert arguments[0] == "requeue"
        (folder / f"requeue.{arguments[1]}").touch()
    return 0


def waited(processes: list[subprocess.Popen]) -> int:
    """Hand SIGUSR1 on to processes until they end; the highest exit code."""
    signal.signal(signal.SIGUSR1, lambda *_: [process.send_signal(signal.SIGUSR1) for process in processes])
    return max(code if code >= 0 else 128 - code for code in [process.wait() for process in processes])


def srun(folder: Path, arguments: list[str]) -> int:
    """A task on each node."""
    nodes = range(int(os.environ["SLURM_NNODES"]))
    return waited([subprocess.Popen(arguments, env={**os.environ, "SLURM_NODEID": str(node)}) for node in nodes])


def torchrun(folder: Path, arguments: list[str]) -> int:
    """One worker a node; SIGUSR1 is not its business: it dies of it unless it was started so that it is ignored."""
    worker = subprocess.Popen(arguments[arguments.index("--no-python") + 1 :], env={**os.environ, "RANK": os.environ["SLURM_NODEID"]})
    return 1 if worker.wait() else 0


def scottbench(folder: Path, arguments: list[str]) -> int:
    """Have the test run the command line; a worker of another rank waits for SIGUSR1 in the job's first attempt."""
    if os.environ.get("RANK", "0") != "0":
        told = []
        signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
        end = time.monotonic() + 240 * ("SLURM_RESTART_COUNT" not in os.environ)
        while not told and time.monotonic() < end:
            time.sleep(0.02)
        return 138 if told else 0

    def tell(*_: object) -> None:
        os.kill(int(os.environ["FAKE_TEST"]), signal.SIGUSR1)
        (folder / "told").touch()

    signal.signal(signal.SIGUSR1, tell)
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(folder / "socket"))
        asking.sendall(json.dumps(arguments).encode() + b"\n")
        code, out, err = json.loads(asking.makefile().readline())
    sys.stdout.write(f"{out} {err}\n")
    return code


def main() -> None:
    folder, name = Path(os.environ["FAKE_SLURM"]), Path(sys.argv[0]).name
    with open(folder / f"{name}.called", "a") as called:
        called.write(json.dumps(sys.argv[1:]) + "\n")
    sys.exit(globals()[name](folder, sys.argv[1:]))


if __name__ == "__main__":
    main()
