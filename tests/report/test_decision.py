"""The answer on the first screen, in every case that records can be in: decided, tied, one row, no test, several steps, no teacher."""

from __future__ import annotations

from dataclasses import replace

import fake_run
import pytest
from test_figures import pair_rows

from scottbench.report.candidates import difference
from scottbench.report.decision import decide
from scottbench.report.verdicts import verdict_row
from scottbench.store.record import Interval, read_record

SIX = [(method, steps) for method in ("scott", "cd") for steps in (1, 2, 4)]


@pytest.fixture
def record_of(tmp_path):
    """(cells) -> the record of a run of them, without pairs."""
    made = []

    def record(cells=(("scott", 2), ("cd", 2)), **changes):
        made.append(tmp_path / f"run-{len(made)}")
        return read_record(fake_run.fake_run(made[-1], cells, **changes))

    return record


def facts_of(record) -> dict[str, str]:
    return dict(decide(record).facts)


def with_pairs(record, **changes):
    return replace(record, pairs=[{**row, **changes} for row in pair_rows(["scott", "cd"], steps=(1, 2, 4))])


def test_a_decided_difference_is_given_with_its_interval_and_what_the_other_metrics_say(record_of):
    record = with_pairs(record_of(SIX))
    found = decide(record)
    assert found.choice == "scott at 4 steps."
    assert found.answer == "scott at 4 steps has FID 0.710: 1.00 [0.50, 1.50] lower than cd at 4 steps."
    assert "4 students" not in found.question and "Which of 2 students" in found.question and "1, 2 and 4 steps" in found.question
    # coverage and CLIP score have the same difference, -1, and higher is better there
    assert facts_of(record)["How sure"] == (
        "Paired over 256 shared prompts: p = 0.001, 0.010 after correction (Holm). Against cd at 4 steps also worse in CLIP score and "
        "Coverage.")  # fmt: skip
    told = facts_of(record)["Cannot be told apart"]
    assert told.startswith("Nothing: the row tested against it did worse. Not tested against the best: ")


def test_a_pair_counts_either_way_round(record_of):
    record = with_pairs(record_of())
    scott, cd = record.cells
    forth, back = (difference(record, record.metrics[0], *pair) for pair in ((scott, cd), (cd, scott)))
    assert (forth.value, forth.low, forth.high, forth.a_better) == (-1.0, -1.5, -0.5, True)
    assert (back.value, back.low, back.high, back.a_better) == (1.0, 0.5, 1.5, False)


def test_what_cannot_be_told_apart_is_no_winner_and_says_what_would_decide(record_of):
    record = with_pairs(record_of(), p_holm=0.2, images_to_decide=5312, ci_low=-2.1, ci_high=0.1)
    found = decide(record)
    assert found.choice == "No clear best: scott at 2 steps or cd at 2 steps."
    assert "cannot be told apart from cd at 2 steps (0.830): difference -1.0 [-2.1, 0.1]." in found.answer
    assert "About 5,300 images a row would decide." in dict(found.facts)["How sure"]
    assert dict(found.facts)["Cannot be told apart"] == "cd at 2 steps."


def test_a_test_that_goes_against_the_ranking_is_said(record_of):
    record = with_pairs(record_of(), difference=0.4, ci_low=0.1, ci_high=0.7)
    assert "but on the prompts that both share cd at 2 steps is better: difference +0.40 [0.10, 0.70]." in decide(record).answer


def test_one_row_is_compared_with_nothing(record_of):
    record = record_of([("scott", 2)])
    found = decide(record)
    assert found.answer == "scott at 2 steps has FID 0.760; it is the only row, so nothing is compared."
    assert found.question.startswith("How good is scott at 2 steps on emoji5k by FID")
    assert "How sure" not in dict(found.facts) and "Cannot be told apart" not in dict(found.facts)


def test_without_tests_no_row_is_called_better_for_sure(record_of):
    record = record_of()
    found = decide(record)
    assert found.answer == ("scott at 2 steps has the lowest FID, 0.760; next is cd at 2 steps with 0.830. Their difference was not tested "
                            "in this run.")
    assert dict(found.facts)["How sure"] == "No interval and no test: a small difference may be noise."
    record.cells[1].values["fid"] = record.cells[0].values["fid"]
    assert "have the same FID, 0.760" in decide(record).answer


def test_rows_that_agree_on_every_prompt_are_no_difference(record_of):
    record = with_pairs(record_of(), difference=0.0, ci_low=0.0, ci_high=0.0, p=1.0, p_holm=1.0, images_to_decide=None)
    assert decide(record).answer == "scott at 2 steps and cd at 2 steps agree on every prompt: FID 0.760."


def test_a_metric_without_values_makes_way_for_the_next_and_none_is_no_answer(record_of):
    record = record_of()
    for cell in record.cells:
        del cell.values["fid"]
    assert "has the highest CLIP score, 0.570" in decide(record).answer
    for cell in record.cells:
        cell.values.clear()
    found = decide(record)
    assert (found.choice, found.facts, found.by_cost) == ("No answer.", [], []) and "No value of any metric" in found.answer


