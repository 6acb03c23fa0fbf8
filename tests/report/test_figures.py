"""Figures of few and of many methods: what is drawn, where labels stand, and that a page's colours follow the screen."""

import base64
import io
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import fake_run
import matplotlib
import matplotlib.style
import numpy as np
import pytest
from PIL import Image

from scottbench.report import placing, style
from scottbench.report.figures import LABELLED, _scale, _value_axis, charts, drawn, figures, front, paneled, shortened
from scottbench.report.paper import figure_files
from scottbench.report.placing import spread
from scottbench.store.record import CellRecord, MetricRecord, read_record


def pair_rows(methods, steps=(1, 2, 4), metrics=("fid", "clip_score", "coverage"), decided=True, first=None):
    """Rows as pairs.parquet has them: the first method against each other one, at equal steps."""
    first = methods[0] if first is None else first
    return [
        {"metric": metric, "method_a": first, "steps_a": count, "method_b": other, "steps_b": count, "seeds": "0", "n": 256,
         "value_a": 1.0, "value_b": 2.0, "difference": -1.0, "ci_low": -1.5, "ci_high": -0.5, "p": 0.001,
         "p_holm": 0.01 if decided else 0.2, "images_to_decide": None if decided else 5312, "verdict": f"{first}@{count} better"}
        for count in steps for other in methods if other != first for metric in metrics
    ]  # fmt: skip


@pytest.fixture
def record_of(tmp_path, monkeypatch):
    """(number of methods) -> the record of a run of them at 1, 2 and 4 steps."""

    def made(methods: int, pairs: bool = False, **changes):
        names = [f"method-{number}" for number in range(methods)]
        cells = [(name, steps) for name in names for steps in (1, 2, 4)]
        values = {cell: (1.0 + 0.1 * i, 0.5 + 0.01 * i, 0.5, 0.5, 0.5, 0.5) for i, cell in enumerate(cells)}
        monkeypatch.setattr(fake_run, "VALUES", values)
        record = read_record(fake_run.fake_run(tmp_path / f"run-{methods}-{pairs}", cells, **changes))
        return replace(record, pairs=pair_rows(names)) if pairs else record

    return made


def test_differences_of_three_metrics_and_two_kinds_of_cost_are_drawn_first_metric_first(record_of):
    found = charts(record_of(3, pairs=True))
    assert [chart.name for chart in found] == [
        "differences-fid", "cost-nfe", "cost-ms", "differences-clip-score", "differences-coverage", "metrics",
    ]  # fmt: skip
    assert "method-1@1 -1.00 [-1.50, -0.50]; method-2@1 -1.00" in found[0].alt
    assert [chart.name for chart in charts(record_of(2))] == ["cost-nfe", "cost-ms", "metrics"]


def test_differences_are_drawn_of_three_metrics_and_of_one_that_compares_with_the_teacher(record_of):
    metrics = record_of(2).metrics
    assert [metric.name for metric in paneled(metrics, metrics[0])] == ["fid", "clip_score", "coverage"]
    last = replace(metrics[5], summary="distance to the teacher's images")
    assert [metric.name for metric in paneled([*metrics[:5], last], metrics[1])] == ["clip_score", "fid", "coverage", "density"]


def test_ten_methods_have_ten_colours_and_ten_markers_and_a_name_at_each_line_s_end(record_of):
    looks = [style.line_of(index) for index in range(10)]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 10
    (cost,) = [chart for chart in charts(record_of(10)) if chart.name == "cost-nfe"]
    with style.styled():
        drawing = drawn(cost)
        drawing.canvas.draw()
        names = {text.get_text(): text.get_window_extent() for text in drawing.axes[0].texts}
    assert set(names) == {f"method-{number}" for number in range(10)}
    boxes = list(names.values())
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.y0 + 1 < b.y1 and b.y0 + 1 < a.y1], "names hide each other"
    assert max(box.x1 for box in boxes) <= drawing.bbox.x1


def test_places_are_spread_by_a_gap_and_moved_no_more_than_that_needs():
    assert spread([0.0, 20.0], 10, 0, 100) == [0.0, 20.0]
    assert spread([20.0, 20.0, 20.0], 10, 0, 100) == [10.0, 20.0, 30.0]
    assert spread([1.0, 2.0], 10, 0, 100) == [0.0, 10.0]
    assert spread([99.0, 100.0], 10, 0, 100) == [90.0, 100.0]


