"""scottbench compare RUN A B: the paired difference of two cells in every metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scottbench.stats.measured import Measured
    from scottbench.stats.paired import Pair


@click.command(short_help="Paired difference of two cells of a run, or of two runs.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("a")
@click.argument("b")
@click.option("--with", "other", type=click.Path(path_type=Path), metavar="RUN", help="Take B from this run. Default: from RUN.")
@click.option("--gate", is_flag=True, help="Exit 6 unless A is better than B in a metric and worse in none (Holm, 5 %).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def compare(run: Path, a: str, b: str, other: Path | None, gate: bool, as_json: bool) -> None:
    """Compare two cells over the prompts and seeds that they share: A minus B in every metric both have.

    A cell is NAME@STEPS or NAME:STEPS (averaged over the seeds both have), or the id of its folder. Values of different N or
    fingerprints are never compared: a metric that has such is left out and named, and with --gate it is an error.

    \b
    scottbench compare runs/... NAME@2 OTHER@2
    scottbench compare runs/... NAME@2 NAME@2 --with runs/...
    \f
    Raises GateNotMet with --gate where A is better in no metric or worse in one.
    """
    from scottbench.cli.printing import note, print_json
    from scottbench.errors import GateNotMet
    from scottbench.stats.measured import find_cell, read_measured
    from scottbench.stats.paired import pair_row
    from scottbench.store.record import read_record
    from scottbench.store.runs import find_run

    run = find_run(str(run))
    other = None if other is None else find_run(str(other))
    mine = read_measured(run)
    theirs = mine if other is None else read_measured(other)
    couples, left_out = couples_of(find_cell(mine, a), find_cell(theirs, b), strict=gate)
    pairs, family = compared(couples, recorded=read_record(run).pairs if other is None else None)
    rows = [pair_row(pair) for pair in pairs]
    better = [pair.a.metric for pair in pairs if pair.verdict == "a better"]
    worse = [pair.a.metric for pair in pairs if pair.verdict == "b better"]
    passed = bool(better) and not worse
    if as_json:
        runs = {"run_a": str(run), "run_b": str(run if other is None else other)}
        fingerprints = {pair.a.metric: pair.a.fingerprint for pair in pairs}
        print_json({**runs, "fingerprints": fingerprints, "left_out": left_out, "pairs": rows, "gate": passed})
    else:
        print_pairs(run, pairs[0], rows, family)
        for reason in left_out.values():
            note(f"left out: {reason}")
    if gate and not passed:
        found = f"worse in {', '.join(worse)}" if worse else "better in no metric"
        raise GateNotMet(f"gate not met: {pairs[0].a.cell} is {found} (Holm, 5 %).")


def print_pairs(run: Path, first: Pair, rows: list[dict[str, Any]], family: int) -> None:
    """Print the differences of two cells, whose first pair is `first`, in every metric: rows as pairs.parquet has them.

    family: how many tests Holm's correction is over.
    """
    from scottbench.cli.printing import say, show_table
    from scottbench.report.pairs import pairs_list, tests
    from scottbench.store.record import read_record

    say(f"A = {first.a.cell}, B = {first.b.cell}, N = {first.a.n:,} shared prompts, seeds {rows[0]['seeds']}; Holm: over {tests(family)}"
        + (", all of the run" if family > len(rows) else ""), "    ")
    show_table(pairs_list(rows, read_record(run).metrics, "difference [95 %]"))


def couples_of(a: list[Measured], b: list[Measured], strict: bool) -> tuple[list[tuple[Measured, Measured]], dict[str, str]]:
    """Match the values of every metric that both cells have; with them goes why others, by name, are not comparable.

    Raises Mismatch where no metric is comparable, or, where `strict`, one is not; UsageError where they share none.
    """
    from scottbench.errors import Mismatch, UsageError
    from scottbench.stats.measured import comparable, on_shared_seeds

    couples, errors = [], {}
    for metric in dict.fromkeys(one.metric for one in a):
        of_b = [one for one in b if one.metric == metric]
        if of_b:
            try:
                couple = on_shared_seeds([one for one in a if one.metric == metric], of_b)
                comparable(*couple)
                couples.append(couple)
            except Mismatch as error:
                errors[metric] = error
    if errors and (strict or not couples):
        raise next(iter(errors.values()))
    if not couples:
        raise UsageError(f"{a[0].cell} and {b[0].cell} share no metric with intervals. Measure both with the same --metrics.")
    return couples, {metric: str(error) for metric, error in errors.items()}


def compared(couples: list[tuple[Measured, Measured]], recorded: list[dict[str, Any]] | None) -> tuple[list[Pair], int]:
    """Test the differences of couples of values; with them goes the number of tests that Holm's correction is over.

    recorded: rows of pairs.parquet of the run that both are of, whose tests are one family; None where they are of two.

    Raises UsageError where they are the same cell.
    """
    from scottbench.errors import UsageError
    from scottbench.stats.paired import in_family, pair_table

    first = couples[0]
    if recorded is not None and (first[0].cell, first[0].seeds) == (first[1].cell, first[1].seeds):
        raise UsageError(f"A and B are the same cell, {first[0].cell}. Name two, or another run with --with.")
    return in_family(pair_table(couples), [] if recorded is None else recorded)
