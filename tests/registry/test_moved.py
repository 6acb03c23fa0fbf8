"""A plug-in written for the old paths is BROKEN with a line that says where the thing is now."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys

import pytest

from scottbench.registry.loader import load_plugins
from scottbench.registry.moved import MOVED

HOOK = """
@hookimpl
def register_methods():
    return []
"""


@pytest.fixture
def status(tmp_path, monkeypatch):
    """status(source) -> how loading a real plug-in module of that source went."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(source: str) -> str:
        (tmp_path / "plug_of_old.py").write_text(source + HOOK)
        monkeypatch.delitem(sys.modules, "plug_of_old", raising=False)
        importlib.invalidate_caches()
        (plugin,) = load_plugins([importlib.metadata.EntryPoint("old", "plug_of_old", "scottbench")]).plugins
        return plugin.status

    return load


@pytest.mark.parametrize(("line", "words"), [
    ("from scottbench.nouns import Method", "scottbench.nouns is now: from scottbench import Batch, CellFeatures, Dataset, "),
    ("from scottbench.hookspecs import hookimpl", "scottbench.hookspecs is now: from scottbench import hookimpl, "),
    ("from scottbench.lazy import lazy", "scottbench.lazy is now: from scottbench import lazy, "),
    ("import scottbench.nouns as nouns", "scottbench.nouns is now: from scottbench import "),
    ("import scottbench\nprint(scottbench.nouns.Method)", "scottbench.nouns is now: from scottbench import "),
    ("from scottbench import nouns", "scottbench.nouns is now: from scottbench import "),
    ("from scottbench.plugins import load_plugins", "scottbench.plugins is now scottbench.registry.loader (plug_of_old.py:1)"),
    ("from scottbench.model import open_pipeline", "scottbench.model is now scottbench.models.diffusion_model (plug_of_old.py:1)"),
    ("from scottbench.adversarial import x", "scottbench.adversarial is now scottbench.training.discriminator"),
    ("import scottbench.report.inference", "scottbench.report.inference is now scottbench.report.pairs"),
    ("from scottbench import Cell", "scottbench has no 'Cell': from scottbench import CellFeatures (plug_of_old.py:1)"),
    ("from scottbench.metrics import Metric", "scottbench.metrics has no 'Metric': from scottbench import Metric (plug_of_old.py:1)"),
    ("from scottbench.diffusion import file_digest", "scottbench.diffusion has no 'file_digest': from scottbench.store.assets import "),
])  # fmt: skip
def test_an_old_path_is_named_with_the_new_one(status, line, words):
    found = status(line)
    assert found.startswith(f"BROKEN: {words}") and "\n" not in found


def test_all_that_an_old_plug_in_took_from_the_registry_is_said_at_once(status):
    """So that its author mends both lines after the first message; what the line says works."""
    found = status("from scottbench.nouns import Method\nfrom scottbench.hookspecs import hookimpl")
    line = found.removeprefix("BROKEN: scottbench.nouns is now: ").partition(" (")[0]
    for name in ("Method", "Metric", "Trainer", "CellFeatures", "NoOptions", "hookimpl", "lazy"):
        assert name in line.removeprefix("from scottbench import ").split(", ")
    assert status(line) == "ok"


@pytest.mark.parametrize(("line", "words"), [
    ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module' (plug_of_old.py:1)"),
    ("from scottbench.nounz import x", "ModuleNotFoundError: No module named 'scottbench.nounz'"),
    ("from scottbench.metrics import nowhere_at_all", "ImportError: cannot import name 'nowhere_at_all'"),
    ("from pathlib import Cell", "ImportError: cannot import name 'Cell' from 'pathlib'"),
    ("raise AttributeError('hookimpl')", "AttributeError: hookimpl"),
])  # fmt: skip
def test_other_mistakes_keep_their_own_line(status, line, words):
    assert status(line).startswith(f"BROKEN: {words}")


def test_every_old_module_is_gone_and_every_new_one_is_there():
    for old, new in MOVED.items():
        assert importlib.util.find_spec(f"scottbench.{new}") is not None, new
        assert importlib.util.find_spec(f"scottbench.{old}") is None, old
