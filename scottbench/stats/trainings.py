"""Trainings of one recipe: which cells are of students that differ in chance alone, and a test that covers what chance does to a training.

An interval over prompts says how sure the difference of *these two students* is. A claim is about two ways of training. Where a side was
trained K times, the K values differ by more than prompts explain; that spread enters the interval, with Student's t for so few values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scottbench.registry.label import Label
from scottbench.stats.intervals import LEVEL, t_quantile, t_tail
from scottbench.stats.measured import Measured, average, comparable, on_shared_seeds
from scottbench.stats.paired import PairedDifference, paired_difference, paired_ratio

SAME = ("options", "dataset_digest", "teacher_digest", "batch_size", "steps")
"""Facts of student.json that "all else equal" is about."""
RECIPE = ("trainer", "average", "lr_schedule", "precision", "weights", *SAME)
"""Facts of student.json that make a recipe. Two students that agree in all of them differ by chance: seed, machine, rounding."""


ONE_BUDGET = 0.02
"""Share by which passes of equal budgets may differ: a training ends with the update that reaches its budget."""


@dataclass(frozen=True)
class Trainings:
    """One side of a comparison: the cells of one recipe at one number of steps."""

    cells: list[list[Measured]]
    """One entry a training, each with its seeds of sampling noise."""

    @property
    def first(self) -> Measured:
        """Return a cell that stands for all: they share method, metric, steps and recipe."""
        return self.cells[0][0]

    @property
    def names(self) -> str:
        """Name the cells: "scott@2", "scott@2 and scott@student=b@2"."""
        return " and ".join(dict.fromkeys(cell[0].cell for cell in self.cells))


def trainings(measured: Iterable[Measured]) -> list[Trainings]:
    """Group cells of one metric by recipe, and each recipe's cells by training. Weights that several runs or labels share are one."""
    recipes: dict[tuple, dict[str, list[Measured]]] = {}
    for one in measured:
        of_recipe = recipes.setdefault((*_recipe(one), one.steps, one.fingerprint), {})
        seeds = of_recipe.setdefault(one.weights or one.method, [])
        if one.seeds not in {known.seeds for known in seeds}:
            seeds.append(one)
    return [Trainings(list(found.values())) for found in recipes.values()]


def _recipe(one: Measured) -> tuple[str, ...]:
    """Give what two trainings of one recipe share: how their student is sampled, and how it was trained."""
    label = Label.parse(one.method)
    if one.student is None:
        return str(label), one.weights
    return str(label.without("student")), json.dumps({key: one.student.get(key) for key in RECIPE}, sort_keys=True, default=str)


def all_else_differs(a: Measured, b: Measured, named: set[str]) -> list[str]:
    """Say in what two students differ beside the options that a claim names: "steps (100, 90)"; [] where in nothing.

    Students of equal passes had equal budgets; their numbers of steps then follow from the options, and are no difference.
    """

    def facts(one: Measured) -> dict[str, Any]:
        found = {key: (one.student or {}).get(key) for key in SAME if not (key == "steps" and equal_passes(a, b))}
        found.update({f"option {key}": value for key, value in (found.pop("options") or {}).items() if key not in named})
        return found

    of_a, of_b = facts(a), facts(b)
    return [f"{key} ({of_a.get(key)}, {of_b.get(key)})" for key in sorted({*of_a, *of_b}) if of_a.get(key) != of_b.get(key)]


def equal_passes(a: Measured, b: Measured) -> bool:
    """Tell whether the trainings of two students counted the same passes, but for an update; False where one did not count."""
    counted = [(one.student or {}).get("passes") for one in (a, b)]
    passes = [one for one in counted if isinstance(one, int) and one > 0]
    return len(passes) == 2 and max(passes) <= (1 + ONE_BUDGET) * min(passes)


