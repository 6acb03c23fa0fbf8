"""The first screen of a page: the question, its answer in a sentence, how sure it is and what it costs. Made of records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scottbench.report.candidates import (
    Difference,
    by_rank,
    candidates,
    difference,
    is_student,
    leading_metric,
    milliseconds,
    nfe,
    recipe,
    teachers,
)
from scottbench.report.results import metric_decimals
from scottbench.store.record import CellRecord, MetricRecord, RunRecord, groups
from scottbench.text import bracket, count, decimals, fixed, p_text, signed

COSTS = 6
"""Numbers of network evaluations that get a line of their own, at most."""


@dataclass(frozen=True)
class Decision:
    """The texts of the first screen."""

    question: str
    choice: str
    """The best row, or rows that cannot be told apart, in a few words."""
    answer: str
    """A sentence with the paired difference and its interval."""
    facts: list[tuple[str, str]]
    """(heading, sentences): how sure, cost, teacher, what cannot be told apart."""
    by_cost: list[str] = field(default_factory=list)
    """One line for each number of network evaluations, where there are several."""
    short: str = ""
    """The answer for a list of runs."""


@dataclass(frozen=True)
class View:
    """A run seen through its leading metric."""

    record: RunRecord
    metrics: list[MetricRecord]
    cells: list[CellRecord]
    metric: MetricRecord
    ranked: list[CellRecord]
    """The rows to choose from that have a value, best first."""

    def value(self, cell: CellRecord) -> str:
        """Return a row's value with its interval: "18.9 [17.4, 20.4]"."""
        ends = cell.intervals.get(self.metric.name)
        digits = metric_decimals(self.metric, self.cells)
        return fixed(cell.values[self.metric.name], digits) + (f" {bracket(ends.low, ends.high, digits)}" if ends else "")

    def against(self, a: CellRecord, b: CellRecord) -> Difference | None:
        """Return the paired difference A - B in the leading metric."""
        return difference(self.record, self.metric, a, b)


def decide(record: RunRecord) -> Decision:
    """Answer which row is best, how sure that is and what it costs."""
    metrics, cells = record.leading()
    chosen = candidates(cells)
    metric = leading_metric(metrics, chosen)
    if metric is None:
        reason = "No value of any metric could be computed; the reasons stand below the results."
        return Decision(_question(record, chosen, None), "No answer.", reason, [], short="no value")
    view = View(record, metrics, cells, metric, by_rank(chosen, metric))
    best = view.ranked[0]
    ties = apart(view, best)[0]
    facts = [("How sure", sure(view, best)), ("Cost", cost(view, best)), ("Teacher", of_teacher(view, best)),
             ("Cannot be told apart", undecided(view, best)), ("Read with", scope(view))]  # fmt: skip
    name = best.name
    if ties:
        name = f"{best.name} or {ties[0].name}" if len(ties) == 1 else f"{best.name}, or {len(ties)} others"
    return Decision(_question(record, chosen, metric), f"{'No clear best: ' if ties else ''}{name}.", answer(view, best),
                    [(head, text) for head, text in facts if text], costs(view), f"{name}: {metric.label} {view.value(best)}")  # fmt: skip


def _question(record: RunRecord, chosen: Sequence[CellRecord], metric: MetricRecord | None) -> str:
    methods = list(dict.fromkeys(cell.method for cell in chosen))
    what = "student" if chosen and all(map(is_student, chosen)) else "method"
    given = all(cell.steps == 0 for cell in chosen)
    kind = "set of pictures" if given else what
    which = f"How good is {methods[0]}" if len(methods) == 1 else f"Which of {len(methods)} {kind.replace('set of', 'sets of')}" + "s" * (
        not given) + " makes the best images"  # fmt: skip
    steps = sorted({cell.steps for cell in chosen if cell.steps})
    at = f" at {listed(map(str, steps))} {'step' if steps == [1] else 'steps'}" if steps else ""
    dataset = record.plan.get("dataset", {}).get("name", "the dataset")
    by = f" by {metric.label}" if metric else ""
    return f"{which}{at} on {dataset}{by}, how sure is that, and at what cost?"


def rivals(view: View, best: CellRecord) -> list[CellRecord]:
    """Return the rows that the best one has to be told apart from: those of another recipe, else all others; tested ones first."""
    others = [cell for cell in view.ranked if cell is not best]
    foreign = [cell for cell in others if recipe(cell) != recipe(best)] or others
    return sorted(foreign, key=lambda cell: view.against(best, cell) is None)


