"""A table of the report as plain rows of text, and those that are of one run's making; the results are in results.py, pairs in pairs.py.

Each has four forms: HTML, LaTeX, Markdown and a terminal's (forms.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scottbench.store.record import CellRecord, RunRecord, section, text
from scottbench.store.timings import SAMPLING, STAGES
from scottbench.text import bracket, fixed, short

TIME, CALL = "ms/image", "ms/call"
"""Names of the columns of times, beside those of metrics."""
TIE = "="
"""Mark of a best value that others of its column share."""
UPRIGHT, GAP, WORDS, LETTER, SMALL = 182.0, 2.0, 25.0, 1.5, 1.23
"""Millimetres on paper, by templates/report.css: the text of an upright A4 sheet, the gap between two columns, a column of words, which
fold, and a letter of 8.5 and of 7 points."""


@dataclass(frozen=True)
class Entry:
    """One field of a table."""

    text: str
    bold: bool = False
    code: bool = False
    mark: str = ""
    """Footnote letter, where the value or its interval is missing; "=" where `tie`."""
    tie: bool = False
    """Bold like others of its column: no test tells them apart."""
    ends: tuple[str, str] | None = None
    """The ends of its interval as they are printed, which `small` has in brackets."""
    small: tuple[str, ...] = ()
    """Smaller lines below: an interval, details."""
    short: str | None = None
    """The text on a terminal, where it is another."""


def valued(value: float, ends: tuple[float | None, float | None], digits: int) -> Entry:
    """Make the field of a value with its interval, whose ends are None where it has none."""
    low, high = ends
    if low is None or high is None:
        return Entry(fixed(value, digits))
    return Entry(fixed(value, digits), small=(bracket(low, high, digits),), ends=(fixed(low, digits), fixed(high, digits)))


@dataclass(frozen=True)
class Column:
    """A heading, and how the fields below it are set."""

    text: str
    detail: str = ""
    """Second, smaller line: the extractor, the unit."""
    number: bool = False
    """Fields are aligned right."""
    short: str | None = None
    """The heading on a terminal, where it is another; "" leaves the column out there."""
    wrap: bool = False
    """On a terminal its fields may take several lines; in LaTeX too."""
    metric: str = ""
    """Name of the metric that its fields are of; `TIME` and `CALL` of times. "" of what leads a row: name, steps, NFE."""
    spare: bool = False
    """Left out first where a terminal is narrow, and said so."""


@dataclass
class Table:
    """A caption, headings, rows and footnotes: text, without any form's markup."""

    caption: str
    columns: list[Column]
    rows: list[list[Entry]]
    """The first entry of a row is its heading."""
    notes: list[tuple[str, str]] = field(default_factory=list)
    """(footnote letter, sentence)."""
    number: int = 0
    """Its place among the tables of the page."""
    title: str = ""
    """The caption in a few words, for a terminal."""
    brief: str = ""
    """The caption in a sentence or two, for a paper."""

    @property
    def ruled(self) -> bool:
        """True where some heading has several rows: a thin rule then parts rows of different headings."""
        return len({row[0].text for row in self.rows}) < len(self.rows)

    @property
    def across(self) -> bool:
        """True where it is printed across a sheet: its columns are many, or too wide for an upright one, since numbers are never broken."""
        widths = [self._printed(x) if column.number else WORDS for x, column in enumerate(self.columns)]
        return len(widths) > 8 or sum(widths) > UPRIGHT

    def _printed(self, x: int) -> float:
        """Estimate the width in mm of a column of numbers on paper."""
        lines = [(len(row[x].text) * LETTER, *(len(line) * SMALL for line in row[x].small)) for row in self.rows]
        return GAP + max((max(line) for line in lines), default=0.0)

    def picked(self, columns: Sequence[int]) -> Table:
        """Return the table with some of its columns, in their order."""
        return replace(self, columns=[self.columns[x] for x in columns], rows=[[row[x] for x in columns] for row in self.rows])


def timing_table(record: RunRecord) -> Table:
    """Milliseconds per image and stage."""
    stages = [Column(stage, number=True) for stage in STAGES]
    several = len({cell.seeds for cell in record.cells}) > 1
    seed = [Column("Seed", number=True)] if several else []
    columns = [Column("Method"), Column("Steps", number=True), *seed, *stages, Column("all stages", number=True)]
    caption = (
        f"Time per stage in milliseconds per image, N = {sizes(record)} images per row. {', '.join(SAMPLING).capitalize()}: sampling; "
        "features and store: measuring and keeping."
    )
    if any("sampling" in cell.seconds for cell in record.cells):
        caption += " Medians over chunks, without the first that a process made of each row, in which networks warm up."
    return Table(caption, columns, [_timing_row(cell, several) for cell in record.cells])


