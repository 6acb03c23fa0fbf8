"""Claims held against runs: find the cells that a claim means, test their paired difference, and give the verdict. Reads records only.

    reproduced         the direction holds, and the interval reaches the size that the paper quotes (its own setting and N only)
    direction holds    the 95 % interval of the paired difference (or ratio) excludes "no difference" on the claimed side
    inconclusive       the interval holds "no difference"; how many images would decide is said
    contradicted       the interval excludes "no difference" on the other side
    not testable here  a cell or metric is not in the run, or the preset is not one that the claim can be judged on

A claim of several comparisons holds where each of them does, so that no correction is due (an intersection-union test).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from scottbench.errors import Mismatch, ScottbenchError
from scottbench.registry.claims import Arm, Claim, Comparison
from scottbench.registry.label import Label
from scottbench.stats.measured import Measured
from scottbench.stats.paired import PairedDifference, images_to_decide, rounded
from scottbench.stats.trainings import Tested, Trainings, all_else_differs, compare_trainings, trainings
from scottbench.stats.untested import to_test
from scottbench.text import bracket, decimals, fixed, one_line, p_text, signed

REPRODUCED, HOLDS, OPEN, CONTRADICTED, UNTESTED = VERDICTS = (
    "reproduced", "direction holds", "inconclusive", "contradicted", "not testable here",
)  # fmt: skip
MORE_TRAININGS = "no number of images would decide: trainings differ by too much, more of them are needed"
OTHERS = "of another recipe, and not judged: "
"""Begins the part of a reason that names the students of another recipe than the one that goes by a method's name."""


@dataclass(frozen=True)
class Finding:
    """One comparison of a claim at one number of steps, with its test and verdict."""

    better: Trainings
    worse: Trainings
    comparison: Comparison
    tested: Tested
    verdict: str
    images_to_decide: int | None

    @property
    def test(self) -> PairedDifference:
        """Return the test that the verdict rests on."""
        return self.tested.test

    @property
    def in_words(self) -> str:
        """The finding in a line, like "FID (some features) of x@2 against y@2: 78.3 and 107.8, difference -29.5 [-31.0, -28.0], p < 0.001,
        N = 5,000"."""
        a, b, test = self.tested.a, self.tested.b, self.test
        places = decimals([(test.high - test.low) / 2], a.digits + 1)
        estimate = fixed(test.difference, places) if self.comparison.effect == "ratio" else signed(test.difference, places)
        covers = f" ({self.tested.covers})" if self.tested.covers else ""
        words = (
            f"{a.title if a.title else a.metric} of {self.better.names} against {self.worse.names}: {fixed(a.value, a.digits)} and "
            f"{fixed(b.value, b.digits)}, {self.comparison.effect} {estimate} {bracket(test.low, test.high, places)}, {p_text(test.p)}, "
            f"N = {test.n:,}{covers}"
        )
        if self.verdict == OPEN and self.images_to_decide is not None:
            words += f"; {rounded(self.images_to_decide)} images would decide"
        return words

    @property
    def wants_trainings(self) -> bool:
        """Tell whether images alone cannot decide, for trainings differ by as much."""
        return self.verdict == OPEN and self.images_to_decide is None and self.tested.between > 0


