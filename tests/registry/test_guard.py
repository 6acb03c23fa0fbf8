"""The guard around plug-ins: whatever one raises names it, its line and a way out, and costs the others nothing."""

from __future__ import annotations

import signal
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import tiny_plugin
from test_plugins import broken_line, entry

from scottbench.errors import ScottbenchError, UsageError
from scottbench.plan.cells import checked_timesteps
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry import guard
from scottbench.registry.guard import PluginFailed
from scottbench.registry.loader import LEFT_OUT, load_plugins
from scottbench.registry.nouns import CellFeatures, Dataset, Method, Metric, Trainer, lazy, read_only
from scottbench.run.execute import execute


class Stop(BaseException):
    """A plug-in's own, which no `except Exception` sees."""


@pytest.mark.parametrize("raised", ["SystemExit(0)", "KeyboardInterrupt()", "type('Own', (BaseException,), {})('x')"])
def test_whatever_is_raised_at_import_breaks_that_plug_in_only(monkeypatch, raised):
    monkeypatch.setattr(guard, "INTERRUPTS", guard._Interrupts(counted=True))  # as the command line does, and no Ctrl-C so far
    assert "module_bad.py:" in broken_line(f"raise {raised}")


def test_a_ctrl_c_stays_one(monkeypatch):
    monkeypatch.setattr(guard, "INTERRUPTS", guard._Interrupts(counted=True))
    with pytest.raises(KeyboardInterrupt):
        guard.interrupt(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        load_plugins([entry("bad", "raise KeyboardInterrupt")])
    monkeypatch.setattr(guard, "INTERRUPTS", guard._Interrupts(counted=False))  # a notebook, where nobody counts
    with pytest.raises(KeyboardInterrupt):
        load_plugins([entry("bad", "raise KeyboardInterrupt")])


FIELDS = [
    ('Method("x", 3, print, print)', "method 'x': field 'summary' must be text, found 3"),
    ('Method("x", "s", "no.function", print)', "field 'sample' must be a function, found 'no.function'"),
    ('Method("x", "s", print, print, made_for=4)', "field 'made_for' must be a tuple of whole numbers, found 4"),
    ('Method("x", "s", print, print, guidance=float("nan"))', "field 'guidance' must be a number, found nan"),
]


@pytest.mark.parametrize(("made", "words"), FIELDS)
def test_a_field_of_a_wrong_type_is_found_when_the_plug_in_is_loaded(made, words):
    assert words in broken_line(f"@hookimpl\ndef register_methods():\n    return [{made}]")


def metric(**words):
    base = {"name": "m", "summary": "s", "compute": lambda cell, options: 1.0, "higher_is_better": True}
    return Metric(**{**base, **words})


@pytest.mark.parametrize(("noun", "words"), [
    (metric(digits="3"), "digits"), (metric(bounds=(0, "1")), "bounds"), (metric(scope="sedes"), "scope"),
    (metric(higher_is_better="no"), "higher_is_better"),
])  # fmt: skip
def test_fields_of_a_metric_are_checked(files, noun, words):
    with pytest.raises(AssertionError, match=f"field ..?{words}..? must be"):
        tiny_plugin.tiny_plugins(files, metrics=[noun])


def test_a_call_names_plug_in_file_line_and_a_way_out(files):
    def compute(cell, options):
        raise SystemExit(3)

    noun = tiny_plugin.tiny_plugins(files, metrics=[metric(compute=compute)]).find("metric", "m").noun
    with pytest.raises(PluginFailed, match=r"metric 'm' of plug-in 'tiny' failed in compute: SystemExit: 3 "
                                           r"\(test_guard.py:\d+\)\. .*--no-plugin tiny"):  # fmt: skip
        noun.compute(None, None)


def test_what_a_plug_in_says_to_the_user_passes_as_it_is(files):
    def compute(cell, options):
        raise UsageError("needs two images")

    noun = tiny_plugin.tiny_plugins(files, metrics=[metric(compute=compute)]).find("metric", "m").noun
    with pytest.raises(UsageError, match="^needs two images$"):
        noun.compute(None, None)


def test_items_of_a_dataset_and_losses_of_a_trainer_are_guarded_too():
    class Bad:
        ids, prompts, digest = ("a",), ("b",), "c"

        def images(self, indices):
            return 1 / 0

        def step(self, batch):
            yield "student", {}, {}
            raise Stop("in the second")

    owner = guard.Owner("x", "cure")
    items = guard.guarded("dataset", Dataset("d", "s", lambda split: Bad()), owner).open("evaluation")
    assert items.ids == ("a",) and not hasattr(items, "other")
    with pytest.raises(PluginFailed, match="x failed in images: ZeroDivisionError"):
        items.images([0])
    steps = guard.guarded("trainer", Trainer("t", "s", lambda context, options: Bad()), owner).build(None, None).step({})
    assert next(steps) == ("student", {}, {})
    with pytest.raises(PluginFailed, match="x failed in step: Stop: in the second"):
        next(steps)


# --- one cannot harm another ------------------------------------------------------------------------------------------


def quiet(event):
    pass


def spoil(cell, options):
    for rows in cell.generated.values():
        rows[:] = 0


def swap(cell, options):
    cell.generated["image"] = np.zeros_like(cell.generated["image"])
    cell.n = 1
    return 1.0


def test_a_metric_that_writes_changes_no_other_value_and_wrong_items_cost_that_metric_only(files, tmp_path):
    metrics = [
        metric(name="spoil", compute=spoil), metric(name="swap", compute=swap),
        metric(name="short", compute=lambda cell, options: 2.0, items=lambda cell, options: np.zeros(3)),
    ]  # fmt: skip

    def values(names, folder):
        plugins = tiny_plugin.tiny_plugins(files, metrics=[replace(one, digits=2) for one in metrics])
        plan = make_plan(plugins, RunRequest("tiny", methods=["hop"], metrics=names, device="cpu"))
        try:
            execute(plan, plugins, folder, None, quiet)
            failed = ""
        except ScottbenchError as error:
            failed = str(error)
        rows = pl.read_parquet(folder / "results.parquet")
        return dict(zip(rows["metric"], rows["value"])), failed, plan.warnings

    alone, _, _ = values(["gap"], tmp_path / "alone")
    found, failed, warnings = values(["spoil", "swap", "short", "gap"], tmp_path / "all")
    assert found == {"spoil": None, "swap": 1.0, "short": 2.0, "gap": alone["gap"]}
    assert "spoil: metric 'spoil' of plug-in 'tiny' failed in compute: ValueError: assignment destination is read-only" in failed
    assert any("'spoil'" in line and "tried on 32 made images" in line for line in warnings)
    assert any("'short': items must give one number an image" in line for line in warnings)


def test_read_only_copies_share_their_memory_and_not_their_tables():
    cell = CellFeatures(2, {"image": np.zeros((2, 3))}, {}, {})
    first, second = read_only(cell), read_only(cell)
    first.memo["x"] = 1
    assert second.memo == {"x": 1} and first.generated is not second.generated
    with pytest.raises(ValueError, match="read-only"):
        first.generated["image"][0] = 1


# --- before anything is computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad", "words"), [
    (metric(compute=lazy("json:no_such")), "metric 'm' of plug-in 'tiny' failed in compute: AttributeError.*no_such"),
    (metric(influence=lazy("json:loads.__name__")), "AttributeError"),
    (metric(compute=lambda cell: 1.0), "TypeError"),
    (metric(compute=lambda cell, options: "many"), "compute must return a number, found 'many'"),
])  # fmt: skip
def test_a_metric_that_is_wrong_on_any_data_is_refused_before_anything_is_computed(files, bad, words):
    plugins = tiny_plugin.tiny_plugins(files, metrics=[bad])
    with pytest.raises(UsageError, match=words):
        make_plan(plugins, RunRequest("tiny", methods=["hop"], metrics=["m"], device="cpu", limit=2))