def test_students_of_one_trainer_go_by_what_tells_them_apart():
    assert shortened(["scott@student=h1", "scott@student=ode"]) == {"scott@student=h1": "h1", "scott@student=ode": "ode"}
    assert shortened(["scott@student=h1", "cd"]) == {"scott@student=h1": "scott@student=h1", "cd": "cd"}
    assert shortened(["a=1"]) == {"a=1": "a=1"} and len(shortened(["x" * 50])["x" * 50]) == 28


def test_the_front_is_what_nothing_at_most_as_costly_beats():
    points = [(2.0, 5.0), (1.0, 9.0), (4.0, 6.0), (1.0, 8.0), (8.0, 1.0)]
    assert front(points, higher_is_better=False) == [(1.0, 8.0), (2.0, 5.0), (8.0, 1.0)]
    assert front(points, higher_is_better=True) == [(1.0, 9.0)]


def test_the_teacher_is_the_horizon_measured_or_recorded(record_of):
    record = record_of(3)
    cells = [cell for cell in record.cells if cell.method != "method-2" or cell.steps == 4]
    cells[-1].facts["student"] = None
    (cost,) = [chart for chart in charts(replace(record, cells=cells)) if chart.name == "cost-nfe"]
    assert cost.alt.endswith("method-2 at 4 steps: 1.800.") and "Dashed: the teacher." in cost.caption
    with style.styled():
        lines = drawn(cost).axes[0].get_lines()
    assert [line.get_ydata()[0] for line in lines if line.get_transform() != lines[0].get_transform()] == [1.8]


@pytest.mark.parametrize("cost", [13.32589046833493, 757.4006024308981])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_single_cost_beside_a_teacher_divides_by_no_width(record_of, monkeypatch, cost):
    """matplotlib's limits around one point of a logarithmic axis have no width for some values, and the teacher's line asked for them."""
    record = record_of(2)
    monkeypatch.setattr(CellRecord, "milliseconds", cost)
    cells = [cell for cell in record.cells if cell.steps == 2]
    cells[-1].facts["student"] = None
    (chart,) = [chart for chart in charts(replace(record, cells=cells)) if chart.name == "cost-ms"]
    with style.styled():
        low, high = drawn(chart).axes[0].get_xlim()
    assert low < cost < high


def test_a_difference_that_is_not_decided_is_hollow(record_of):
    record = record_of(2)
    for decided in (True, False):
        chart = charts(replace(record, pairs=pair_rows(["method-0", "method-1"], decided=decided)))[0]
        with style.styled():
            lines = drawn(chart).axes[0].get_lines()
        faces = {line.get_markerfacecolor() for line in lines if line.get_marker() == style.MARKERS[1]}
        assert faces == {style.COLOURS[1] if decided else style.PAPER}


def drawn_points(values):
    """Label points at places (x, y); return the boxes of the labels and of their marks, and the axes' own, in pixels."""
    from matplotlib.figure import Figure as Drawing
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    drawing = Drawing(figsize=(6.0, 4.0), dpi=100)
    axes = drawing.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.plot(*zip(*values), linestyle="")
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    placing.label_points(drawing, axes, [(place, f"method-{i}@4", "black") for i, place in enumerate(values)])
    for label in axes.texts:
        label.get_window_extent()
    marks = [Bbox([[x - 5, y - 5], [x + 5, y + 5]]) for x, y in axes.transData.transform(values)]
    return [Text.get_window_extent(label) for label in axes.texts], marks, axes.get_window_extent(), axes.texts


CROWD = [(5 + 0.3 * math.cos(i), 5 + 0.3 * math.sin(i)) for i in range(7)]


def test_labels_of_points_in_a_crowd_lie_over_no_other_label_or_point():
    boxes, marks, inside, labels = drawn_points(CROWD)
    assert len(boxes) == 7 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i] + marks)
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes)
    assert 0 < sum(label.arrow_patch is not None for label in labels) < 7, "lines lead to the far ones alone"
    alone = drawn_points([(2, 2), (8, 8)])
    assert [label.arrow_patch for label in alone[-1]] == [None, None]


