"""The report's tables, as plain rows of text for the template; those of the results are in results.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from scottbench.store.record import CellRecord, RunRecord, section, text
from scottbench.store.timings import SAMPLING, STAGES
from scottbench.text import short


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


def timing_table(record: RunRecord) -> Table:
    """Milliseconds per image and stage."""
    stages = [Column(stage, number=True) for stage in STAGES]
    several = len({cell.seeds for cell in record.cells}) > 1
    seed = [Column("Seed", number=True)] if several else []
    columns = [Column("Method"), Column("Steps", number=True), *seed, *stages, Column("all stages", number=True)]
    caption = (
        f"Time per stage in milliseconds per image, N = {_sizes(record)} images per row. {', '.join(SAMPLING).capitalize()}: sampling; "
        "features and store: measuring and keeping."
    )
    if any("sampling" in cell.seconds for cell in record.cells):
        caption += " Medians over chunks, without the first that a process made of each row, in which networks warm up."
    return Table(caption, columns, [_timing_row(cell, several) for cell in record.cells])


def _timing_row(cell: CellRecord, several: bool) -> list[Entry]:
    seconds, seed = cell.seconds, [Entry(str(cell.facts["seed"]))] if several else []
    stages = [Entry(f"{1000 * seconds[stage]:.2f}" if stage in seconds else "-") for stage in STAGES]
    known = [seconds[stage] for stage in STAGES if stage in seconds]
    return [Entry(cell.method), Entry(str(cell.steps)), *seed, *stages, Entry(f"{1000 * sum(known):.2f}" if known else "-")]


def card_table(record: RunRecord) -> Table | None:
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


def cells_table(record: RunRecord) -> Table:
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
    for cell in record.first_seed():
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


def students_table(record: RunRecord) -> Table | None:
    """How the students were trained, one row per set of weights."""
    students = {
        cell.facts.get("weights_digest"): cell.facts["student"] for cell in record.cells if isinstance(cell.facts.get("student"), dict)
    }
    if not students:
        return None
    rows = [[Entry(number(facts.get(key))) for key, _ in STUDENT] + [Entry(short(digest), code=True)] for digest, facts in students.items()]
    columns = [Column(title, number=key != "trainer") for key, title in STUDENT] + [Column("Weights (sha256)")]
    return Table(f"Students behind the rows of N = {_sizes(record)} images: their training, as student.json records it.", columns, rows)


def fingerprints_table(record: RunRecord) -> Table:
    """What each metric is, and what its numbers depend on."""
    rows = [[Entry(metric.title), Entry(metric.summary), Entry(metric.fingerprint, code=True)] for metric in record.metrics]
    return Table(
        f"Fingerprint of each metric at N = {_sizes(record)}: only numbers of equal fingerprints may be compared.",
        [Column("Metric"), Column("Definition"), Column("Fingerprint")],
        rows,
    )


def _sizes(record: RunRecord) -> str:
    return ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))


def number(value: object) -> str:
    """A number or text of a record as it is printed: thousands by comma, no trailing zeros."""
    if value is None or value == "":
        return "n/a"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