def test_the_cheapest_row_and_the_best_at_each_cost_are_named(record_of):
    record = record_of(SIX)
    assert facts_of(record)["Cost"] == (
        "4 network evaluations and 61.4 ms an image. Cheapest: cd at 1 step, 1 network evaluation and 22.1 ms, FID 0.980.")  # fmt: skip
    assert decide(with_pairs(record, p_holm=0.3)).by_cost == [
        "1 evaluation, 22.1 ms: cd at 1 step, FID 0.980; not told apart from scott.",
        "2 evaluations, 35.2 ms: scott at 2 steps, FID 0.760; not told apart from cd.",
        "4 evaluations, 61.4 ms: scott at 4 steps, FID 0.710; not told apart from cd.",
    ]
    assert decide(record_of()).by_cost == []


def test_the_teacher_is_never_the_choice_and_its_distance_is_given(record_of):
    record = record_of(SIX)
    teacher = record.cells[2]  # scott@4, the best of all
    teacher.facts["student"], teacher.facts["nfe"] = None, 100
    found = decide(record)
    assert found.choice == "scott at 2 steps." and "next is cd at 4 steps" in found.answer
    assert dict(found.facts)["Teacher"] == "scott at 4 steps: FID 0.710. The best row is 0.050 worse, at 2 of 100 network evaluations."
    told = facts_of(with_pairs(record, p_holm=0.3, method_a="scott", steps_a=4, method_b="scott", steps_b=2))["Teacher"]
    assert told == "scott at 4 steps: FID 0.710. The best row cannot be told apart from it, at 2 of 100 network evaluations."
    assert "No row of the teacher compares" in facts_of(record_of())["Teacher"]


def test_a_recorded_teacher_stands_in_where_its_n_and_fingerprint_are_equal(record_of):
    record = record_of()
    values = {"fid": {"value": 0.5, "low": 0.4, "high": 0.6, "fingerprint": "fid(); scottbench 0.9; n=256"}}
    rows = [{"method": "ddim", "steps": 50, "nfe": 100, "n": 256, "values": values}]
    model = record.manifest["plan"]["model"]["digest"]
    recorded = {"schema": "scottbench.recorded/1", "source": "reports/main", "version": "0.9", "model": model, "rows": rows}
    told = facts_of(replace(record, manifest={**record.manifest, "recorded": recorded}))["Teacher"]
    assert told == "ddim at 50 steps (recorded): FID 0.500 [0.400, 0.600]. The best row is 0.260 worse, at 2 of 100 network evaluations."


def test_samplers_without_a_student_are_chosen_among_and_have_no_teacher(record_of):
    record = record_of()
    for cell in record.cells:
        cell.facts["student"] = None
    assert decide(record).question.startswith("Which of 2 methods makes the best images") and "Teacher" not in facts_of(record)


def test_trainings_of_one_recipe_are_no_rivals_and_their_spread_is_said(record_of, monkeypatch):
    names = ["scott", "scott@student=b", "cd"]
    monkeypatch.setattr(fake_run, "VALUES", {(name, 2): (0.7 + 0.05 * i, 0.5, 0.5, 0.5, 0.5, 0.5) for i, name in enumerate(names)})
    record = record_of([(name, 2) for name in names])
    for cell in record.cells[:2]:
        cell.facts["student"] = {"trainer": "scott", "seed": cell.method}
    found = decide(record)
    assert "next is cd at 2 steps with 0.800" in found.answer
    assert "2 trainings of its recipe reach 0.700 to 0.750." in dict(found.facts)["Cannot be told apart"]


def test_values_carry_their_intervals(record_of):
    record = record_of()
    record.cells[0].intervals["fid"] = Interval(0.7, 0.8, "influence")
    assert decide(record).answer.startswith("scott at 2 steps has the lowest FID, 0.760 [0.700, 0.800];")


def test_several_seeds_are_one_row_by_their_mean(record_of):
    record = record_of()
    assert "N = 256 prompts; all numbers are on pocket features" in facts_of(record)["Read with"]
    other = [replace(cell, facts={**cell.facts, "seed": 1, "id": f"{cell.method}__s2__seed1"}) for cell in record.cells]
    together = [replace(cell, facts={**cell.facts, "seed": None, "seeds": [0, 1], "cells": [cell.facts["id"]]}, sampling=None)
                for cell in record.cells]  # fmt: skip
    found = decide(replace(record, cells=[*record.cells, *other], over_seeds=together))
    assert "N = 256 prompts, 2 seeds" in dict(found.facts)["Read with"] and "35.2 ms an image" in dict(found.facts)["Cost"]


def test_verdicts_are_a_row_and_what_was_not_tested_is_counted(record_of):
    claims = [{"name": "a", "statement": "A", "verdict": "direction holds"}, {"name": "b", "statement": "B", "verdict": "contradicted"},
              {"name": "c", "statement": "C", "verdict": "not testable here"}]  # fmt: skip
    row, untested = verdict_row(replace(record_of(), claims=claims))
    assert [(one.name, one.sign) for one in row] == [("a", "✓"), ("b", "✗")] and untested == "1 of 3 not testable here"
    assert verdict_row(record_of()) == ([], "")