def _timing_row(cell: CellRecord, several: bool) -> list[Entry]:
    seconds, seed = cell.seconds, [Entry(str(cell.facts["seed"]))] if several else []
    stages = [Entry(f"{1000 * seconds[stage]:.2f}" if stage in seconds else "-") for stage in STAGES]
    known = [seconds[stage] for stage in STAGES if stage in seconds]
    return [Entry(cell.method), Entry(cell.steps_text), *seed, *stages, Entry(f"{1000 * sum(known):.2f}" if known else "-")]


def card_table(record: RunRecord) -> Table | None:
    """The model card: what was measured of the model itself when it was made; None where the run has none."""
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
    """Give the recipe of each cell: version, guidance, options, time steps and weights."""
    numbers = [Column(title, number=True) for title in ("Steps", "Version", "Guidance s")]
    columns = [Column("Method"), *numbers, Column("Options"), Column("Time steps"), Column("Weights (sha256)")]
    caption = (
        f"Recipe of each row, N = {sizes(record)} images. Guidance in the pipelines' form, s = 1 unguided. Digests: first 12 "
        "digits; in full in manifest.json."
    )
    return Table(caption, columns, [_recipe(cell) for cell in record.first_seed()])


def _recipe(cell: CellRecord) -> list[Entry]:
    facts = cell.facts
    options = ", ".join(f"{key} = {number(value)}" for key, value in section(facts, "options").items())
    times = ", ".join(str(t) for t in facts.get("timesteps", []))
    scale = number(facts.get("guidance_scale")) if cell.steps else "-"
    texts = [cell.method, cell.steps_text, str(facts.get("version", "")), scale]
    return [*map(Entry, texts), Entry(options if options else "none"), Entry(times), Entry(short(facts.get("weights_digest")), code=True)]


STUDENT = (
    ("trainer", "Trainer"),
    ("steps", "Training steps"),
    ("samples_seen", "Samples seen"),
    ("minutes", "Minutes"),
    ("network_evaluations", "Network evaluations"),
    ("passes", "Passes"),
)
"""Facts of student.json that the table of students has columns for."""


def students_table(record: RunRecord) -> Table | None:
    """How the students were trained, one row per set of weights; None where no row is a student's."""
    students = {
        cell.facts.get("weights_digest"): cell.facts["student"] for cell in record.cells if isinstance(cell.facts.get("student"), dict)
    }
    if not students:
        return None
    rows = [
        [Entry(maker_of(facts)), *(Entry(number(facts.get(key))) for key, _ in STUDENT[1:]), Entry(guidance_of(facts)),
         Entry(short(digest), code=True)]
        for digest, facts in students.items()
    ]  # fmt: skip
    columns = [Column(title, number=key != "trainer") for key, title in STUDENT] + [Column("Guidance"), Column("Weights (sha256)")]
    return Table(
        f"Students behind the rows of N = {sizes(record)} images: their training, as student.json records it. Passes: of U-Nets, per "
        "image, forward 1 and backward 2, teacher and discriminator counted in. Slope: how far the student follows its guidance input on "
        "held-out items, 1 as far as its teacher, 0 not at all.", columns, rows)  # fmt: skip


def maker_of(facts: dict[str, Any]) -> str:
    """Name the trainer of a student; of published weights, where they are from, who trained them and under which licence."""
    told = section(facts, "published")
    if not told:
        return number(facts.get("trainer"))
    texts = {"of": told.get("by"), "student of": told.get("trained_from"), "licence": told.get("licence")}
    said = [f"{word} {number(text)}" for word, text in texts.items() if text is not None]
    return ", ".join([f"published weights: {number(told.get('source'))}", *said])


def guidance_of(facts: dict[str, Any]) -> str:
    """Say in words how a student takes guidance: baked in, or as an input, and how far it follows that."""
    if facts.get("guidance") == "baked":
        scale = facts.get("baked_guidance_scale")
        return "baked in" if scale is None else f"baked in, s = {number(scale)}"
    if "w_min" not in facts:
        return ""
    slopes = section(facts, "guidance_slope")
    least = f"slope {number(min(slopes.values()))}" if slopes else "slope not measured"
    return f"input, s = {number(1 + facts['w_min'])} to {number(1 + facts['w_max'])}, {least}"


def fingerprints_table(record: RunRecord) -> Table:
    """Define each metric, and name all that its numbers depend on."""
    rows = [[Entry(metric.title), Entry(metric.summary), Entry(metric.fingerprint, code=True)] for metric in record.metrics]
    return Table(
        f"Fingerprint of each metric at N = {sizes(record)}: only numbers of equal fingerprints may be compared.",
        [Column("Metric"), Column("Definition"), Column("Fingerprint")],
        rows,
    )


def sizes(record: RunRecord) -> str:
    """The numbers of images per cell, each once: "5,000"."""
    return ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))


def number(value: object) -> str:
    """A number or text of a record as it is printed: thousands by comma, no trailing zeros."""
    if value is None or value == "":
        return "n/a"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
