"""The jobs of examples/slurm, run by their own text where Slurm and torchrun are stand-ins (slurm.py); and the Dockerfile, line by line."""

from __future__ import annotations

import importlib
import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from slurm import Slurm

ROOT = Path(__file__).resolve().parents[2]
JOBS = ROOT / "examples" / "slurm"
RUN = ("-p", "tiny", "-m", "hop,ode", "-s", "2")
TRAIN = ("train", "cd", "-p", "tiny", "-b", "4", "-O", "lr=1e-3", "-O", "w_min=0", "-O", "w_max=4", "--max-steps", "4", "-q")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The stand-ins, and signals as the command line of a process has them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.setattr("scottbench.report.build", lambda root: None)
    yield Slurm(tmp_path / "slurm")
    for number, handler in before.items():
        signal.signal(number, handler)


def served(cli):
    """Answer command lines in this process, each with the signals' handlers set as at a start."""
    from scottbench.cli import _heed_signals

    def serve(*arguments):
        _heed_signals()
        return cli(*arguments)

    return serve


def warn_once(slurm, when):
    """A callback of Progress that warns the job at the first event for which `when` holds, and waits until the signal has come."""
    warned = []

    def event(self, *values):
        if not warned and when(*values):
            warned.append(values)
            slurm.warn()
            end = time.monotonic() + 60
            while not (slurm.folder / "told").exists() and time.monotonic() < end:  # a training notes the signal; a run is cut short here
                time.sleep(0.02)

    return event


def small_chunks(monkeypatch):
    for name in ("run.execute", "run.merge", "plan.plan"):
        importlib.import_module(f"scottbench.{name}")
    for name, module in list(sys.modules.items()):
        if name.startswith(("scottbench.plan.", "scottbench.store.", "scottbench.run.")) and "CHUNK" in vars(module):
            monkeypatch.setattr(module, "CHUNK", 4)


def test_shards_that_are_pre_empted_are_queued_again_and_merged_to_the_bytes_of_one_run(slurm, cli, tmp_path, monkeypatch):
    from scottbench.text.progress import Progress

    small_chunks(monkeypatch)
    assert cli("run", *RUN, "-o", "whole", "-q")[0] == 0
    stored = lambda *_: len(list((tmp_path / "main.parts" / "1").glob("images/*/*.json"))) >= 1  # noqa: E731
    monkeypatch.setattr(Progress, "run_event", warn_once(slurm, stored))
    code, out, asked = slurm.run([str(JOBS / "submit.sh"), "2", "main", *RUN], served(cli), tmp_path)
    assert (code, out) == (0, "shards 7001, merge 7002 -> main\n"), out
    share = lambda shard: ["run", *RUN, "--shard", f"{shard}/2", "--out", f"main.parts/{shard}", "--quiet"]  # noqa: E731
    assert asked == [share(1), share(1), share(2), ["merge", "main.parts/1", "main.parts/2", "--out", "main", "--quiet"]]
    assert slurm.called("scontrol") == [["requeue", "7001_1"]]
    log = (slurm.folder / "log.7001_1").read_text()
    assert "asked to make room; finished work is kept. Go on with: scottbench resume main.parts/1" in log
    assert (tmp_path / "main" / "results.parquet").read_bytes() == (tmp_path / "whole" / "results.parquet").read_bytes()


