"""The report's tables of paired differences and of claims."""

from __future__ import annotations

from collections import Counter

from scottbench.report.numbers import bracket, decimals, p_text, signed
from scottbench.report.record import Record, text
from scottbench.report.tables import Column, Entry, Table

ROWS = 48
"""A longer table of pairs shows the first metric only; the others are in pairs.parquet."""


def pairs_table(record: Record) -> Table | None:
    """Paired differences A - B with Holm's correction; None where the run has none."""
    pairs, metrics = record.pairs, {metric.name: metric for metric in record.metrics}
    pairs = [row for row in pairs if row["metric"] in metrics]
    if not pairs:
        return None
    shown = pairs if len(pairs) <= ROWS else [row for row in pairs if row["metric"] == pairs[0]["metric"]]
    columns = [Column("A - B"), Column("Metric"), Column("Difference", number=True), Column("p", "Holm", number=True), Column("Verdict")]
    rows = []
    for row in shown:
        metric = metrics[row["metric"]]
        digits = decimals([(row["ci_high"] - row["ci_low"]) / 2], metric.digits + 1)
        rows.append([
            Entry(f"{row['method_a']}@{row['steps_a']} - {row['method_b']}@{row['steps_b']}"),
            Entry(metric.title),
            Entry(signed(row["difference"], digits), small=(bracket(row["ci_low"], row["ci_high"], digits),)),
            Entry(p_text(row["p_holm"]).removeprefix("p = ").removeprefix("p ")),
            Entry(str(row["verdict"])),
        ])
    sizes = ", ".join(f"{n:,}" for n in sorted({row["n"] for row in pairs}))
    tests = "one test" if len(pairs) == 1 else f"{len(pairs)} tests"
    more = "" if len(shown) == len(pairs) else f" The other {len(pairs) - len(shown)} are in pairs.parquet."
    caption = (
        f"Paired differences over the same N = {sizes} prompts, starting noise and reference images: method against method at one number "
        f"of steps, and each at neighbouring numbers. Brackets: 95 % intervals, uncorrected. p: two-sided, Holm's correction over {tests}; "
        f"a verdict needs p at most 0.05. Images to decide: per cell, for a chance of 0.8, if the difference is as measured.{more}"
    )
    return Table(caption, columns, rows)


def claims_table(record: Record) -> Table | None:
    """What papers say beside what was measured; None where no plug-in brought a claim."""
    if not record.claims:
        return None
    rows = [[Entry(text(claim, "name"), small=(_where(claim),)), Entry(text(claim, "statement"), small=_quoted(claim)),
             Entry(text(claim, "verdict"), bold=claim.get("verdict") != UNTESTED, small=_evidence(claim))] for claim in record.claims]
    counts = Counter(text(claim, "verdict") for claim in record.claims)
    sizes = ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))
    caption = (
        f"Claims of papers, held against this run at N = {sizes}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}. "
        "A direction holds where the paired 95 % interval excludes no difference; it is reproduced where the quoted size is reached too, "
        "which only the paper's own setting and N can show. Quoted numbers are the papers' and are ranked with none of ours."
    )
    return Table(caption, [Column("Claim"), Column("Statement"), Column("Verdict")], rows)


UNTESTED = "not testable here"


def _where(claim: dict) -> str:
    return ", ".join(part for part in (text(claim, "paper"), text(claim, "version"), text(claim, "locator")) if part)


def _quoted(claim: dict) -> tuple[str, ...]:
    lines = []
    for quoted in claim.get("quoted", []):
        lines.append(
            f"Quoted: {quoted['metric']} {quoted['better']:g} against {quoted['worse']:g} ({quoted['better_cell']}, "
            f"{quoted['worse_cell']}; {quoted['dataset']}, N = {quoted['n']:,}; {quoted['source']}; confidence {quoted['confidence']})."
        )
    return tuple(lines)


def _evidence(claim: dict) -> tuple[str, ...]:
    lines = [f"{entry['text']}: {entry['verdict']}." for entry in claim.get("evidence", [])]
    reason = text(claim, "reason")
    return (*lines, f"{reason[0].upper()}{reason[1:]}.") if reason else tuple(lines)
