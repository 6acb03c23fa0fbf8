"""The report's tables, as plain rows of text for the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scottbench.report.numbers import bracket, decimals, interval_methods, short
from scottbench.report.record import GENERATION, STAGES, Cell, Metric, Record, section, text


@dataclass(frozen=True)
class Entry:
    """One field of a table."""

    text: str
    bold: bool = False
    code: bool = False
    mark: str = ""
    """Footnote letter, where the value or its interval is missing."""
    small: tuple[str, ...] = ()
    """Smaller lines below: an interval, details."""


@dataclass(frozen=True)
class Column:
    """One heading. `number`: aligned right."""

    text: str
    detail: str = ""
    """Second, smaller line: the extractor, the unit."""
    number: bool = False


@dataclass
class Table:
    caption: str
    columns: list[Column]
    rows: list[list[Entry]]
    """The first entry of a row is its heading."""
    notes: list[tuple[str, str]] = field(default_factory=list)
    """(footnote letter, sentence)."""
    number: int = 0

    @property
    def ruled(self) -> bool:
        """Whether a thin rule parts rows of different headings: where some heading has several rows."""
        return len({row[0].text for row in self.rows}) < len(self.rows)


def results_tables(record: Record) -> list[Table]:
    """The main table, one per set of cells that may be ranked together."""
    groups = record.groups()
    return [_results_table(record, group, len(groups)) for group in groups]


def _results_table(record: Record, cells: list[Cell], groups: int) -> Table:
    seeds = len({cell.facts["seed"] for cell in record.cells}) > 1
    columns = [
        Column("Method"),
        Column("Steps", number=True),
        *([Column("Seed", number=True)] if seeds else []),
        Column("NFE", number=True),
    ]
    columns += [
        Column(f"{metric.label} {metric.arrow}", ", ".join(part for part in (metric.extractor, metric.unit) if part), True)
        for metric in record.metrics
    ]
    columns.append(Column("ms/image ↓", number=True))
    table = Table(_results_caption(record, cells, groups, seeds), columns, [])
    shown = [metric_column(metric, cells) for metric in record.metrics]
    shown.append([None if cell.milliseconds is None else f"{cell.milliseconds:.1f}" for cell in cells])
    directions = [metric.higher_is_better for metric in record.metrics] + [False]
    bold = [best(column, higher) for column, higher in zip(shown, directions)]
    reasons: dict[str, str] = {}
    for y, cell in enumerate(cells):
        row = [
            Entry(cell.method),
            Entry(str(cell.steps)),
            *([Entry(str(cell.facts["seed"]))] if seeds else []),
            Entry(number(cell.facts.get("nfe"))),
        ]
        for x, column in enumerate(shown):
            metric = record.metrics[x] if x < len(record.metrics) else None
            if column[y] is None:
                why = "no time was recorded" if metric is None else cell.reason(metric.name)
                row.append(Entry("n/a", mark=_letter(reasons, f"Not available: {why}")))
            else:
                row.append(Entry(column[y], y in bold[x], **({} if metric is None else _interval(metric, cell, cells, reasons))))
        table.rows.append(row)
    table.notes = [(mark, why) for why, mark in reasons.items()]
    return table


def _interval(metric: Metric, cell: Cell, cells: list[Cell], reasons: dict[str, str]) -> dict:
    """The small line below a value, or the mark of the footnote that says why it has none; nothing in a run without intervals."""
    found = cell.intervals.get(metric.name)
    if found is not None:
        return {"small": (bracket(found.low, found.high, metric_decimals(metric, cells)),)}
    why = section(cell.facts, "no_interval").get(metric.name)
    return {} if why is None else {"mark": _letter(reasons, f"No interval: {why}")}


def _results_caption(record: Record, cells: list[Cell], groups: int, seeds: bool) -> str:
    seed = "" if seeds else f", seed {cells[0].facts['seed']}"
    dataset = record.plan.get("dataset", {}).get("name", "the dataset")
    rank = "the best of each column in bold" if len(cells) > 1 else "one row, so none is marked best"
    apart = " Rows of another N or fingerprint are in a table of their own and are not ranked with these." if groups > 1 else ""
    return (
        f"Results on {dataset}, N = {cells[0].n:,} images per row{seed}. ↓ lower is better, ↑ higher is better; {rank}. NFE: network "
        "evaluations per image, counted. ms/image: text encoder, U-Net and decoder on this machine."
        f"{apart}{interval_methods(record, cells)}"
    )


def _letter(reasons: dict[str, str], why: str) -> str:
    return reasons.setdefault(why, "abcdefghijklmnopqrstuvwxyz"[len(reasons) % 26])


def metric_column(metric: Metric, cells: Sequence[Cell]) -> list[str | None]:
    """A metric's values as they are printed, with as many decimals as their intervals bear; None where there is none."""
    digits = metric_decimals(metric, cells)
    return [f"{cell.values[metric.name]:.{digits}f}" if metric.name in cell.values else None for cell in cells]


