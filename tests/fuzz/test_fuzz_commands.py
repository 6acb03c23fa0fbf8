"""Random command lines, variables and config files: none ends with a traceback or an exit code that is not documented.

The seed of each is its number, so that one that fails can be run alone: SCOTTBENCH_FUZZ=long pytest tests/fuzz -k "lines[17]".
"""

from __future__ import annotations

import os
import random
import shlex
import tomllib

import pytest
from fuzzing import LONG

FLAGS = ["-m", "-s", "-p", "-k", "-n", "--seeds", "-b", "-O", "--guidance", "-d", "--student", "--model", "-c", "--shard"]
TRAIN = ["-p", "--minutes", "--max-steps", "-b", "--accumulate", "--precision", "--evaluate-every", "--patience", "--export", "--weights",
         "-O", "--seed", "-d", "--model", "-c", "--tracker"]  # fmt: skip
VERBS = {
    "run": [*FLAGS, "--dry-run", "--take-lock"], "plan": FLAGS[:-1],
    "resume": ["--student", "--model", "-b", "--shard", "--take-lock"],
    "merge": ["-o"], "score": ["-k"], "verify": ["--resample"], "runs": [], "compare": ["--with", "--gate"], "claims": ["--gate"],
    "report": [], "export": ["--to", "-o"], "train": [*TRAIN, "--dry-run", "--resume"], "list": [], "show": [], "config": FLAGS[:-1],
    "no-such-verb": [],
}  # fmt: skip
SWITCHES = {"--dry-run", "--take-lock", "--gate", "--resume"}
WORDS = [
    "", " ", "-1", "0", "1", "2", "007", "1e400", "nan", "-inf", "9" * 5000, "0x10", "1_0", "²", "٣", "x" * 300, "/" + "y" * 5000,
    "\x1b[31mred", "[red]x[/red]", "../../..", "/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem", "nu\udcff", "💥", "@", "a@b=c",
    "@=,", ",", ",,", "=", "x=", "=x", "hop=", "hop=/dev/zero", "hop=hop=hop", "0..", "5..1", "0..99999999999", "1/0", "2/1", "1/1",
    "1/-1", "--", "-", "~nobody-here", ".", "tiny", "hop", "ode", "gap", "gap@x=1", "hop@steps=2", "hop@guidance=nan",
    "hop@guidance=1e400", "ode@student=x", "ode,ode", "%s%n", "{0}", "$HOME", "a\nb", "latex", "csv", "cuda", "cuda:99", "cpu", "mps",
    "cuda:-1", "bfloat16", "last", "methods", "plugins", "list", "gc", "a.toml", "runs", "5.", "1,2,", "\u202eevil", "b'x'", "None",
    "true", "hop:2", "hop@2",
]  # fmt: skip
VARIABLES = ["SCOTTBENCH_STEPS", "SCOTTBENCH_LIMIT", "SCOTTBENCH_SEEDS", "SCOTTBENCH_METHOD", "SCOTTBENCH_TRAIN_MINUTES",
             "SCOTTBENCH_MODEL", "SCOTTBENCH_DEVICE", "RANK"]  # fmt: skip
CONFIGS = [
    b"", b"\xff\xfe", b"methods = 5", b"steps = [1, [2]]", b"limit = nan", b"limit = 1e400", b"seeds = 1979-05-27",
    b"[options]\na = {b = 1}", b"students = {hop = 3}", b"a = " + b"[" * 5000, b"a = " + b"{a=" * 5000, b"limit = " + b"1" * 5000,
    b"a." * 5000 + b"a = 1",
    b"model = '\x00'", b"model = \"\\u0000\"", b"[train]\nminutes = []", b"train = 3", b"batch_size = true", b"guidance = ['1']",
    b"methods = ['hop', 1]", b"steps = ''", b"model = ''", b"device = [1]", b"preset = '../../x'", b"[train]\nfsdp = 'maybe'",
]  # fmt: skip


def line_of(source: random.Random) -> list[str]:
    """A command line with at least one word that nobody would write on purpose; it computes little where it is right after all."""
    verb = source.choice(list(VERBS))
    words = [verb]
    if verb == "config":
        words.append(source.choice(["show", source.choice(WORDS)]))
    if verb in ("run", "plan"):
        words += ["-p", "tiny", "-n", "1", "-q"][: 5 if verb == "run" else 4]
    for _ in range(source.randint(0, 3)):
        flag = source.choice(VERBS[verb] or ["--json"])
        words += [flag] if flag in SWITCHES else [flag, source.choice(WORDS)]
    for _ in range(source.randint(0 if verb in ("run", "plan", "config") else 1, 3)):
        words.append(source.choice(WORDS))
    if verb in ("run", "plan", "resume", "merge", "train"):
        words = [word for word in words if not word.startswith("../..")]  # an output folder stays in the test's
    if source.random() < 0.1:
        source.shuffle(words)
    return words


@pytest.mark.parametrize("number", range(700 if LONG else 40), ids=lambda number: f"{number}")
def test_random_command_lines_end_in_one_line_with_a_documented_code(call, tmp_path, monkeypatch, number):
    source = random.Random(number)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_bytes(source.choice(CONFIGS))
    if source.random() < 0.3:
        monkeypatch.setenv(source.choice(VARIABLES), source.choice([word for word in WORDS if word.isprintable() and len(word) < 100]))
    if source.random() < 0.2:
        monkeypatch.setenv("WORLD_SIZE", source.choice(["", "abc", "0", "-1", "1", "1e3", "²"]))
    words = line_of(source)
    _, _, wrong = call(*words)
    assert not wrong, f"{wrong}\nscottbench {shlex.join(words)[:2000]!r} in {dict(os.environ).get('WORLD_SIZE')!r}"


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_every_config_file_is_read_or_refused_in_one_line(call, tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_bytes(CONFIGS[number])
    for words in (["config", "show", "-p", "tiny", "-c", "a.toml"], ["train", "hop", "-p", "tiny", "--dry-run", "-c", "a.toml"]):
        code, _, wrong = call(*words)
        assert not wrong, (words, CONFIGS[number][:80])
        if number and words[0] == "config" and not _is_toml(CONFIGS[number]):
            assert code == 2


def _is_toml(data: bytes) -> bool:
    try:
        tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return False
    return True