def judge(claims: Iterable[Claim], measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Judge every claim. Return one JSON-able record each: its text, verdict, reason and evidence."""
    return [_judge(claim, measured) for claim in claims]


def _judge(claim: Claim, measured: Sequence[Measured]) -> dict[str, Any]:
    findings: list[Finding] = []
    missing: list[str] = []
    here = [one for one in measured if not claim.testable or one.preset in claim.testable]
    if measured and not here:
        missing = [f"it can be judged on preset {' or '.join(claim.testable)}, not on {measured[0].preset}"]
    else:
        for comparison in claim.compare:
            found, absent = _findings(claim, comparison, here)
            findings += found
            missing += absent
    verdict = _verdict(findings, missing)
    return {
        **{key: getattr(claim, key) for key in ("name", "paper", "version", "locator", "statement")},
        "verdict": verdict,
        "reason": "; ".join(filter(None, [_reason(verdict, findings, missing), _left_out(claim, here if findings else [])])),
        "to_test": to_test(claim, measured) if verdict == UNTESTED else [],
        "quoted": [
            {"metric": one.metric, "better_cell": one.better.name, "worse_cell": one.worse.name, **asdict(one.quoted)}
            for one in claim.compare if one.quoted is not None
        ],
        "evidence": [_evidence(finding) for finding in findings],
    }  # fmt: skip


def _verdict(findings: list[Finding], missing: list[str]) -> str:
    found = {finding.verdict for finding in findings}
    if CONTRADICTED in found:
        return CONTRADICTED
    if missing or not found:
        return UNTESTED
    if OPEN in found:
        return OPEN
    # where a size is quoted it must be reached; comparisons without one need their direction only
    short = any(finding.verdict == HOLDS and finding.comparison.quoted is not None for finding in findings)
    return REPRODUCED if REPRODUCED in found and not short else HOLDS


def _reason(verdict: str, findings: list[Finding], missing: list[str]) -> str:
    if verdict == UNTESTED:
        return "; ".join(dict.fromkeys(missing))
    if verdict == OPEN:
        needed = [finding.images_to_decide for finding in findings if finding.verdict == OPEN]
        known = [images for images in needed if images is not None]
        if any(finding.wants_trainings for finding in findings):
            return MORE_TRAININGS
        return f"{rounded(max(known))} images would decide" if known else "the cells agree on every prompt"
    if verdict == HOLDS and any(finding.comparison.quoted is not None for finding in findings):
        return "the size that the paper quotes was not reached, or cannot be judged in this setting"
    return ""


def _evidence(finding: Finding) -> dict[str, Any]:
    a, b, test = finding.tested.a, finding.tested.b, finding.test
    return {
        "metric": a.metric, "higher_is_better": a.higher_is_better, "better_cell": a.cell, "worse_cell": b.cell, "seeds": list(a.seeds),
        "value_better": a.value, "value_worse": b.value, "effect": finding.comparison.effect, "estimate": test.difference,
        "ci_low": test.low, "ci_high": test.high, "p": test.p, "n": test.n, "verdict": finding.verdict,
        "images_to_decide": finding.images_to_decide, "trainings": list(finding.tested.trainings),
        "between_trainings": finding.tested.between, "text": finding.in_words,
    }  # fmt: skip


# --- one comparison --------------------------------------------------------------------------------------------------


def _findings(claim: Claim, comparison: Comparison, measured: Sequence[Measured]) -> tuple[list[Finding], list[str]]:
    """Test a comparison at every number of steps. Return the findings, and in words what could not be tested."""
    sides = [_sides(arm, comparison.metric, measured) for arm in (comparison.better, comparison.worse)]
    absent = [arm.name for arm, found in zip((comparison.better, comparison.worse), sides) if not found]
    if absent:
        return [], [f"no {comparison.metric} with an interval of {one_line(name)} in this run" for name in absent]
    if comparison.better.steps is None:
        shared = sorted({one.first.steps for one in sides[0]} & {one.first.steps for one in sides[1]})
        couples = [[[one for one in side if one.first.steps == steps] for side in sides] for steps in shared]
        if not couples:
            return [], [f"{comparison.better.name} and {comparison.worse.name} share no number of steps in this run"]
    else:
        couples = [sides]
    findings, missing = [], []
    for better, worse in couples:
        found, why = [], ""
        for a, b in product(better, worse):
            try:
                found.append(_finding(claim, comparison, a, b))
            except ScottbenchError as error:
                why = one_line(error)
        # an ablation is judged on every couple that differs in its options only; of other claims the first recipe is meant
        findings += found if _ablates(comparison) else found[:1]
        missing += [] if found else [why]
    return findings, missing


def _ablates(comparison: Comparison) -> bool:
    """Tell whether the claim is about options of a student's trainer, all else equal."""
    return bool(comparison.better.student or comparison.worse.student)


def _sides(arm: Arm, metric: str, measured: Sequence[Measured]) -> list[Trainings]:
    """Find the cells that an arm means, by recipe. [] where several recipes go by its name and it tells none of them.

    A label that is the arm's name to the letter goes first, with the other trainings of its recipe.
    """
    named = _named(arm, metric, measured)
    exact = [one for one in named if one.method == arm.method]
    recipes = trainings([*exact, *(one for one in named if one.method != arm.method)])
    if exact:
        return [recipe for recipe in recipes if any(one.method == arm.method for cell in recipe.cells for one in cell)]
    if not arm.student and any(sum(other.first.steps == one.first.steps for other in recipes) > 1 for one in recipes):
        return []  # several recipes: none is the claim's
    return recipes


def _left_out(claim: Claim, measured: Sequence[Measured]) -> str:
    """Say which students of a claim's methods were not judged, for they are of another recipe than those that go by its name; "" for none.
    Whoever has two recipes of a method must not read a verdict on one as on both."""
    left = []
    for comparison in (one for one in claim.compare if not _ablates(one)):
        for arm in (comparison.better, comparison.worse):
            judged = {one.method for recipe in _sides(arm, comparison.metric, measured) for cell in recipe.cells for one in cell}
            named = [one.method for one in _named(arm, comparison.metric, measured)]
            left += [method for method in named if judged and method not in judged]
    return OTHERS + ", ".join(map(one_line, dict.fromkeys(left))) if left else ""


def _named(arm: Arm, metric: str, measured: Sequence[Measured]) -> list[Measured]:
    """Find the cells that go by an arm's name, at its number of steps, whose students had the options that it asks for."""
    found = [one for one in measured if one.metric == metric and (arm.steps is None or one.steps == arm.steps) and _trained(one, arm)]
    return [one for one in found if one.method == arm.method or Label.parse(one.method).name == arm.method]


def _trained(one: Measured, arm: Arm) -> bool:
    """Tell whether the student's trainer had the options that the arm asks for."""
    options = (one.student or {}).get("options") or {}
    return all(key in options and options[key] == value for key, value in arm.student.items())


def _finding(claim: Claim, comparison: Comparison, better: Trainings, worse: Trainings) -> Finding:
    """Test one couple of recipes. Raises Mismatch (not comparable, not all else equal) or NoInterval."""
    ratio = comparison.effect == "ratio"
    tested = compare_trainings(better, worse, ratio)
    if _ablates(comparison):
        other = all_else_differs(better.first, worse.first, {*comparison.better.student, *comparison.worse.student})
        if other:
            raise Mismatch(f"the students of {better.first.cell} also differ in {', '.join(other)}: not all else is equal")
    test, a = tested.test, tested.a
    verdict = _side(test, 1.0 if ratio else 0.0, a.higher_is_better)
    if verdict == HOLDS and _reaches(claim, comparison, test, a):
        verdict = REPRODUCED
    effect = math.log(test.difference) if ratio else test.difference
    many = images_to_decide(effect, tested.of_images, test.n, between=tested.between) if verdict == OPEN else None
    return Finding(better, worse, comparison, tested, verdict, many)


def _side(test: PairedDifference, none: float, higher_is_better: bool) -> str:
    """Give the verdict by the side of "no difference" (`none`) on which the interval lies."""
    if test.low <= none <= test.high:
        return OPEN
    return HOLDS if (test.low > none) == higher_is_better else CONTRADICTED


def _reaches(claim: Claim, comparison: Comparison, test: PairedDifference, better: Measured) -> bool:
    """Tell whether the size of the effect can be judged here, and the interval is not wholly short of the quoted one."""
    quoted = comparison.quoted
    if quoted is None or better.preset not in claim.magnitude or quoted.n != test.n:
        return False
    effect = quoted.better / quoted.worse if comparison.effect == "ratio" else quoted.better - quoted.worse
    return test.high >= effect if better.higher_is_better else test.low <= effect
