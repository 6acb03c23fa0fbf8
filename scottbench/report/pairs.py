"""The report's tables of paired differences and of claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from scottbench.report.best import ALPHA
from scottbench.report.tables import Column, Entry, Table, sizes
from scottbench.store.record import MetricRecord, RunRecord, text
from scottbench.store.tables import asked
from scottbench.text import at_steps, bracket, decimals, fixed, p_text, signed

ROWS = 48
"""A longer table of pairs is cut; the others are in pairs.parquet."""


def pairs_table(record: RunRecord) -> Table | None:
    """Paired differences A - B with Holm's correction, one row a pair and one column a metric; None where the run has none."""
    known = {metric.name: metric for metric in record.metrics}
    pairs = [row for row in record.pairs if row["metric"] in known]
    if not pairs:
        return None
    couples: dict[str, dict[str, dict[str, Any]]] = {}
    for row in asked_pairs(pairs):
        couples.setdefault(_names(row), {})[row["metric"]] = row
    used = [metric for metric in record.metrics if any(metric.name in found for found in couples.values())]
    columns = [Column("A - B")]
    columns += [Column(f"{metric.label} {metric.arrow}", metric.extractor, True, metric=metric.name) for metric in used]
    shown = list(couples.items())[:ROWS]
    rows = [[Entry(names), *(_difference(metric, found.get(metric.name)) for metric in used)] for names, found in shown]
    n = ", ".join(f"{n:,}" for n in sorted({row["n"] for row in pairs}))
    over = "one test" if len(pairs) == 1 else f"all {tests(len(pairs))} of the run's rows"
    every = len({_names(row) for row in pairs})
    more = "" if len(shown) == every else f" The other {every - len(shown)} pairs are in pairs.parquet."
    caption = (
        f"Paired differences over the same N = {n} prompts, starting noise and reference images: method against method at one number "
        f"of steps, and each at neighbouring numbers. Brackets: 95 % intervals, uncorrected. p: two-sided, of the one test, as claims and "
        f"`scottbench compare` give it; Holm: corrected over {over}, bold where at most 0.05, which a verdict needs. Images to decide: per "
        f"cell, for a chance of 0.8, if the difference is as measured.{more}"
    )
    return Table(caption, columns, rows)


def _difference(metric: MetricRecord, row: dict[str, Any] | None) -> Entry:
    """A - B, and below it interval, p and verdict."""
    if row is None:
        return Entry("-")
    value, interval, ends = _value(metric, row)
    verdict, _, detail = str(row["verdict"]).removesuffix(" would decide").partition(": ")
    chance = f"{p_text(row['p'])}, Holm {bare(row['p_holm'])}"
    return Entry(value, row["p_holm"] <= ALPHA, small=(interval, chance, verdict, *([detail] if detail else [])), ends=ends)


