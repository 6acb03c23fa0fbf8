"""Every method that the embedded preset has weights for makes pictures with them: samplers, students and time steps fit each other."""

from __future__ import annotations

import polars as pl
import pytest

from scottbench.cli import invoke
from scottbench.registry.loader import load_plugins


@pytest.fixture(scope="module")
def methods() -> list[str]:
    """Names of all registered methods that sample the teacher or a student of the embedded preset."""
    plugins = load_plugins()
    shipped = plugins.find("preset", "pocket").noun.students
    return sorted(name for name, found in plugins.nouns["method"].items() if found.noun.trainer in (None, *shipped))


def test_each_samples_at_two_steps(methods, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert {"cd", "ddim", "instaflow", "lcm", "scott", "tcd", "ufogen"} <= set(methods)
    code = invoke(["run", "-m", ",".join(methods), "-s", "2", "-n", "2", "-k", "clip_score", "-o", "run", "-q"])
    assert code == 0, capsys.readouterr().err
    rows = pl.read_parquet("run/results.parquet")
    assert sorted(rows["method"]) == methods and rows["value"].is_finite().all()
