"""Checks for authors of plug-ins, on teachers in closed form and tiny random networks, as functions and as pytest fixtures.

    from scottbench.testing import check_method, check_metric, checks

    def test_it_keeps_the_rules():
        check_method(MY_METHOD)

    @pytest.mark.parametrize("check", checks("my_package"))
    def test_the_package_conforms(check):
        check()

Each check raises `NotConforming` for the first rule that is broken. For the fixtures, whose names begin with `sb_`, write
`pytest_plugins = "scottbench.testing"` into conftest.py. `scottbench plugin check` runs the same checks; docs/plugin-check.md lists them.
"""

from __future__ import annotations

from scottbench.testing.analytic import analytic_model
from scottbench.testing.dataset import check_dataset
from scottbench.testing.extractor import check_extractor
from scottbench.testing.finding import Doubt, Finding, NotConforming
from scottbench.testing.made import MadeItems, made_cell, made_cells
from scottbench.testing.method import check_method
from scottbench.testing.metric import check_metric
from scottbench.testing.package import check_plugin, checks
from scottbench.testing.trainer import check_trainer

__all__ = [
    "Doubt", "Finding", "MadeItems", "NotConforming", "analytic_model", "check_dataset", "check_extractor", "check_method", "check_metric",
    "check_plugin", "check_trainer", "checks", "made_cell", "made_cells",
]  # fmt: skip

try:
    import pytest as pytest
except ImportError:  # the checks need no pytest
    pass
else:
    from scottbench.testing.fixtures import *  # noqa: F403