def test_places_near_a_point_alone_do_not_do_for_a_crowd(monkeypatch):
    monkeypatch.setattr(placing, "RINGS", (1,))
    boxes, marks, _, _ = drawn_points(CROWD)
    assert any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i] + marks)


@pytest.mark.parametrize(("values", "kind"), [
    ([10, 50], "linear"), ([10, 90], "log"), ([0, 10, 90], "symlog"), ([0, 10, 50], "linear"), ([-1, 10, 90], "linear"), ([0], "linear"),
])  # fmt: skip
def test_an_axis_is_logarithmic_where_its_values_span_much_and_even_about_a_zero(values, kind):
    from matplotlib.figure import Figure as Drawing

    axes = Drawing().add_axes((0.1, 0.1, 0.8, 0.8))
    _scale(axes, "x", values)
    axes.plot(values, values)
    axes.errorbar(values, values, xerr=[[9.99] * len(values), [1] * len(values)], fmt="none")  # an interval may reach below 0
    _value_axis(axes, "x", MetricRecord("fid", "FID", "", False, 3, "", "", ""))
    low, high = axes.get_xlim()
    assert axes.get_xscale() == kind and low < min(values) and max(values) < high < max(200, 2 * max(values))
    assert 2 <= sum(low <= tick <= high for tick in axes.get_xticks()) <= 9
    if kind == "symlog":
        places = axes.transData.transform([(0, 0), (10, 0), (90, 0)])[:, 0]
        assert 0.1 < (places[1] - places[0]) / (places[2] - places[1]) < 1, "0 stands apart, and takes no more room than the rest"
        assert 0 in axes.get_xticks()


def test_many_points_carry_their_number_of_steps_and_the_last_one_its_name(record_of):
    few, many = (charts(record_of(n))[-1] for n in (LABELLED // 3, LABELLED // 3 + 1))
    assert "each point a method@steps" in few.caption and "at the number of steps beside it" in many.caption


def test_a_page_s_figures_name_every_colour_so_that_a_dark_screen_has_its_own(record_of):
    for figure in figures(record_of(2, pairs=True)):
        svg = base64.b64decode(figure.source.partition(",")[2]).decode()
        rule, body = re.search(r"(:root\{[^}]*\}@media \(prefers-color-scheme:dark\)\{:root\{[^}]*\}\})", svg)[1], svg
        assert all(colour in rule for colour in style.ON_DARK.values())
        assert not set(re.findall("#[0-9a-f]{6}", body.replace(rule, ""))), "a colour of its own"
        ElementTree.fromstring(svg)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_lines_and_texts_have_enough_contrast_on_paper_and_on_a_dark_screen():
    dark = luminance(style.ON_DARK[style.PAPER])
    for colour in (*style.COLOURS, style.INK, style.FAINT):
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5, colour
        assert (luminance(style.ON_DARK[colour]) + 0.05) / (dark + 0.05) >= 4.5, colour


def test_the_style_file_is_matplotlib_s_and_has_the_page_s_colours():
    parameters = matplotlib.rc_params_from_file(str(style.FILE), use_default_template=False)
    assert tuple(parameters["axes.prop_cycle"].by_key()["color"]) == style.COLOURS
    assert tuple(parameters["axes.prop_cycle"].by_key()["marker"]) == tuple(style.MARKERS)
    with matplotlib.rc_context():
        matplotlib.style.use("scottbench.report.paper")
        assert matplotlib.rcParams["font.size"] == 9


def test_figures_for_a_paper_are_as_wide_as_its_columns_and_equal_records_give_equal_bytes(record_of, monkeypatch):
    record = record_of(2)
    monkeypatch.setattr("scottbench.report.paper.charts", lambda record: charts(record)[:1])
    files = dict(figure_files(record))
    assert {f"figures/cost-nfe-{word}.{kind}" for word in ("single", "double") for kind in ("pdf", "png")} == set(files)
    widths = [Image.open(io.BytesIO(files[f"figures/cost-nfe-{word}.png"])).width / 300 for word in ("single", "double")]
    assert widths == pytest.approx([style.SINGLE, style.DOUBLE], abs=0.01)
    assert dict(figure_files(record)) == files and files["figures/cost-nfe-single.pdf"].startswith(b"%PDF")
    grey = np.asarray(Image.open(io.BytesIO(files["figures/cost-nfe-single.png"])).convert("L"))
    assert grey.min() < 60 < 200 < grey.max()