def asked_pairs(pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the rows of pairs.parquet that a table is about: methods at one number of steps, and each at neighbouring numbers. The others
    are there for the marks of what is best, and for `scottbench compare`."""
    cells = {(row[f"method_{side}"], row[f"steps_{side}"]) for row in pairs for side in "ab"}
    return [row for row in pairs if asked((row["method_a"], row["steps_a"]), (row["method_b"], row["steps_b"]), cells)]


def bare(p: float) -> str:
    """Write a p value without its name: "0.012", "< 0.001"."""
    return p_text(p).removeprefix("p = ").removeprefix("p ")


def pairs_list(
    pairs: Sequence[dict[str, Any]], metrics: Sequence[MetricRecord], difference: str = "difference", family: int | None = None
) -> Table:
    """List the same differences for a terminal: one row a pair and metric, with the verdict in full.

    pairs: rows as pairs.parquet has them, each of one of `metrics`. difference: heading of that column. family: how many tests Holm's
    correction is over; None: these.
    """
    known = {metric.name: metric for metric in metrics}
    chances = [Column("p", number=True), Column("Holm", number=True)]
    names = [Column("A - B", wrap=True), Column("metric", wrap=True)]
    columns = [*names, Column(difference, number=True), *chances, Column("verdict", wrap=True)]
    rows = []
    for row in pairs:
        metric = known[row["metric"]]
        value, interval, ends = _value(metric, row)
        of_row = [Entry(bare(row["p"])), Entry(bare(row["p_holm"]))]
        shown = Entry(value, small=(interval,), ends=ends)
        rows.append([Entry(_names(row)), Entry(metric.label), shown, *of_row, Entry(str(row["verdict"]))])
    over = tests(len(pairs) if family is None else family)
    title = f"paired differences over shared prompts and seeds (95 % intervals; p: of each test alone; Holm: over {over})"
    return Table(title, columns, rows, title=title)


def pairs_for_paper(record: RunRecord, brief: bool) -> Table | None:
    """List the differences of `pairs_table` for a paper: one row a pair and metric. brief: without p of the single test and images to
    decide. Bold says that there is a verdict: Holm's p is at most 0.05."""
    known = {metric.name: metric for metric in record.metrics}
    pairs = [row for row in record.pairs if row["metric"] in known]
    if not pairs:
        return None
    n = ", ".join(f"{n:,}" for n in sorted({row["n"] for row in pairs}))
    columns = [Column("A - B"), Column("Metric"), Column("Difference", number=True), *([] if brief else [Column("p", number=True)])]
    columns += [Column("Holm", number=True), *([] if brief else [Column("To decide", "images", number=True)])]
    caption = (f"Paired differences over the same N = {n} prompts, noise and reference images, with 95 % intervals. p: two-sided; Holm: "
               f"corrected over all {tests(len(pairs))} of the run's rows, bold where at most 0.05")  # fmt: skip
    rows = []
    for row in asked_pairs(pairs):
        value, interval, ends = _value(known[row["metric"]], row)
        decided = row["p_holm"] <= ALPHA
        many = row.get("images_to_decide")
        rest = [Entry(bare(row["p_holm"])), *([] if brief else [Entry("-" if many is None else f"{many:,}")])]
        rows.append([Entry(_names(row)), Entry(known[row["metric"]].label), Entry(value, decided, small=(interval,), ends=ends),
                     *([] if brief else [Entry(bare(row["p"]))]), *rest])  # fmt: skip
    return Table(f"{caption}.", columns, rows, brief=f"{caption}.")


def tests(n: int) -> str:
    """ "1 test", "6 tests"."""
    return "1 test" if n == 1 else f"{n} tests"


def _names(row: dict[str, Any]) -> str:
    """ "scott@2 - cd@2"."""
    a, b = (at_steps(row[f"method_{one}"], row[f"steps_{one}"]) for one in "ab")
    return f"{a} - {b}"


def _value(metric: MetricRecord, row: dict[str, Any]) -> tuple[str, str, tuple[str, str]]:
    """(difference, interval, its ends) as text, with as many decimals as the interval bears."""
    digits = decimals([(row["ci_high"] - row["ci_low"]) / 2], metric.digits + 1)
    low, high = row["ci_low"], row["ci_high"]
    return signed(row["difference"], digits), bracket(low, high, digits), (fixed(low, digits), fixed(high, digits))


def claims_table(record: RunRecord) -> Table | None:
    """Papers' claims beside what was measured; None where no plug-in brought a claim."""
    if not record.claims:
        return None
    rows = [[Entry(text(claim, "name"), small=(_where(claim),)), Entry(text(claim, "statement"), small=_quoted(claim)),
             Entry(text(claim, "verdict"), bold=claim.get("verdict") != UNTESTED, small=_evidence(claim))] for claim in record.claims]
    counts = Counter(text(claim, "verdict") for claim in record.claims)
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    caption = (
        f"Claims of papers, held against this run at N = {sizes(record)}: {found}. "
        "A direction holds where the paired 95 % interval excludes no difference; it is reproduced where the quoted size is reached too, "
        "which only the paper's own setting and N can show. Quoted numbers are the papers' and are ranked with none of ours."
    )
    return Table(caption, [Column("Claim"), Column("Statement"), Column("Verdict")], rows)


UNTESTED = "not testable here"


def claims_for_paper(record: RunRecord) -> Table | None:
    """List the claims for a paper: a row for each, and one below for each piece of evidence."""
    table = claims_table(record)
    if table is None:
        return None
    rows = []
    for claim in record.claims:
        untested = claim.get("verdict") == UNTESTED
        rows.append([Entry(text(claim, "name"), small=(_where(claim),)), Entry(text(claim, "verdict"), not untested),
                     Entry(text(claim, "statement"))])  # fmt: skip
        rows += [[Entry(""), Entry(""), Entry("", small=(line,))] for line in (*_quoted(claim), *_evidence(claim))]
    columns = [Column("Claim", wrap=True), Column("Verdict", wrap=True), Column("Statement and evidence", wrap=True)]
    return Table(table.caption, columns, rows, brief=table.caption.partition(". A direction")[0] + ".")


def _where(claim: dict[str, Any]) -> str:
    return ", ".join(part for part in (text(claim, "paper"), text(claim, "version"), text(claim, "locator")) if part)


def _quoted(claim: dict[str, Any]) -> tuple[str, ...]:
    lines = []
    for quoted in claim.get("quoted", []):
        lines.append(
            f"Quoted: {quoted['metric']} {quoted['better']:g} against {quoted['worse']:g} ({quoted['better_cell']}, "
            f"{quoted['worse_cell']}; {quoted['dataset']}, N = {quoted['n']:,}; {quoted['source']}; confidence {quoted['confidence']})."
        )
    return tuple(lines)


def _evidence(claim: dict[str, Any]) -> tuple[str, ...]:
    lines = [f"{entry['text']}: {entry['verdict']}." for entry in claim.get("evidence", [])]
    reason, commands = text(claim, "reason"), claim.get("to_test")
    lines += [f"{reason[0].upper()}{reason[1:]}."] if reason else []
    return (*lines, *(f"To test: {line}" for line in commands)) if isinstance(commands, list) else tuple(lines)
