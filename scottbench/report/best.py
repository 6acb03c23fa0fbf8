"""The marks of what is best: bold is a value that no other row of its column beats, by the paired tests of the run (Holm, 5 %).

So marks and tests agree. Several such rows are marked as equal: no test tells them apart. Times have no paired test; the best is marked
where its interval lies below all others, on a machine that did little else.
"""

from __future__ import annotations

from collections.abc import Sequence

from scottbench.store.record import CellRecord, MetricRecord, RunRecord

ALPHA = 0.05
"""A difference is decided where its p, corrected for all tests of the run (Holm), is at most this."""
Row = tuple[str, int, str]
"""Method, steps, seeds as pairs.parquet spells them."""


def row_of(cell: CellRecord) -> Row:
    """Name a row of a table of results."""
    return cell.method, cell.steps, ",".join(map(str, cell.seeds))


def tests_of(record: RunRecord, metric: MetricRecord) -> dict[tuple[Row, Row], bool]:
    """Return (row A, row B) -> whether a test shows that A is better, for every ordered pair that the run tested in a metric."""
    found = {}
    for row in record.pairs:
        if row["metric"] != metric.name:
            continue
        seeds = str(row.get("seeds", "0"))
        a, b = ((row[f"method_{side}"], row[f"steps_{side}"], seeds) for side in "ab")
        beaten = row["p_holm"] <= ALPHA and row["difference"] != 0
        a_better = (row["difference"] > 0) == metric.higher_is_better
        found[a, b], found[b, a] = beaten and a_better, beaten and not a_better
    return found


def best_rows(record: RunRecord, metric: MetricRecord, cells: Sequence[CellRecord]) -> set[int]:
    """Find the rows that no other beats: each was tested against every row of a better value, and lost to none.

    None where fewer than two rows have a value, or no test was made of this column. A run of a version without tests has the best values
    as they are, ties included.
    """
    present = {y: cell.values[metric.name] for y, cell in enumerate(cells) if metric.name in cell.values}
    if len(present) < 2:
        return set()
    sign = 1 if metric.higher_is_better else -1
    if not record.pairs:
        shown = {y: float(metric.show(value)) for y, value in present.items()}
        top = max(sign * value for value in shown.values())
        return {y for y, value in shown.items() if sign * value == top}
    tests, names = tests_of(record, metric), {y: row_of(cells[y]) for y in present}
    if not any((names[y], names[x]) in tests for y in present for x in present):
        return set()
    better = {y: [x for x in present if sign * present[x] > sign * present[y]] for y in present}
    return {
        y for y in present
        if all((names[x], names[y]) in tests for x in better[y]) and not any(tests.get((names[x], names[y])) for x in present)
    }  # fmt: skip


def best_time(cells: Sequence[CellRecord]) -> set[int]:
    """Find the row whose time per image is the least for sure: its interval lies below all others. None where a row has no interval, the
    cells were not made in turns, so that the machine may have been faster for some, or it was busy with other work."""
    timed = {y: cell.sampling for y, cell in enumerate(cells) if cell.sampling is not None}
    ends = {y: sampling[1] for y, sampling in timed.items() if sampling[1] is not None}
    if len(timed) < 2 or len(ends) < len(timed) or any(cells[y].busy or not in_turns(cells[y]) for y in timed):
        return set()
    first = min(ends, key=lambda y: ends[y][1])
    return {first} if all(ends[first][1] < ends[y][0] for y in ends if y != first) else set()


def in_turns(cell: CellRecord) -> bool:
    """Tell whether a cell was made in several rounds, each of all cells, so that its times compare."""
    return cell.rounds is not None and cell.rounds > 1


DEARER = 1.25
"""Times that a network call of one row may cost more than another's of equal NFE before the table says so."""


def dearer(cells: Sequence[CellRecord]) -> dict[int, str]:
    """Say of rows whose calls cost more than those of another row of equal NFE, beyond what the intervals leave open, by how much."""
    found = {}
    for y, cell in enumerate(cells):
        peers = [other for other in cells if other.call is not None and other.facts.get("nfe") == cell.facts.get("nfe")]
        if cell.call is None or not peers:
            continue
        least = min(peers, key=lambda other: other.call if other.call is not None else 0.0)
        if least.call is not None and cell.call > DEARER * least.call and _apart(cell, least):
            found[y] = (f"Equal NFE, unequal cost: a call of {cell.name} takes {cell.call / least.call:.1f} times as long as one of "
                        f"{least.name}, so that NFE does not compare these rows")
    return found


def _apart(a: CellRecord, b: CellRecord) -> bool:
    """Tell whether the times per image of two rows differ beyond their intervals, where both have one."""
    if a.sampling is None or b.sampling is None or a.sampling[1] is None or b.sampling[1] is None:
        return True
    return a.sampling[1][0] > b.sampling[1][1] or b.sampling[1][0] > a.sampling[1][1]