class Schedule:
    def __len__(self):
        return 1000


@pytest.mark.parametrize(("times", "words"), [
    ([1, 999], "gives .1, 999., and it must give 2 time steps that fall"),
    ([999, 500, 1], "must give 2 time steps that fall"),
    ([1500, 3], "inside 0..1000"),
    ([float("nan"), 1], "finite numbers"),
    (None, "finite numbers"),
    (["a", "b"], "finite numbers"),
    ([], "--steps 2: method 'x' cannot do that"),
    ([(999, 749), (999, 249)], "--steps 2: method 'x' cannot do that"),
    ([(499, 749), (999,)], "gives .\\(499, 749\\), 999., and it must give 2 time steps that fall"),
    ([(999, 1500), 3], "inside 0..1000"),
    ([999, ()], "must give 2 time steps that fall"),
    ([(999, "a"), 3], "finite numbers"),
])  # fmt: skip
def test_time_steps_fall_and_are_as_many_as_asked_for(times, words):
    method = Method("x", "s", print, lambda schedule, steps, options: times)
    with pytest.raises(UsageError, match=words):
        checked_timesteps(method, None, Schedule(), 2)


@pytest.mark.parametrize("times", [[(999, 749), (499, 249)], [[999, 749, 999], 3.5], [(999,), (3, 998)]])
def test_a_step_that_asks_several_times_is_a_tuple_and_all_its_calls_are_recorded(times):
    method = Method("x", "s", print, lambda schedule, steps, options: times)
    asked = [t for step in times for t in (step if isinstance(step, (tuple, list)) else (step,))]
    assert checked_timesteps(method, None, Schedule(), 2) == asked


