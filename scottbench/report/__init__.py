"""A run folder to one self-contained HTML page, report/index.html: from records alone, with equal bytes for equal records.

Needs neither torch nor the plug-ins of the run, opens no socket, and the page loads nothing: styles, figures and images are
inside it, and its content security policy forbids the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment

    from scottbench.store.record import RunRecord

TEMPLATES = Path(__file__).parent / "templates"


def build(run_folder: Path) -> Path:
    """Write `run_folder`/report/index.html and return its path.

    Its digest goes beside it, to SHA256SUMS. Raises UsageError (one line) where the folder is no run, of another schema, unfinished or not
    writable; IntegrityError where a record or a picture is not the one that the run wrote; Incomplete where the disk is full.
    """
    from scottbench.store.files import make_folders, write_file, writing
    from scottbench.store.record import read_record
    from scottbench.store.sums import SUMS, sums_of

    root = Path(run_folder)
    html = render(read_record(root)).encode("utf-8", "replace")  # a folder's name may be no text
    hint = f"Free some space or make the folder writable, then: scottbench report {run_folder}"
    with writing(root / "report", hint):
        make_folders(root / "report", root)
        (root / "report" / SUMS).unlink(missing_ok=True)  # the old one must never describe the new page
    page = write_file(root / "report" / "index.html", html, hint, root)
    write_file(root / "report" / SUMS, sums_of({page.name: html}), hint, root)
    return page


def render(record: RunRecord) -> str:
    """The page of a record, as the text of its HTML file."""
    return environment().get_template("report.html.j2").render(contents(record))


def environment() -> Environment:
    """Return the templates, in which all text is escaped and a name that is not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from scottbench.report.links import linked, said_once

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(linked=linked, said_once=said_once)
    return made


def _finalize(value: Any) -> Any:
    """Text of a record without control characters and bidirectional overrides, before it is escaped; None as "n/a"."""
    if value is None:
        return "n/a"
    return printable(value) if type(value) is str else value


def contents(record: RunRecord) -> dict[str, Any]:
    """Gather all that the template shows, tables and figures numbered in the order of the page."""
    from scottbench.report import prose, tables
    from scottbench.report.categories import category_tables
    from scottbench.report.decision import decide
    from scottbench.report.figures import figures
    from scottbench.report.links import anchors
    from scottbench.report.memory import memory
    from scottbench.report.pairs import claims_table, pairs_table
    from scottbench.report.pictures import BUDGET
    from scottbench.report.quoted import quoted_tables
    from scottbench.report.results import results_tables
    from scottbench.report.samples import SEEDS, failures, sample_grid
    from scottbench.report.verdicts import verdict_row

    results, charts = [*results_tables(record), *category_tables(record), *quoted_tables(record)], figures(record)
    grid, failed = sample_grid(record, SEEDS, BUDGET * 3 // 4), failures(record, BUDGET // 4)
    remembered = memory(record, BUDGET // 4)
    timing, card, recipe = tables.timing_table(record), tables.card_table(record), tables.cells_table(record)
    students, fingerprints = tables.students_table(record), tables.fingerprints_table(record)
    pairs, claims = pairs_table(record), claims_table(record)
    verdicts, untested = verdict_row(record)
    _number([*results, pairs, claims, timing, card, recipe, students, fingerprints])
    _number([*charts, grid if grid is not None and grid.kept else None, failed, remembered])
    shown = {
        "manifest": record.manifest, "preset": record.plan.get("preset"), "decision": decide(record), "verdicts": verdicts,
        "untested": untested, "setup": prose.setup(record), "results": results, "differences": pairs, "claims": claims, "figures": charts,
        "grid": grid, "failures": failed, "memory": remembered, "timing": timing, "split": prose.split_sentence(record),
        "card": card, "recipe": recipe,
        "students": students, "fingerprints": fingerprints, "environment": prose.environment_rows(record) + prose.digest_rows(record),
        "limits": prose.limits(record), "references": prose.references(record), "links": anchors(recipe, "recipe", 2),
        "definitions": {f"{metric.label} {metric.arrow}": f"metric-{i}" for i, metric in enumerate(record.metrics, start=1)},
    }  # fmt: skip
    return {**shown, "sections": [(id, title) for id, title in SECTIONS.items() if _has(shown, id)]}


SECTIONS = {"answer": "Answer", "results": "Results", "setup": "Setup", "claims": "Claims", "samples": "Samples", "time": "Time",
            "model": "Model", "made": "How it was made", "limits": "Limits", "references": "References"}  # fmt: skip
"""Id of a section -> its name in the list of contents."""


def _has(shown: dict[str, Any], section: str) -> bool:
    """Whether a page has a section: some are left out where there is nothing to show."""
    needs = {"claims": ["claims"], "samples": ["grid", "failures", "memory"], "model": ["card"], "references": ["references"]}
    return section not in needs or any(shown[key] for key in needs[section])


def _number(items: Iterable[Any]) -> None:
    for number, item in enumerate([item for item in items if item is not None], start=1):
        item.number = number
