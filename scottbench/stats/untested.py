"""The commands that would test a claim which a run could not: what to train, what to run, and how to hold the claim against both."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from scottbench.registry.claims import Arm, Claim
from scottbench.registry.label import Label
from scottbench.stats.measured import Measured


def to_test(claim: Claim, measured: Sequence[Measured]) -> list[str]:
    """Return the command lines that give what a claim compares, in order. measured: of the runs that it was held against, whose preset and
    number of prompts the lines keep where the claim can be judged on that preset."""
    found = [one for one in measured if not claim.testable or one.preset in claim.testable]
    preset = found[0].preset if found else claim.testable[0] if claim.testable else ""
    shared = [*(["-p", preset] if preset else []), "-k", ",".join(dict.fromkeys(one.metric for one in claim.compare))]
    shared += ["-n", str(found[0].n)] if found else []
    arms = [arm for one in claim.compare for arm in (one.better, one.worse)]
    if not any(arm.student for arm in arms):
        methods = ",".join(dict.fromkeys(arm.method for arm in arms))
        return [_line("scottbench", "run", "-m", methods, *_steps(arms), *shared)]
    lines = []
    for arm in _absent(arms, found):
        options = [f"{key}={value}" for key, value in arm.student.items()]
        out = "students/" + "-".join([arm.method, *(option.replace("=", "-") for option in options)])
        flags = [word for option in options for word in ("-O", option)]
        on = ["-p", preset] if preset else []
        lines.append(_line("scottbench", "train", arm.method, *on, *flags, *_updates(arm, found), "-o", out))
        steps = _steps([other for other in arms if other.method == arm.method])
        lines.append(_line("scottbench", "run", "-m", arm.method, *steps, *shared, "--student", f"{arm.method}={out}"))
    return [*lines, "scottbench claims RUN RUN (all runs together)"] if lines else []


def _absent(arms: Sequence[Arm], measured: Sequence[Measured]) -> list[Arm]:
    """Pick the sides, one for each set of the trainer's options, of which the runs have no student."""
    there = [((one.student or {}).get("options") or {}, Label.parse(one.method).name) for one in measured]
    by_options = {(arm.method, tuple(arm.student.items())): arm for arm in arms if arm.student}
    return [
        arm for arm in by_options.values()
        if not any(method == arm.method and arm.student.items() <= options.items() for options, method in there)
    ]  # fmt: skip


def _updates(arm: Arm, measured: Sequence[Measured]) -> list[str]:
    """Return the flag that trains for as many updates as the student that is there: all else must be equal."""
    steps = next((one.student.get("steps") for one in measured if one.student and Label.parse(one.method).name == arm.method), None)
    return ["--max-steps", str(steps)] if isinstance(steps, int) else []


def _steps(arms: Sequence[Arm]) -> list[str]:
    steps = sorted({arm.steps for arm in arms if arm.steps is not None})
    return ["-s", ",".join(map(str, steps))] if steps else []


def _line(*words: str) -> str:
    return shlex.join(words)
