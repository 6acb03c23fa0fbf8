"""From a Metric and a CellFeatures to an interval; pairs of a run; the tables."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
from made_run import N, influence

from scottbench.errors import ScottbenchError, ScottbenchWarning
from scottbench.registry.nouns import CellFeatures, Influence, Metric
from scottbench.stats.measured import Measured, items_frame
from scottbench.stats.paired import Pair, pairs_frame, rounded, run_pairs
from scottbench.stats.uncertainty import half, interval_or_reason, uncertainty

RNG = np.random.default_rng(1)
FEATURES, REAL = RNG.normal(size=(80, 3)), RNG.normal(size=(80, 3))
CELL = CellFeatures(80, {"image": FEATURES}, {"image": REAL}, {"image": REAL + 1})


def shift(cell, options):
    """Difference of the means of the first feature: its influence is known."""
    return float(cell.generated["image"][:, 0].mean() - cell.reference["image"][:, 0].mean())


def centred(values):
    return values - values.mean()


def of_shift(cell, options):
    return Influence(centred(cell.generated["image"][:, 0]), -centred(cell.reference["image"][:, 0]))


def items(cell, options):
    return cell.generated["image"][:, 0] - cell.reference["image"][:, 0]


EXACT = (FEATURES[:, 0] - REAL[:, 0]).std(ddof=1) / math.sqrt(80)


@pytest.mark.parametrize("fields", [{"influence": of_shift}, {"influence": of_shift, "items": items}])
def test_an_influence_gives_the_paired_error_of_a_mean(fields):
    found = uncertainty(Metric("shift", "s", shift, False, **fields), CELL, None, shift(CELL, None))
    assert found.method == "influence"
    assert found.interval.standard_error == pytest.approx(EXACT, rel=1e-12)
    assert (found.items is None) == ("items" not in fields)


@pytest.mark.parametrize("fields", [{}, {"items": items}])
def test_a_metric_without_an_influence_has_halves_of_its_prompts(fields):
    """Prompts are left out whole: image, reference and text together. Items alone do not say how they depend on each other."""
    found = uncertainty(Metric("shift", "s", shift, False, **fields), CELL, None, shift(CELL, None))
    assert found.method == "half-sampling" and (found.items is None) == (not fields)
    assert found.interval.standard_error == pytest.approx(EXACT, rel=0.4)


def test_a_metric_whose_influence_refuses_here_has_halves():
    def refuses(cell, options):
        raise ScottbenchError("rank limited")

    assert uncertainty(Metric("shift", "s", shift, False, influence=refuses), CELL, None, shift(CELL, None)).method == "half-sampling"


def test_a_half_of_a_cell_has_the_same_prompts_on_all_sides_and_its_own_memory():
    sides = {"image": FEATURES}, {"image": REAL}, {"image": REAL + 1}
    cell = CellFeatures(80, *sides, {"a": 1}, {"b": 2}, images=lambda indices: list(indices))
    some = half(cell, 0, np.array([5, 2]))
    assert some.n == 2 and (some.memo, some.reference_memo) == ({}, {})
    for side, whole in ((some.generated, FEATURES), (some.reference, REAL), (some.text, REAL + 1)):
        assert np.array_equal(side["image"], whole[[5, 2]])
    assert some.images([1, 0]) == [2, 5]
    some.memo["found"] = 1
    assert half(cell, 0, np.array([5, 2])).memo == {"found": 1} and half(cell, 1, np.array([5, 2])).memo == {}


def test_a_reference_that_is_a_set_of_its_own_stays_whole_and_only_prompts_vary():
    memory = {"fit": 1}
    cell = CellFeatures(80, {"image": FEATURES}, {"image": REAL[:-1]}, {}, reference_memo=memory)
    some = half(cell, 0, np.array([5, 2]))
    assert some.reference is cell.reference and some.reference_memo is memory and some.n == 2

    def influence(given, options):
        return Influence(np.arange(80.0) - 39.5, np.full(79, 1e6))

    def items(given, options):
        return np.zeros(79)

    found = uncertainty(Metric("shift", "s", shift, False, influence=influence, items=items), cell, None, shift(cell, None))
    assert (found.method, found.items) == ("influence", None) and np.array_equal(found.influence, np.arange(80.0) - 39.5)


def test_halves_do_not_warn_of_what_the_whole_is_judged_by():
    def warns(cell, options):
        if cell.n < 80:
            warnings.warn("few images", ScottbenchWarning, stacklevel=2)
        return shift(cell, options)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert uncertainty(Metric("shift", "s", warns, False), CELL, None, shift(CELL, None)).method == "half-sampling"


def crash(cell, options):
    raise ZeroDivisionError("of a plug-in")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"influence": lambda cell, options: Influence(np.zeros(79), None)}, r"shape \(79,\) for 80 prompts"),
        ({"influence": lambda cell, options: Influence(np.full(80, np.nan), None)}, "80 of 80 images is NaN"),
        ({"items": crash}, "ZeroDivisionError: of a plug-in"),
    ],
)
def test_a_value_without_an_interval_says_why_and_stays(fields, words):
    reason = interval_or_reason(Metric("shift", "s", shift, False, **fields), CELL, None, 1.0)
    assert isinstance(reason, str) and re.search(words, reason)


def test_one_image_has_no_interval():
    one = CellFeatures(1, {"image": FEATURES[:1]}, {"image": REAL[:1]}, {})
    assert "at least two" in interval_or_reason(Metric("shift", "s", shift, False), one, None, 1.0)


# --- pairs of a run --------------------------------------------------------------------------------------------------


def measured(method, steps, seed=0, metric="fid", value=1.0, spread=1.0, own=1, **changes):
    facts = {"higher_is_better": metric != "fid", "n": N, "fingerprint": metric, "df": N - 1, "ids": ("x",) * N, **changes}
    return Measured(method, steps, (seed,), metric, value=value, influence=influence(own, spread), **facts)


def test_a_run_s_pairs_are_all_of_its_rows_and_those_that_a_table_asks_about_come_first():
    cells = [measured(method, steps, own=own) for own, (method, steps) in enumerate([("a", 1), ("a", 2), ("a", 4), ("b", 2), ("b", 4)])]
    found = [(pair.a.cell, pair.b.cell) for pair in run_pairs(cells)]
    # methods at equal steps, and neighbouring steps of one
    assert set(found[:5]) == {("a@1", "a@2"), ("a@2", "a@4"), ("a@2", "b@2"), ("a@4", "b@4"), ("b@2", "b@4")}
    assert set(found[5:]) == {("a@1", "a@4"), ("a@1", "b@2"), ("a@1", "b@4"), ("a@2", "b@4"), ("a@4", "b@2")}


def test_holm_is_over_the_whole_table_metrics_included():
    cells = [measured(m, 2, metric=metric, value=v, own=own)
             for own, m in enumerate("ab") for metric, v in (("fid", 1 + 0.02 * own), ("clip_score", 1 + 0.03 * own))]  # fmt: skip
    pairs = run_pairs(cells)
    p = sorted(pair.test.p for pair in pairs)
    assert [pair.p_holm for pair in sorted(pairs, key=lambda pair: pair.test.p)] == pytest.approx([2 * p[0], max(2 * p[0], p[1])])


def test_seeds_are_averaged_and_their_own_noise_with_them():
    """Values: the mean; errors: what the seeds share stays, what is their own shrinks."""
    cells = [measured("a", 2, seed, value=1.0 + seed, own=1 + seed) for seed in (0, 1)]
    cells += [measured("b", 2, seed, value=3.0 + seed, own=4 + seed) for seed in (0, 1)]
    (pair,) = run_pairs(cells)
    assert pair.a.seeds == pair.b.seeds == (0, 1)
    assert (pair.a.value, pair.b.value, pair.test.difference) == (1.5, 3.5, -2.0)
    (single,) = run_pairs([cells[0], cells[2]])
    assert pair.test.standard_error / single.test.standard_error == pytest.approx(1 / math.sqrt(2), rel=0.1)
    # a seed that only one of them has is left out
    (pair,) = run_pairs([*cells, measured("a", 2, 5, value=100.0)])
    assert pair.a.value == 1.5 and pair.a.seeds == (0, 1)


@pytest.mark.parametrize("change", [{"n": N - 1}, {"fingerprint": "other"}, {"ids": ("y",) * N}])
def test_what_must_not_be_compared_is_not_in_the_table(change):
    assert run_pairs([measured("a", 2), measured("b", 2, **change)]) == []


def test_the_verdict_follows_the_metric_s_direction_and_the_adjusted_p():
    def verdict(metric, a, b):
        (pair,) = run_pairs([measured("a", 2, metric=metric, value=a, own=1), measured("b", 2, metric=metric, value=b, own=2)])
        return pair.verdict, pair.in_words

    assert verdict("fid", 1.0, 2.0) == ("a better", "a@2 better")
    assert verdict("coverage", 1.0, 2.0) == ("b better", "b@2 better")
    word, text = verdict("fid", 1.0, 1.01)
    assert word == "inconclusive" and text.startswith("inconclusive: about ") and text.endswith(" images would decide")
    (equal,) = run_pairs([measured("a", 2), measured("b", 2)])
    assert equal.verdict == equal.in_words == "equal" and equal.images_to_decide is None


def test_numbers_of_images_are_rounded_to_what_they_are_worth():
    wanted = ["about 7", "about 85", "about 1,200", "about 30,000", "more than 10,000,000"]
    assert [rounded(n) for n in (7, 85, 1234, 29_512, 10_000_001)] == wanted


def test_tables_have_their_columns_even_when_empty():
    assert items_frame([]).columns == ["method", "steps", "seed", "metric", "id", "value", "influence", "seeds"]
    frame = pairs_frame([])
    assert frame.height == 0 and {"difference", "ci_low", "p_holm", "images_to_decide", "verdict"} <= set(frame.columns)


def test_rows_of_pairs_are_in_words_and_numbers():
    (pair,) = run_pairs([measured("a", 2, value=1.0, own=1), measured("b", 2, value=1.01, own=2)])
    assert isinstance(pair, Pair)
    row = pairs_frame([pair]).to_dicts()[0]
    assert (row["method_a"], row["steps_a"], row["method_b"], row["steps_b"], row["seeds"], row["n"]) == ("a", 2, "b", 2, "0", N)
    assert row["difference"] == pytest.approx(-0.01) and row["ci_low"] < row["difference"] < row["ci_high"]
    assert row["images_to_decide"] == pair.images_to_decide and row["verdict"] == pair.in_words