def test_a_training_on_two_nodes_saves_its_step_is_queued_again_and_goes_on(slurm, cli, tmp_path, monkeypatch):
    from torch.distributed.run import config_from_args, get_args_parser

    from scottbench.text.progress import Progress

    def step(stage, *values):
        return stage == "train" and values[0] == 2

    monkeypatch.setattr(Progress, "train_event", warn_once(slurm, step))
    _, _, asked = slurm.run(["sbatch", str(JOBS / "nodes.sbatch"), "s", *TRAIN], served(cli), tmp_path)
    log = (slurm.folder / "log.7001").read_text()
    assert asked == [[*TRAIN, "--out", "s"], [*TRAIN, "--out", "s", "--resume"]], log
    assert "asked to make room; the checkpoint of step 2 is kept in s" in log
    assert json.loads((tmp_path / "s" / "student.json").read_text())["steps"] == 4
    assert slurm.called("scontrol").count(["requeue", "7001"]) == 1
    assert (slurm.folder / "codes.7001").read_text().split() == ["0"]
    # torchrun's own parser takes the line, and each attempt is a rendezvous of its own
    lines = [config_from_args(get_args_parser().parse_args(call)) for call in slurm.called("torchrun")]
    assert [(line.min_nodes, line.max_nodes, line.nproc_per_node, line.rdzv_backend) for line, *_ in lines] == [(2, 2, 1, "c10d")] * 4
    assert [line.run_id for line, *_ in lines] == ["7001-0"] * 2 + ["7001-1"] * 2
    assert {line.rdzv_endpoint for line, *_ in lines} == {"localhost:27001"}
    assert {(command, tuple(words[:2])) for _, command, words in lines} == {("scottbench", ("train", "cd"))}


@pytest.mark.parametrize("path", sorted(JOBS.iterdir()), ids=lambda path: path.name)
def test_a_job_is_sound_bash_and_says_how_it_is_started(path):
    text = path.read_text()
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
    assert text.startswith("#!/bin/bash\n") and path.stat().st_mode & 0o100
    lines = text.splitlines()
    last = max((number for number, line in enumerate(lines) if line.startswith("#SBATCH")), default=0)
    assert all(line.startswith("#") for line in lines[:last])  # Slurm reads none after the first command
    if "scontrol requeue" in text:
        assert "#SBATCH --requeue" in text and re.search(r"^#SBATCH --signal=B:USR1@\d+$", text, re.M)


def test_arguments_that_are_missing_are_one_line():
    found = subprocess.run([str(JOBS / "submit.sh"), "two", "main"], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1) and "usage" in found.stderr


# --- Dockerfile ------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """[("FROM", "python:3.11-slim-bookworm AS wheel"), ...]: lines put together, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in whole.splitlines() if line.strip())]


def let_through() -> set[str]:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return {line[1:] for line in lines if line.startswith("!")}


def test_the_dockerfile_copies_what_is_there_and_what_a_wheel_needs():
    found = instructions()
    assert {word for word, _ in found} <= {"FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "USER", "ENTRYPOINT", "CMD"}
    copied = [source for word, rest in found if word == "COPY" and "--from" not in rest for source in rest.split()[:-1]]
    assert copied and all((ROOT / source).exists() for source in copied) and set(copied) == let_through()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], *(p.split("/")[0] for p in packages)}
    assert needed == set(copied)


def test_the_dockerfile_installs_an_extra_of_the_project_on_a_python_that_it_supports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = instructions()
    stages = {rest.split(" AS ")[1] for word, rest in found if word == "FROM" and " AS " in rest}
    assert {re.search(r"--from=(\S+)", rest)[1] for word, rest in found if word == "COPY" and "--from" in rest} <= stages
    least = re.search(r"(\d+\.\d+)", project["requires-python"])[1]
    assert {re.match(r"python:(\d+\.\d+)-slim-bookworm", rest)[1] for word, rest in found if word == "FROM"} == {least}
    runs = [rest for word, rest in found if word == "RUN"]
    (extras,) = [re.search(r"pip install --no-cache-dir \"\$1\[(.+)\]\"", run)[1] for run in runs if "pip install" in run]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (apt,) = [run for run in runs if "apt-get" in run]
    names = re.search(r"apt-get install --yes --no-install-recommends ([a-z0-9+. -]+) && rm -rf /var/lib/apt/lists/\*$", apt)[1].split()
    assert names and all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) for name in names)
    entry = json.loads(next(rest for word, rest in found if word == "ENTRYPOINT"))
    assert set(entry) <= set(project["scripts"])
    users = [number for number, (word, _) in enumerate(found) if word == "USER"]
    assert users and "useradd" in runs[-1] and all(word not in ("RUN", "COPY") for word, _ in found[users[-1] :])  # not root