@dataclass(frozen=True)
class Tested:
    """A comparison of two sides, over all their trainings."""

    a: Measured
    """Mean over the trainings of one side: value and influences."""
    b: Measured
    """The same of the other side."""
    test: PairedDifference
    of_images: float
    """Standard error that prompts and sampling noise alone give; of a ratio, of its logarithm."""
    between: float
    """Standard error that trainings give; 0 where each side has one, or none was trained."""
    trainings: tuple[int, int]
    """Trainings of either side; 0 for a side that needs none (a teacher)."""

    @property
    def covers(self) -> str:
        """Say in words what the interval covers: "2 and 2 trainings", "one training each, whose chance it does not cover"."""
        counted = [number for number in self.trainings if number]
        if not counted:
            return ""
        if max(counted) > 1:
            return f"over {' and '.join(map(str, counted))} trainings" if len(counted) > 1 else f"over {counted[0]} trainings"
        return ("one training each" if len(counted) > 1 else "one training") + ", whose chance the interval does not cover"


def compare_trainings(a: Trainings, b: Trainings, ratio: bool = False) -> Tested:
    """Test A - B, or A / B where `ratio`, of the mean over the trainings of either side. Raises Mismatch or NoInterval."""
    of_a, of_b = _on_seeds(a, b)
    mean_a, mean_b = average(of_a), average(of_b)
    comparable(mean_a, mean_b)
    df = min(mean_a.df, mean_b.df)
    test = (paired_ratio if ratio else paired_difference)(mean_a.value, mean_b.value, mean_a.influence, mean_b.influence, df)
    values = [[math.log(one.value) if ratio else one.value for one in side if one.student is not None] for side in (of_a, of_b)]
    variance, free = between_trainings(*values)
    counted = (len(values[0]), len(values[1]))
    if not variance:
        return Tested(mean_a, mean_b, test, test.standard_error, 0.0, counted)
    return Tested(mean_a, mean_b, widened(test, df, variance, free, ratio), test.standard_error, math.sqrt(variance), counted)


def _on_seeds(a: Trainings, b: Trainings) -> tuple[list[Measured], list[Measured]]:
    """Average every training over the seeds of sampling noise that it shares with the other side."""
    of_a = [on_shared_seeds(cell, b.cells[0])[0] for cell in a.cells]
    of_b = [on_shared_seeds(a.cells[0], cell)[1] for cell in b.cells]
    return of_a, of_b


def between_trainings(a: Sequence[float], b: Sequence[float]) -> tuple[float, int]:
    """Give the variance that trainings bring into mean(a) - mean(b), and its degrees of freedom.

    a, b: the values of the trainings of either side; empty for a side that was not trained. The spread is pooled: few trainings cannot
    tell two spreads apart, and a side with one training borrows the other's. (0, 0) where no side has two.
    """
    sides = [side for side in (a, b) if len(side)]
    free = sum(len(side) - 1 for side in sides)
    if free == 0:
        return 0.0, 0
    squares = sum(sum((value - sum(side) / len(side)) ** 2 for value in side) for side in sides)
    return squares / free * sum(1 / len(side) for side in sides), free


def widened(test: PairedDifference, df: int, variance: float, free: int, ratio: bool, level: float = LEVEL) -> PairedDifference:
    """Add the variance between trainings, with `free` degrees of freedom, to a test over prompts with `df`.

    The degrees of freedom of the sum are Welch's and Satterthwaite's. The trainings share prompts and noise, so that their spread holds a
    little of what prompts do to each: the interval is, if anything, too wide.
    """
    images = test.standard_error**2
    error = math.sqrt(images + variance)
    both = (images + variance) ** 2 / (images**2 / df + variance**2 / free)
    half = t_quantile((1 + level) / 2, both) * error
    effect = math.log(test.difference) if ratio else test.difference
    ends = (effect - half, effect + half)
    low, high = (math.exp(ends[0]), math.exp(ends[1])) if ratio else ends
    return PairedDifference(test.difference, low, high, error, t_tail(effect / error, both), test.n)
