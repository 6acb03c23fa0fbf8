"""Run the README's first command for true and put what it prints, in a window of 80 columns, between the README's marks.

    python docs/shown.py

It takes the time of the run. Times per image differ from run to run; everything else is the same on one type of processor.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- output: (scottbench [^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS, LINES = 80, 60


def printed(command: str) -> str:
    """What a command line of ours prints on stdout in a terminal's window. Raises CalledProcessError where it fails."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    ours_first = os.pathsep.join(map(str, (ROOT, ROOT / "plugins")))
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ours_first}
    with tempfile.TemporaryDirectory() as place:
        words = [sys.executable, "-m", *shlex.split(command)]
        process = subprocess.Popen(words, stdout=theirs, stderr=subprocess.DEVNULL, cwd=place, env=environment)
        os.close(theirs)
        text = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # Linux says so at the end of a terminal
                break
            if not more:
                break
            text += more
        os.close(ours)
        if process.wait() != 0:
            raise subprocess.CalledProcessError(process.returncode, command)
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text.decode("utf-8")).replace("\r\n", "\n")
    return "\n".join(line.rstrip() for line in plain.splitlines()).strip("\n") + "\n"


def main() -> int:
    """Run every command that the README has an output of; returns the exit code."""
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        print(f"the machine is busy (load {os.getloadavg()[0]:.1f}): the times shown will be too long", file=sys.stderr)
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = BLOCK.sub(lambda match: f"{match[1]}```text\n$ {match[2]}\n{printed(match[2])}```\n{match[3]}", before)
    path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
