"""Command lines of scottbench as processes that start in milliseconds: children of one process that has imported everything once.

They can be killed, limited and interrupted like any other. One thread each, so that forking is safe and bytes are comparable.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent

SERVER = r"""
import json, os, resource, signal, sys
answers = os.fdopen(os.dup(1), "w")
import diffusers, matplotlib.figure, open_clip, polars, torch, transformers
import scottbench.cli, scottbench.report.figures, scottbench.training.train, scottbench.store.verify
import scottbench.run.estimate, scottbench.run.merge, scottbench.run.execute, scottbench.run.score
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
torch.set_num_threads(1)
transformers.logging.disable_progress_bar()  # a process of its own is told so before it imports the library
print("ready", file=answers, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        status = os.waitpid(asked["wait"], 0)[1]
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps(code), file=answers, flush=True)
        continue
    pid = os.fork()
    if pid:
        print(json.dumps(pid), file=answers, flush=True)
        continue
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(asked["folder"])
    os.environ.update(asked["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest_file"],) * 2)
    exec(asked["before"])
    try:
        scottbench.cli.main(asked["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""


@dataclass
class Process:
    """A running command line."""

    server: Server
    pid: int
    logs: dict[str, str]

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> tuple[int, str, str]:
        """(exit code, or minus the signal that ended it; stdout; stderr)."""
        code = self.server.ask({"wait": self.pid})
        return code, *(Path(self.logs[name]).read_text() for name in ("out", "err"))


class Server:
    """Starts command lines; `before` is Python that each runs first (plug-ins of the test, smaller chunks)."""

    def __init__(self, before: str, logs: Path):
        path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        self.before, self.logs, self.number = before, logs, 0
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, request: dict):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *arguments: str, folder: Path, largest_file: int | None = None, before: str = "", **environment: str) -> Process:
        """Start `scottbench ARGUMENTS` in `folder`. largest_file: bytes after which a write fails, as on a full disk."""
        self.number += 1
        names = {name: str(self.logs / f"{name}.{self.number}") for name in ("out", "err")}
        pid = self.ask({
            **names, "arguments": list(arguments), "folder": str(folder), "environment": environment, "largest_file": largest_file,
            "before": f"{self.before}\n{before}",
        })  # fmt: skip
        return Process(self, pid, names)

    def call(self, *arguments: str, **words) -> tuple[int, str, str]:
        return self.start(*arguments, **words).wait()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


TINY = """
import pathlib, sys, tiny_plugin, scottbench.registry.loader, scottbench.plan.plan, scottbench.plan.choices
found = tiny_plugin.tiny_plugins(pathlib.Path({files!r}))
scottbench.registry.loader.load_plugins = lambda: found
SMALL = {{"CHUNK": 4, "choose_micro_batch": lambda device, shape: 3}}
for name, module in list(sys.modules.items()):
    if name.startswith(("scottbench.plan.", "scottbench.store.")):
        vars(module).update({{key: value for key, value in SMALL.items() if key in vars(module)}})
import scottbench.report
build, scottbench.report.build = scottbench.report.build, lambda root: None
"""
"""The tiny plug-in, in chunks of four made three at a time: 3 chunks a cell, each with a micro-batch that is filled up. No report, which
would take half of the time; `scottbench.report.build = build` brings it back."""