def answer(view: View, best: CellRecord) -> str:
    """Say in one sentence how far the best row is from the best rival, paired where the run tested it."""
    metric, against = view.metric, rivals(view, best)
    opening = f"{_capital(best.name)} has the {'highest' if metric.higher_is_better else 'lowest'} {metric.label}, {view.value(best)}"
    if not against:
        return f"{_capital(best.name)} has {metric.label} {view.value(best)}; it is the only row, so nothing is compared."
    rival = against[0]
    found = view.against(best, rival)
    if found is None and best.values[metric.name] == rival.values[metric.name]:
        return f"{_capital(best.name)} and {rival.name} have the same {metric.label}, {view.value(best)}. They were not tested in this run."
    if found is None:
        return f"{opening}; next is {rival.name} with {view.value(rival)}. Their difference was not tested in this run."
    if found.value == 0 and found.low == found.high:
        return f"{_capital(best.name)} and {rival.name} agree on every prompt: {metric.label} {view.value(best)}."
    digits = decimals([(found.high - found.low) / 2], metric.digits + 1)
    size = f"{signed(found.value, digits)} {bracket(found.low, found.high, digits)}"
    if found.decided and not found.a_better:  # several seeds or N may rank otherwise than the paired test does
        return f"{opening}, but on the prompts that both share {rival.name} is better: difference {size}."
    if found.decided:
        lower = "higher" if metric.higher_is_better else "lower"
        gap = f"{fixed(abs(found.value), digits)} {_size(found, digits)} {lower} than {rival.name}"
        return f"{_capital(best.name)} has {metric.label} {view.value(best)}: {gap}."
    return f"{opening}, but cannot be told apart from {rival.name} ({view.value(rival)}): difference {size}."


def _size(found: Difference, digits: int) -> str:
    """The interval of a decided difference without its sign, which a word gives."""
    low, high = sorted((abs(found.low), abs(found.high)))
    return bracket(low, high, digits)


def sure(view: View, best: CellRecord) -> str:
    """Say how the test came out against the best rival, and what the other metrics say about the same two."""
    against = rivals(view, best)
    found = view.against(best, against[0]) if against else None
    if found is None:
        ends = view.metric.name in best.intervals
        if not against:
            return ""
        return "The interval is of this row alone." if ends else "No interval and no test: a small difference may be noise."
    rival = against[0]
    parts = [f"Paired over {found.n:,} shared prompts: {p_text(found.p)}, {_holm(found.p_holm)} after correction (Holm)."]
    if not found.decided and found.images_to_decide:
        parts.append(f"About {_round(found.images_to_decide)} images a row would decide.")
    sides: dict[str, list[str]] = {"better": [], "worse": [], "open": []}
    for metric in view.metrics:
        other = None if metric is view.metric else difference(view.record, metric, best, rival)
        if other is not None:
            sides["open" if not other.decided else "better" if other.a_better else "worse"].append(metric.label)
    told = "; ".join(f"{side} in {listed(names)}" for side, names in sides.items() if names)
    return " ".join([*parts, f"Against {rival.name} also {told}." if told else ""]).strip()


def _holm(p: float) -> str:
    """ "0.012", "< 0.001"."""
    return p_text(p).removeprefix("p = ").removeprefix("p ")


def _round(images: int) -> str:
    places = max(0, len(str(images)) - 2)
    return "10,000,000 or more" if images > 10_000_000 else f"{round(images, -places):,}"


def cost(view: View, best: CellRecord) -> str:
    """Say what an image of the best row costs, and what the cheapest row costs where that is another."""
    parts = [part for part in (_evaluations(best), _time(view, best)) if part]
    if not parts:
        return "Not counted: pictures made elsewhere." if best.steps == 0 else ""
    text = f"{_capital(' and '.join(parts))} an image."
    text += " The machine was busy with other work when it was timed." if best.busy else ""
    cheaper = [cell for cell in view.ranked if (nfe(cell) or 10**9) < (nfe(best) or 0)]
    if cheaper:
        least = min(cheaper, key=lambda cell: (nfe(cell) or 0, view.ranked.index(cell)))
        time = _time(view, least)
        text += f" Cheapest: {least.name}, {_evaluations(least)}{f' and {time}' if time else ''}, {view.metric.label} {view.value(least)}."
    return text


def _evaluations(cell: CellRecord) -> str:
    found = nfe(cell)
    return "" if found is None else count(found, "network evaluation")


def _time(view: View, cell: CellRecord) -> str:
    found = milliseconds(view.record, cell)
    return "" if found is None else f"{found:.1f} ms"


