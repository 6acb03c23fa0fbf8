"""scottbench compare RUN A B: the paired difference of two cells in every metric."""

from __future__ import annotations

from pathlib import Path

import click


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
    fingerprints are never compared.

    \b
    scottbench compare runs/... NAME@2 OTHER@2
    scottbench compare runs/... NAME@2 NAME@2 --with runs/...
    """
    from scottbench.cli.printing import print_json, print_table
    from scottbench.cli.results import pair_rows
    from scottbench.errors import GateNotMet
    from scottbench.stats.measured import find_cell, read_measured
    from scottbench.stats.paired import pair_row
    from scottbench.store.record import read_record
    from scottbench.text import printable

    mine = read_measured(run)
    theirs = mine if other is None else read_measured(other)
    pairs = compared(find_cell(mine, a), find_cell(theirs, b), same_run=other is None)
    rows = [pair_row(pair) for pair in pairs]
    better = [pair.a.metric for pair in pairs if pair.verdict == "a better"]
    worse = [pair.a.metric for pair in pairs if pair.verdict == "b better"]
    passed = bool(better) and not worse
    if as_json:
        runs = {"run_a": str(run), "run_b": str(run if other is None else other)}
        print_json({**runs, "fingerprints": {pair.a.metric: pair.a.fingerprint for pair in pairs}, "pairs": rows, "gate": passed})
    else:
        metrics = [vars(metric) for metric in read_record(run).metrics]
        first = pairs[0]
        print(printable(f"A = {first.a.cell}, B = {first.b.cell}, N = {first.a.n:,} shared prompts, seeds {rows[0]['seeds']}"))
        tests = "1 test" if len(pairs) == 1 else f"{len(pairs)} tests"
        header = ["A - B", "metric", "difference [95 %]", f"p (Holm, {tests})", "verdict"]
        print_table(header, pair_rows(rows, metrics), right=(2, 3))
    if gate and not passed:
        found = f"worse in {', '.join(worse)}" if worse else "better in no metric"
        raise GateNotMet(f"gate not met: {pairs[0].a.cell} is {found} (Holm, 5 %).")


def compared(a: list, b: list, same_run: bool):
    """Pairs of every metric that both cells have. Raises UsageError where there is none, Mismatch where values are not comparable."""
    from scottbench.errors import UsageError
    from scottbench.stats.measured import comparable, on_shared_seeds
    from scottbench.stats.paired import pair_table

    couples = []
    for metric in dict.fromkeys(one.metric for one in a):
        of_b = [one for one in b if one.metric == metric]
        if of_b:
            couple = on_shared_seeds([one for one in a if one.metric == metric], of_b)
            comparable(*couple)
            couples.append(couple)
    if not couples:
        raise UsageError(f"{a[0].cell} and {b[0].cell} share no metric with intervals. Measure both with the same --metrics.")
    first = couples[0]
    if same_run and (first[0].cell, first[0].seeds) == (first[1].cell, first[1].seeds):
        raise UsageError(f"A and B are the same cell, {first[0].cell}. Name two, or another run with --with.")
    return pair_table(couples)
