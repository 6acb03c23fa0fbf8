"""Trainings of one recipe: what is one recipe, and an interval that covers what chance does to a training."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from scottbench.stats.measured import Measured
from scottbench.stats.paired import images_to_decide, paired_difference
from scottbench.stats.trainings import Trainings, all_else_differs, between_trainings, compare_trainings, trainings

N = 200
NOISE = np.random.default_rng(5).normal(size=(9, N))
NOISE -= NOISE.mean(axis=1, keepdims=True)


def student(seed: int = 0, **changes) -> dict:
    facts = {"trainer": "scott", "options": {"h": 3, "lr": 1e-4}, "steps": 100, "batch_size": 32, "seed": seed, "minutes": 19.0 + seed}
    return {**facts, **changes}


def cell(method: str, value: float, influence: np.ndarray | None = None, facts: dict | None = None, seed: int = 0, **changes) -> Measured:
    own = Measured(
        method, 2, (seed,), "fid", False, N, "print", value, np.zeros(N) if influence is None else influence, N - 1,
        tuple(f"item-{i}" for i in range(N)), weights=method if facts is None else f"{method}-{facts}", student=facts)  # fmt: skip
    return replace(own, **changes)


def side(name: str, values: list[float], sd: float = 0.0) -> Trainings:
    return Trainings([[cell(f"{name}@student={k}", value, sd * NOISE[k], student(k))] for k, value in enumerate(values)])


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_students_that_differ_by_chance_are_trainings_of_one_recipe():
    found = trainings([
        cell("scott", 19.0, facts=student(0)), cell("scott@student=b", 20.0, facts=student(1)),
        cell("scott@student=hot", 30.0, facts=student(0, options={"h": 3, "lr": 1e-3})),
        cell("scott@student=b,eta=1", 20.0, facts=student(1)), cell("scott@student=long", 9.0, facts=student(0, steps=400)),
    ])  # fmt: skip
    assert [[one[0].method for one in recipe.cells] for recipe in found] == [
        ["scott", "scott@student=b"], ["scott@student=hot"], ["scott@student=b,eta=1"], ["scott@student=long"],
    ]  # fmt: skip
    assert found[0].names == "scott@2 and scott@student=b@2"


def test_weights_that_are_met_twice_are_one_training_and_seeds_of_noise_belong_to_it():
    once = cell("scott", 19.0, facts=student(0))
    (recipe,) = trainings([once, replace(once, seeds=(1,), value=21.0), replace(once, method="scott@student=copy")])
    assert [[one.seeds for one in training] for training in recipe.cells] == [[(0,), (1,)]]


def test_a_teacher_is_one_recipe_without_trainings():
    (recipe,) = trainings([cell("ddim", 9.0), cell("ddim", 9.4, seed=1)])
    tested = compare_trainings(recipe, side("scott", [19.0, 20.0]))
    assert tested.trainings == (0, 2) and tested.covers == "over 2 trainings" and tested.a.value == 9.0  # of the noise seed that both have


# --- the test ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [([19.0, 21.5], [16.0, 16.4]), ([19.0, 21.5, 20.0], [16.0, 16.4]), ([5.0, 5.2, 5.1], [9.0])])
def test_without_noise_of_images_it_is_the_t_test_of_two_samples(a, b):
    """One value on a side is the classic test too: the pooled spread is the other side's."""
    test = compare_trainings(side("scott", a), side("cd", b)).test
    peer = stats.ttest_ind(a, b)
    low, high = peer.confidence_interval(0.95)
    assert (test.difference, test.p) == pytest.approx((np.mean(a) - np.mean(b), peer.pvalue))
    assert (test.low, test.high) == pytest.approx((low, high))


def test_a_ratio_is_the_t_test_of_the_logarithms():
    a, b = [0.90, 0.84], [0.70, 0.75]
    values = between_trainings(np.log(a).tolist(), np.log(b).tolist())
    test = compare_trainings(side("scott", a), side("cd", b), ratio=True).test
    half = stats.t.ppf(0.975, values[1]) * math.sqrt(values[0])
    centre = math.log(np.mean(a) / np.mean(b))
    assert (math.log(test.low), math.log(test.high)) == pytest.approx((centre - half, centre + half))


def test_one_training_each_is_the_paired_difference_and_says_what_it_leaves_out():
    a, b = side("scott", [19.0], 30.0), side("cd", [17.0], 20.0)
    tested = compare_trainings(a, b)
    assert tested.test == paired_difference(19.0, 17.0, a.first.influence, b.first.influence, N - 1)
    assert tested.trainings == (1, 1) and "one training each, whose chance the interval does not cover" in tested.covers


def test_trainings_that_agree_add_nothing_and_ones_that_do_not_widen():
    same, apart = side("scott", [19.0, 19.0], 30.0), side("scott", [17.0, 21.0], 30.0)
    other = side("cd", [16.0, 16.0], 20.0)
    narrow, wide = compare_trainings(same, other), compare_trainings(apart, other)
    assert narrow.between == 0 and narrow.test.standard_error == narrow.of_images
    assert wide.of_images == narrow.of_images and wide.between == pytest.approx(2.0)
    assert wide.test.standard_error == pytest.approx(math.hypot(wide.between, wide.of_images))
    assert wide.test.high - wide.test.low > 2 * (narrow.test.high - narrow.test.low)
    assert wide.covers == "over 2 and 2 trainings"


def test_the_interval_covers_the_difference_of_two_recipes_at_its_rate():
    """2 and 3 trainings; the spread between them and the noise of images are about equal. Of 95 %, 3,000 draws leave +-0.8 %."""
    draws = np.random.default_rng(11)
    held, tries = 0, 3000
    for _ in range(tries):
        shared = draws.normal(size=N) * 10
        sides = []
        for name, true, k in (("scott", 20.0, 2), ("cd", 17.0, 3)):
            cells = []
            for number in range(k):
                influence = shared + draws.normal(size=N) * 10
                value = true + draws.normal() * 0.7 + influence.mean()
                cells.append([cell(f"{name}@student={number}", value, influence - influence.mean(), student(number))])
            sides.append(Trainings(cells))
        test = compare_trainings(*sides).test
        held += test.low <= 3.0 <= test.high
    assert 0.935 <= held / tries <= 0.985


def test_images_cannot_decide_what_hides_between_trainings():
    free = images_to_decide(1.0, 0.5, 1000)
    assert images_to_decide(1.0, 0.5, 1000, between=0.2) > free
    assert images_to_decide(1.0, 0.5, 1000, between=0.36) is None and images_to_decide(0.0, 0.5, 1000) is None


def test_equal_passes_are_an_equal_budget_whatever_number_of_steps_they_made():
    """A discriminator costs passes: at equal passes the student without one makes more steps, and nothing else differs."""

    def differs(passes_a, passes_b, named=("h",)):
        a = cell("scott", 10.0, facts={**student(0, steps=49), "passes": passes_a})
        b = cell("scott@student=b", 12.0, facts={**student(0, steps=70), "options": {"h": 1, "lr": 1e-4}, "passes": passes_b})
        return all_else_differs(a, b, set(named))

    assert differs(80_238, 80_640) == [] and differs(80_000, 81_600) == []
    assert differs(80_000, 81_700) == ["steps (49, 70)"] == differs(None, None) == differs(80_000, None)
    assert differs(80_238, 80_640, named=()) == ["option h (3, 1)"]
