"""Commands of the documentation: found in the fences and in the sentences of a page, shortened, held against the command line."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

FENCE = re.compile(r"^```(\w*)([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(scottbench [^`\n]+)`")
OF_PAGE = re.compile(r"^<!-- commands not run: \w[^\n]{9,} -->$", re.MULTILINE)
"""A mark for a whole page: its fences need none of their own."""
NOT_RUN = re.compile(r"not run: \w.{9,}")
SHELL = {"", "sh", "bash", "console", "shell"}
PROGRAMS = ("scottbench", "python", "python3", "pip", "torchrun", "accelerate", "hf", "srun", "sbatch", "nvidia-smi", "export", "apt-get")
TWO = "python3 -m venv "
"""Beginning of the README's two commands, which CI runs as they are."""
SHORT = [(r" -n \d+", " -n 8"), (r"--resample \d+", "--resample 1"), (r"--seed 0\.\.\d", "--seed 0")]
"""Long runs made short: the lines are the page's, their numbers are not."""


@dataclass(frozen=True)
class Block:
    """A fence of shell commands."""

    mark: str
    """ "run", "not run: REASON", "" where the page's author forgot it."""
    lines: list[str]


def blocks(text: str) -> list[Block]:
    """The fences of a page that hold commands; a fence without a language counts where a line begins with a program's name."""
    found = []
    for language, info, body in FENCE.findall(text):
        lines = [line for line in body.replace("\\\n", " ").splitlines() if line.strip()]
        if language not in SHELL or (language == "" and not any(line.split()[0] in PROGRAMS for line in lines)):
            continue
        if all(line.startswith(TWO) for line in lines):
            continue
        found.append(Block(info.strip(), lines))
    return found


def unmarked(text: str) -> list[str]:
    """First lines of the fences that neither are run nor say why not."""
    if OF_PAGE.search(text):
        return []
    return [block.lines[0] for block in blocks(text) if block.mark != "run" and not NOT_RUN.fullmatch(block.mark)]


def to_run(text: str) -> list[str]:
    """The commands of a page that are run, shortened, in order."""
    found = []
    for block in blocks(text):
        for line in block.lines if block.mark == "run" else []:
            for pattern, short in SHORT:
                line = re.sub(pattern, short, line)
            found.append(shlex.join(shlex.split(line, comments=True)))
    return found


def all_commands(text: str) -> list[str]:
    """Every command line of ours on a page, run or not, with the words that may follow it."""
    lines = [line for block in blocks(text) for line in block.lines]
    return [*lines, *INLINE.findall(text)]


def wrong_words(line: str, group: click.Group) -> list[str]:
    """What a command line names that the command line has not: a verb, or options of it."""
    line = re.sub(r"(^|[\s/])-m scottbench\b", r"\1scottbench", line)
    match = re.search(r"(?:^|[\s/(])scottbench((?:\s+[^\s|;&`]+)+)", re.sub(r"\"[^\"]*\"|\$\([^)]*\)", "X", line))
    if match is None:
        return []
    words = re.split(r"\s{2,}|\s#", match[1].strip())[0].split()
    command: click.Command = group
    wrong: list[str] = []
    for word in words:
        if word.startswith("-"):
            options = {name for item in command.params for name in (*item.opts, *item.secondary_opts)} | {"-h", "--help"}
            name = word.split("=")[0] if word.startswith("--") else word[:2]
            if name not in options and not re.fullmatch(r"-[\d.]+", word):
                wrong.append(word)
        elif isinstance(command, click.Group):
            if word in command.commands:
                command = command.commands[word]
            elif not word.isupper() and command is group:
                return [word]
    return wrong


def pages(root: Path) -> list[Path]:
    """The README, and every page below docs/."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