def test_time_steps_are_those_that_the_sampler_asks_at(files, tmp_path):
    other = Method("liar", "s", lambda run: run.denoise(run.noise(0), 700)[0], lambda schedule, steps, options: [999])
    plugins = tiny_plugin.tiny_plugins(files, methods=[other])
    plan = make_plan(plugins, RunRequest("tiny", methods=["liar"], steps=[1], metrics=["gap"], device="cpu", limit=2))
    with pytest.raises(ScottbenchError, match="method 'liar' evaluated its network at time steps 700, and declares 999"):
        execute(plan, plugins, tmp_path / "run", None, quiet)


# --- which plug-ins, and names in claims ------------------------------------------------------------------------------

GOOD = "@hookimpl\ndef register_methods():\n    return [method('{}')]\n"


def test_plug_ins_that_are_left_out_are_not_imported(monkeypatch):
    three = [entry(name, GOOD.format(f"of-{name}")) for name in ("alpha", "beta")] + [entry("evil", "raise SystemExit")]
    token = LEFT_OUT.set(("evil", "beta"))
    try:
        plugins = load_plugins(three)
    finally:
        LEFT_OUT.reset(token)
    assert list(plugins.nouns["method"]) == ["of-alpha"] and not plugins.broken
    assert [plugin.status for plugin in plugins.plugins] == ["ok", "left out", "left out"]
    with pytest.raises(UsageError, match="It may belong to a plug-in that is left out .beta, evil"):
        plugins.find("method", "zzz")
    monkeypatch.setenv("SCOTTBENCH_PLUGINS", "beta, alpha")
    assert list(load_plugins(three).nouns["method"]) == ["of-alpha", "of-beta"]
    monkeypatch.setenv("SCOTTBENCH_PLUGINS", "alpa")
    with pytest.raises(UsageError, match="SCOTTBENCH_PLUGINS: no plug-in is called 'alpa'. Did you mean 'alpha'"):
        load_plugins(three)


CLAIM = """
name = "better"
paper = "p"
version = "1"
locator = "abstract"
statement = "x beats y"
[[compare]]
metric = "{}"
better = {{ method = "of-a" }}
worse = {{ method = "of-a" }}
"""


@pytest.mark.parametrize(("name", "words"), [("fid2", "Did you mean 'fid'?"), ("zzzz", "which nobody registers.")])
def test_a_name_in_a_claim_that_nobody_registers_is_told_with_a_suggestion(tmp_path, name, words):
    path = tmp_path / "claim.toml"
    path.write_text(CLAIM.format(name))
    source = GOOD.format("of-a") + f"""
@hookimpl
def register_metrics():
    return [Metric("fid", "s", print, False)]

@hookimpl
def register_claims():
    return [Path({str(path)!r})]
"""
    (line,) = load_plugins([entry("bad", source)]).remarks
    assert f"claim 'better' of plug-in 'bad' ({path}) names metric '{name}'" in line and words in line
    path.write_text(CLAIM.format("fid"))
    assert load_plugins([entry("bad", source)]).remarks == []
