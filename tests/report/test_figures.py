"""Figures of few and of many methods."""

import base64
import re

import fake_run
import pytest

from scottbench.report.figures import INSIDE, LABELLED, figures
from scottbench.store.record import read_record


def drawn(folder, monkeypatch, methods: int):
    """(captions, heights in points) of the figures of a run of so many methods at 1, 2 and 4 steps."""
    cells = [(f"method-{number}", steps) for number in range(methods) for steps in (1, 2, 4)]
    values = {cell: (1.0 + 0.1 * i, 0.5 + 0.01 * i, 0.5, 0.5, 0.5, 0.5) for i, cell in enumerate(cells)}
    monkeypatch.setattr(fake_run, "VALUES", values)
    found = figures(read_record(fake_run.fake_run(folder, cells)))
    pages = [base64.b64decode(figure.source.partition(",")[2]).decode() for figure in found]
    return [figure.caption for figure in found], [float(re.search(r'height="([0-9.]+)pt"', page)[1]) for page in pages]


def test_a_legend_of_many_methods_stands_below_the_axes_and_takes_none_of_their_room(tmp_path, monkeypatch):
    few, many = (drawn(tmp_path / str(n), monkeypatch, n) for n in (2, INSIDE + 2))
    assert few[1] == pytest.approx([2.75 * 72] * 2)
    assert all(height > 2.75 * 72 + 20 for height in many[1])


def test_many_points_carry_their_number_of_steps_only(tmp_path, monkeypatch):
    (_, few), _ = drawn(tmp_path / "few", monkeypatch, LABELLED // 3)
    (_, many), heights = drawn(tmp_path / "many", monkeypatch, LABELLED // 3 + 1)
    assert "each point a method@steps" in few and "each point a method at the number of steps beside it" in many
    assert heights[1] > 2.75 * 72  # what the labels do not say stands in a legend
