"""The sample grid: the first items of the plan, the same for every cell, beside reference and teacher; and each row's failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scottbench.report.candidates import candidates
from scottbench.report.pictures import BUDGET, Picture, Wanted, shown
from scottbench.store.reader import Records
from scottbench.store.record import CellRecord, MetricRecord, RunRecord, section
from scottbench.store.tables import ITEM_COLUMNS, ITEMS
from scottbench.text import count

if TYPE_CHECKING:
    import polars as pl

SEEDS, ROWS = 3, 12
"""Seeds that a page shows at most, and rows of its grid."""
WORST, CELLS = 3, 24
"""Failures of a row of results, and rows of results that have them."""


@dataclass
class Grid:
    """Samples side by side: a row a prompt and seed, a column a cell."""

    caption: str
    columns: list[tuple[str, str]]
    """(method, number of steps) of each column after the prompts'."""
    rows: list[tuple[str, list[Picture]]]
    """(prompt, pictures)."""
    size: int
    """Width and height of a picture on the page, CSS pixels."""
    number: int = 0
    seeds: list[str] = field(default_factory=list)
    """The line below each prompt: its seed, where there are several."""

    @property
    def kept(self) -> bool:
        """True where any picture is there: a folder of records alone has none."""
        return any(picture.source for _, row in self.rows for picture in row)


@dataclass
class Failures:
    """The lowest scores of each row of results."""

    caption: str
    rows: list[tuple[str, str, list[Picture]]]
    """(method, number of steps, pictures)."""
    number: int = 0


def sample_grid(record: RunRecord, seeds: int = 1, budget: int = BUDGET) -> Grid | None:
    """Prompts down, reference and cells across; None where the run kept no samples. seeds: that are shown at most, a row each."""
    samples = section(record.manifest, "samples")
    ids, prompts = samples.get("ids", []), samples.get("prompts", [])
    if not ids:
        return None
    drawn = list(dict.fromkeys(cell.facts["seed"] for cell in record.cells))
    used = drawn[:seeds]
    if len(used) > 1:  # fewer prompts, so that the rows stay few
        keep = max(2, ROWS // len(used))
        ids, prompts = ids[:keep], prompts[:keep]
    columns = columns_of(record)
    reference = section(record.manifest, "reference").get("n") != 0 and "reference" not in section(record.plan, "dataset")
    wanted = []
    for item, prompt in zip(ids, prompts):
        for seed in used:
            if reference:
                wanted.append(Wanted("reference", item, f"{prompt}: reference image"))
            for cell in columns:
                owner, told = _of_seed(record, cell, seed), f", seed {seed}" if len(drawn) > 1 else ""
                wanted.append(Wanted(owner, item, f"{prompt}: {cell.method}, {steps_of(cell)}{told}"))
    heads = [("reference", "")] * reference + [(cell.method, steps_of(cell)) for cell in columns]
    pictures, width = shown(record, wanted, budget), len(heads)
    names = [(prompt, f"seed {seed}" if len(drawn) > 1 else "") for prompt in prompts for seed in used]
    rows = [(prompt, pictures[y * width : (y + 1) * width]) for y, (prompt, _) in enumerate(names)]
    caption = _caption(record, columns, len(ids), reference, [str(seed) for seed in used] if len(drawn) > 1 else [])
    return Grid(caption, heads, rows, 128 if width <= 5 else 96, seeds=[seed for _, seed in names])


def columns_of(record: RunRecord) -> list[CellRecord]:
    """Return the cells of the first seed: the teacher's first, then those to choose from, each in plan order."""
    cells = record.first_seed()
    chosen = candidates(cells)
    return [cell for cell in cells if cell not in chosen] + chosen


def _of_seed(record: RunRecord, cell: CellRecord, seed: object) -> str:
    """The folder of the same cell at another seed; "" where it has none."""
    alike = (one for one in record.cells if (one.method, one.steps, one.facts["seed"]) == (cell.method, cell.steps, seed))
    return next((str(one.facts["id"]) for one in alike), "")


def _caption(record: RunRecord, cells: Sequence[CellRecord], n: int, reference: bool, seeds: list[str]) -> str:
    sizes = ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))
    rule = f"Samples: the first {n} of the N = {sizes} prompts in the plan's order, not chosen by hand."
    if seeds:
        rule += f" Seeds {', '.join(seeds)}, a row each."
    if any(cell.steps for cell in cells):
        rule += " In a row all methods start from the same noise" + ("; left," if reference else ".")
    elif reference:
        rule += " Left,"
    return rule + (" the reference image of the prompt." if reference else "")


def steps_of(cell: CellRecord) -> str:
    """Say a row's number of steps in words; of pictures made elsewhere, that they were given."""
    return count(cell.steps, "step") if cell.steps else "pictures given"


# --- failures ---------------------------------------------------------------------------------------------------------


def failures(record: RunRecord, budget: int = BUDGET) -> Failures | None:
    """Show the items of each row that score lowest; None where no score of items, or no picture of them, is on record."""
    records = Records(record.folder)
    if not records.has(ITEMS):
        return None
    items = records.table(ITEMS, ITEM_COLUMNS)
    metric = _scored(record, items)
    if metric is None:
        return None
    cells, label = columns_of(record)[:CELLS], metric.label
    lowest = {id(cell): _lowest(items, cell, metric) for cell in cells}
    wanted = [
        Wanted(str(cell.facts["id"]), item, f"{cell.method}, {steps_of(cell)}: {item}, {label} {metric.show(value)}", metric.show(value))
        for cell in cells for item, value in lowest[id(cell)]
    ]  # fmt: skip
    made = iter(shown(record, wanted, budget))
    rows = [(cell.method, steps_of(cell), [next(made) for _ in lowest[id(cell)]]) for cell in cells]
    rows = [(method, detail, pictures) for method, detail, pictures in rows if any(picture.source for picture in pictures)]
    if not rows:
        return None
    worst = "lowest" if metric.higher_is_better else "highest"
    sizes = ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))
    return Failures(f"Failures: the {WORST} images of each row with the {worst} {label} of N = {sizes}, with their score.", rows)


def _scored(record: RunRecord, items: pl.DataFrame) -> MetricRecord | None:
    """Return the first metric that scores each image by itself: its values are as many as the images, where a count of neighbours has
    few."""
    if "value" not in items.columns:
        return None
    for metric in record.metrics:
        values = items.filter(_of(record.cells[0], metric))["value"].drop_nulls()
        if len(values) and 2 * values.n_unique() > len(values):
            return metric
    return None


def _lowest(items: pl.DataFrame, cell: CellRecord, metric: MetricRecord) -> list[tuple[str, float]]:
    """(item, value) of a cell's worst images, worst first; equal ones by name."""
    import polars as pl

    found = items.filter(_of(cell, metric) & pl.col("value").is_not_null())
    ordered = found.sort("value", "id", descending=[not metric.higher_is_better, False])
    return list(ordered.select("id", "value").head(WORST).iter_rows())


def _of(cell: CellRecord, metric: MetricRecord) -> pl.Expr:
    """The rows of items.parquet of one cell and metric."""
    import polars as pl

    of_cell = (pl.col("method") == cell.method) & (pl.col("steps") == cell.steps) & (pl.col("seed") == cell.facts["seed"])
    return of_cell & (pl.col("metric") == metric.name)
