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
from scottbench.stats.measured import Measured, comparable, on_shared_seeds
from scottbench.stats.paired import PairedDifference, images_to_decide, paired_difference, paired_ratio, rounded
from scottbench.text import bracket, decimals, one_line, p_text, signed

REPRODUCED, HOLDS, OPEN, CONTRADICTED, UNTESTED = VERDICTS = (
    "reproduced", "direction holds", "inconclusive", "contradicted", "not testable here",
)  # fmt: skip
SAME = ("options", "dataset_digest", "teacher_digest", "batch_size", "steps")
"""Facts of student.json that "all else equal" is about; among `options`, those that the claim does not name."""


@dataclass(frozen=True)
class Finding:
    """One comparison of a claim at one number of steps, with its test and verdict."""

    better: Measured
    worse: Measured
    comparison: Comparison
    test: PairedDifference
    verdict: str
    images_to_decide: int | None

    @property
    def in_words(self) -> str:
        """The finding in a line, like "FID (some features) of x@2 against y@2: 78.3 and 107.8, difference -29.5 [-31.0, -28.0], p < 0.001,
        N = 5,000"."""
        a, b, test = self.better, self.worse, self.test
        places = decimals([(test.high - test.low) / 2], a.digits + 1)
        estimate = f"{test.difference:.{places}f}" if self.comparison.effect == "ratio" else signed(test.difference, places)
        words = (
            f"{a.title if a.title else a.metric} of {a.cell} against {b.cell}: {a.value:.{a.digits}f} and {b.value:.{b.digits}f}, "
            f"{self.comparison.effect} {estimate} {bracket(test.low, test.high, places)}, {p_text(test.p)}, N = {test.n:,}"
        )
        if self.verdict == OPEN and self.images_to_decide is not None:
            words += f"; {rounded(self.images_to_decide)} images would decide"
        return words


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
        "reason": _reason(verdict, findings, missing),
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
        return f"{rounded(max(known))} images would decide" if known else "the cells agree on every prompt"
    if verdict == HOLDS and any(finding.comparison.quoted is not None for finding in findings):
        return "the size that the paper quotes was not reached, or cannot be judged in this setting"
    return ""


def _evidence(finding: Finding) -> dict[str, Any]:
    a, b, test = finding.better, finding.worse, finding.test
    return {
        "metric": a.metric, "higher_is_better": a.higher_is_better, "better_cell": a.cell, "worse_cell": b.cell, "seeds": list(a.seeds),
        "value_better": a.value, "value_worse": b.value, "effect": finding.comparison.effect, "estimate": test.difference,
        "ci_low": test.low, "ci_high": test.high, "p": test.p, "n": test.n, "verdict": finding.verdict,
        "images_to_decide": finding.images_to_decide, "text": finding.in_words,
    }  # fmt: skip


# --- one comparison --------------------------------------------------------------------------------------------------


def _findings(claim: Claim, comparison: Comparison, measured: Sequence[Measured]) -> tuple[list[Finding], list[str]]:
    """Test a comparison at every number of steps. Return the findings, and in words what could not be tested."""
    sides = [_cells(arm, comparison.metric, measured) for arm in (comparison.better, comparison.worse)]
    absent = [arm.name for arm, cells in zip((comparison.better, comparison.worse), sides) if not cells]
    if absent:
        return [], [f"no {comparison.metric} with an interval of {one_line(name)} in this run" for name in absent]
    if comparison.better.steps is None:
        shared = sorted({cell[0].steps for cell in sides[0]} & {cell[0].steps for cell in sides[1]})
        couples = [[[cell for cell in side if cell[0].steps == steps] for side in sides] for steps in shared]
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
        # an ablation is judged on every couple that differs in its options only; one label in several runs is one cell, met more than once
        findings += found if _ablates(comparison) else found[:1]
        missing += [] if found else [why]
    return findings, missing


def _ablates(comparison: Comparison) -> bool:
    """Tell whether the claim is about options of a student's trainer, all else equal."""
    return bool(comparison.better.student or comparison.worse.student)


def _cells(arm: Arm, metric: str, measured: Sequence[Measured]) -> list[list[Measured]]:
    """Find the cells that an arm means, each as the list of its seeds.

    There are several where runs have different weights under one label, or a run has students that differ in options that the arm does
    not name.
    """
    found = [one for one in measured if one.metric == metric and (arm.steps is None or one.steps == arm.steps) and _trained(one, arm)]
    exact = [one for one in found if one.method == arm.method]
    if not exact:
        exact = [one for one in found if Label.parse(one.method).name == arm.method]
        if len({one.method for one in exact}) > 1 and not arm.student:  # several recipes: none is the claim's
            return []
    cells: dict[tuple, list[Measured]] = {}
    for one in exact:
        cells.setdefault((one.method, one.steps, one.weights, one.fingerprint), []).append(one)
    return list(cells.values())


def _trained(one: Measured, arm: Arm) -> bool:
    """Tell whether the student's trainer had the options that the arm asks for."""
    options = (one.student or {}).get("options") or {}
    return all(key in options and options[key] == value for key, value in arm.student.items())


def _finding(claim: Claim, comparison: Comparison, better: list[Measured], worse: list[Measured]) -> Finding:
    """Test one couple of cells. Raises Mismatch (not comparable, not all else equal) or NoInterval."""
    a, b = on_shared_seeds(better, worse)
    comparable(a, b)
    if _ablates(comparison):
        _all_else_equal(a, b, {*comparison.better.student, *comparison.worse.student})
    ratio = comparison.effect == "ratio"
    test = (paired_ratio if ratio else paired_difference)(a.value, b.value, a.influence, b.influence, min(a.df, b.df))
    verdict = _side(test, 1.0 if ratio else 0.0, a.higher_is_better)
    if verdict == HOLDS and _reaches(claim, comparison, test, a):
        verdict = REPRODUCED
    effect = math.log(test.difference) if ratio else test.difference
    many = images_to_decide(effect, test.standard_error, test.n) if verdict == OPEN else None
    return Finding(a, b, comparison, test, verdict, many)


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


def _all_else_equal(a: Measured, b: Measured, named: set[str]) -> None:
    """Raise Mismatch if two students differ in more than the options that the claim names."""

    def facts(one: Measured) -> dict[str, Any]:
        found = {key: (one.student or {}).get(key) for key in SAME}
        found.update({f"option {key}": value for key, value in (found.pop("options") or {}).items() if key not in named})
        return found

    of_a, of_b = facts(a), facts(b)
    other = [f"{key} ({of_a.get(key)}, {of_b.get(key)})" for key in sorted({*of_a, *of_b}) if of_a.get(key) != of_b.get(key)]
    if other:
        raise Mismatch(f"the students of {a.cell} also differ in {', '.join(other)}: not all else is equal")