def metric_decimals(metric: Metric, cells: Sequence[Cell]) -> int:
    """Decimals of a metric's column."""
    found = [cell.intervals[metric.name] for cell in cells if metric.name in cell.intervals]
    return decimals([(interval.high - interval.low) / 2 for interval in found], metric.digits)


def best(column: Sequence[str | None], higher_is_better: bool) -> set[int]:
    """Rows that are best, compared as printed, so that equal numbers are marked alike; none where fewer than two rows have one."""
    present = {y: float(text) for y, text in enumerate(column) if text is not None}
    if len(present) < 2:
        return set()
    top = (max if higher_is_better else min)(present.values())
    return {y for y, value in present.items() if value == top}


def timing_table(record: Record) -> Table:
    """Milliseconds per image and stage."""
    stages = [Column(stage, number=True) for stage in STAGES]
    columns = [Column("Method"), Column("Steps", number=True), *stages, Column("all stages", number=True)]
    caption = (
        f"Time per stage in milliseconds per image, N = {_sizes(record)} images per row. {', '.join(GENERATION).capitalize()}: sampling; "
        "features and store: measuring and keeping."
    )
    return Table(caption, columns, [_timing_row(cell.method, str(cell.steps), cell.seconds) for cell in record.cells])


def _timing_row(name: str, steps: str, seconds: dict[str, float]) -> list[Entry]:
    stages = [Entry(f"{1000 * seconds[stage]:.2f}" if stage in seconds else "-") for stage in STAGES]
    return [Entry(name), Entry(steps), *stages, Entry(f"{1000 * sum(seconds.values()):.2f}" if seconds else "-")]


def card_table(record: Record) -> Table | None:
    """The model card: what was measured of the model itself, once, when it was made."""
    card = record.manifest.get("model_card")
    if not isinstance(card, dict) or not isinstance(card.get("rows"), list):
        return None
    columns = [Column("Quantity"), Column("Value", number=True), Column("Reference", number=True), Column("Note")]
    rows = [
        [Entry(number(row.get(key))) for key in ("quantity", "value", "reference", "note")] for row in card["rows"] if isinstance(row, dict)
    ]
    title = text(card, "title", "Model card").rstrip(".")
    n = f", N = {number(card['n'])}" if card.get("n") is not None else ""
    return Table(f"{title}{n}. Measured when the model was made, not in this run.", columns, rows)


def cells_table(record: Record) -> Table:
    """What each cell was sampled with."""
    columns = [
        Column("Method"),
        Column("Steps", number=True),
        Column("Version", number=True),
        Column("Guidance s", number=True),
        Column("Options"),
        Column("Time steps"),
        Column("Weights (sha256)"),
    ]
    rows = []
    for cell in record.cells:
        facts = cell.facts
        options = ", ".join(f"{key} = {number(value)}" for key, value in section(facts, "options").items())
        times = ", ".join(str(t) for t in facts.get("timesteps", []))
        rows.append(
            [
                Entry(cell.method),
                Entry(str(cell.steps)),
                Entry(str(facts.get("version", ""))),
                Entry(number(facts.get("guidance_scale"))),
                Entry(options if options else "none"),
                Entry(times),
                Entry(short(facts.get("weights_digest")), code=True),
            ]
        )
    return Table(
        f"Recipe of each row, N = {_sizes(record)} images. Guidance in the pipelines' form, s = 1 unguided. Digests: first 12 "
        "digits; in full in manifest.json.",
        columns,
        rows,
    )


STUDENT = (
    ("trainer", "Trainer"),
    ("steps", "Training steps"),
    ("samples_seen", "Samples seen"),
    ("minutes", "Minutes"),
    ("network_evaluations", "Network evaluations"),
)
"""Facts of student.json that the table of students has columns for."""


def students_table(record: Record) -> Table | None:
    """How the students were trained, one row per set of weights."""
    students = {
        cell.facts.get("weights_digest"): cell.facts["student"] for cell in record.cells if isinstance(cell.facts.get("student"), dict)
    }
    if not students:
        return None
    rows = [[Entry(number(facts.get(key))) for key, _ in STUDENT] + [Entry(short(digest), code=True)] for digest, facts in students.items()]
    columns = [Column(title, number=key != "trainer") for key, title in STUDENT] + [Column("Weights (sha256)")]
    return Table(f"Students behind the rows of N = {_sizes(record)} images: their training, as student.json records it.", columns, rows)


def fingerprints_table(record: Record) -> Table:
    """What each metric is, and what its numbers depend on."""
    rows = [[Entry(metric.title), Entry(metric.summary), Entry(metric.fingerprint, code=True)] for metric in record.metrics]
    return Table(
        f"Fingerprint of each metric at N = {_sizes(record)}: only numbers of equal fingerprints may be compared.",
        [Column("Metric"), Column("Definition"), Column("Fingerprint")],
        rows,
    )


def _sizes(record: Record) -> str:
    return ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))


def number(value: object) -> str:
    """A number or text of a record as it is printed: thousands by comma, no trailing zeros."""
    if value is None or value == "":
        return "n/a"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
