"""One command line in this process for all fuzz tests: its exit code, and what it printed."""

from __future__ import annotations

import contextlib
import io
import signal

import pytest
import tiny_plugin
import transformers

from scottbench.cli import invoke
from scottbench.errors import EXIT_CODES

SLOW = 20
"""Seconds after which a command line counts as one that hangs (at a pipe, say)."""


class Hangs(BaseException):
    """Nothing in the product may take it for one of its own errors."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The tiny plug-in alone."""
    return tiny_plugin.tiny_plugins(tiny_plugin.shared_files(tmp_path_factory))


@pytest.fixture(autouse=True)
def in_time():
    """A command line that hangs fails, and does not stop the suite."""

    def late(number, frame):
        raise Hangs

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def call(tiny, monkeypatch):
    """call("verify", "run") -> (exit code, stdout, what is wrong with the way it ended or "")."""
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: tiny)
    transformers.logging.disable_progress_bar()

    def run(*arguments: str) -> tuple[int | None, str, str]:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace") for _ in range(2))
        code: int | None = None
        wrong = ""
        signal.alarm(SLOW)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = invoke(list(arguments))
        except BaseException as error:  # nothing may leave `invoke`
            wrong = f"raised {type(error).__name__}: {error}"
        signal.alarm(0)
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))
        if "Hangs" in texts[1]:
            wrong = "it hangs"
        elif not wrong and (code not in EXIT_CODES or code == 70):
            wrong = f"exit {code}: {texts[1].strip()[-300:]}"
        elif any("Traceback (most recent call last)" in text for text in texts):
            wrong = "a traceback"
        elif any("\x1b" in text for text in texts):
            wrong = "an escape sequence reached the terminal"
        elif code not in (0, None) and "error: " not in texts[1]:
            wrong = f"exit {code} without a word: {texts[1][-200:]}"
        return code, texts[0], wrong

    return run