def of_teacher(view: View, best: CellRecord) -> str:
    """Say how far the best student is from its teacher, measured here or recorded; "" where no row of a teacher compares."""
    name, metric = view.metric.name, view.metric
    known = [teacher for teacher in teachers(view.record, view.metrics, view.cells) if name in teacher.values]
    if not known:
        return ("No row of the teacher compares with this run: none was measured, and none recorded has its N and fingerprint."
                if is_student(best) else "")  # fmt: skip
    sign = -1 if metric.higher_is_better else 1
    teacher = min(known, key=lambda one: sign * one.values[name])
    digits = metric_decimals(metric, view.cells)
    ends = teacher.ends.get(name)
    value = fixed(teacher.values[name], digits) + (f" {bracket(*ends, digits)}" if ends else "")
    gap = best.values[name] - teacher.values[name]
    paired = view.against(best, teacher.cell) if teacher.cell is not None else None
    better = sign * gap < 0
    way = "better" if better else "worse"
    told = fixed(abs(gap), digits)
    if paired and paired.decided:
        told += f" {_size(paired, digits)}"
    tied = paired is not None and not paired.decided
    text = f"{_capital(teacher.name)}: {metric.label} {value}. The best row "
    text += "cannot be told apart from it" if tied else f"is {told} {way}"
    own = nfe(best)
    if teacher.nfe and own:
        text += f", at {own} of {teacher.nfe} network evaluations"
    return text + "."


def apart(view: View, best: CellRecord) -> tuple[list[CellRecord], list[CellRecord], list[CellRecord]]:
    """Sort the other rows of the choice: not told apart from the best, worse by test, not tested."""
    ties: list[CellRecord] = []
    worse: list[CellRecord] = []
    untested: list[CellRecord] = []
    for cell in view.ranked:
        if cell is not best:
            found = view.against(best, cell)
            (untested if found is None else ties if not found.decided else worse).append(cell)
    return ties, worse, untested


def undecided(view: View, best: CellRecord) -> str:
    """Say which rows cannot be told apart from the best one, and which were not tested against it."""
    ties, worse, untested = apart(view, best)
    if not (ties or worse or untested):
        return ""
    parts = []
    if ties:
        parts.append(f"{_some(ties)}.")
    elif worse:
        parts.append("Nothing: " + ("the row" if len(worse) == 1 else f"all {len(worse)} rows") + " tested against it did worse.")
    if untested:
        parts.append(f"Not tested against the best: {_some(untested)}.")
    same = [cell for cell in view.ranked if is_student(cell) and recipe(cell) == recipe(best) and cell.steps == best.steps]
    if len(same) > 1:
        values = sorted(cell.values[view.metric.name] for cell in same)
        digits = metric_decimals(view.metric, view.cells)
        parts.append(f"{len(same)} trainings of its recipe reach {fixed(values[0], digits)} to {fixed(values[-1], digits)}.")
    return " ".join(parts)


def _some(cells: Sequence[CellRecord]) -> str:
    names = [cell.name for cell in cells]
    return listed(names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])


def scope(view: View) -> str:
    """Say what the numbers are of: N, network of features, seeds, and rows that stand apart."""
    seeds = len({seed for cell in view.record.cells for seed in cell.seeds})
    labels = listed(dict.fromkeys(metric.extractor for metric in view.metrics if metric.extractor))
    text = f"N = {view.cells[0].n:,} prompts" + (f", {seeds} seeds" if seeds > 1 else "")
    text += f"; all numbers are on {labels}, and compare with no published ones." if labels else "."
    if any(map(is_student, view.ranked)):
        text += " The chance of a training is in no interval."
    if len(groups(view.record.cells)) > 1:
        text += " Rows of another N or fingerprint stand apart, below."
    return text


def costs(view: View) -> list[str]:
    """Say what to choose at each number of network evaluations; [] where there is one only."""
    spent = sorted({number for cell in view.ranked if (number := nfe(cell)) is not None})
    if len(spent) < 2:
        return []
    lines = []
    for number in spent[:COSTS]:
        cells = [cell for cell in view.ranked if nfe(cell) == number]
        best, time = cells[0], _time(view, cells[0])
        line = f"{count(number, 'evaluation')}{f', {time}' if time else ''}: {best.name}, {view.metric.label} {view.value(best)}"
        ties = [cell.method for cell in cells[1:] if (found := view.against(best, cell)) is not None and not found.decided]
        lines.append(line + (f"; not told apart from {listed(ties)}" if ties else "") + ".")
    return lines


def listed(parts: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    parts = list(parts)
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _capital(text: str) -> str:
    """A sentence's beginning: a name keeps its letters, since it is what the user types."""
    return text if not text[:1].isdigit() else text[:1].upper() + text[1:]
