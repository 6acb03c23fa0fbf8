"""Write the generated parts of the Markdown files: everything between `<!-- generated: NAME -->` and `<!-- end -->`.

    python docs/generate.py            rewrite the files
    python docs/generate.py --check    exit 1 and name the files that are out of date (tests/test_docs.py)
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scottbench.errors import EXIT_CODES
from scottbench.plan.code import PARTS as PARTS_OF_A_RUN
from scottbench.registry import claims, hookspecs, nouns
from scottbench.registry.loader import HOOKS, load_plugins
from scottbench.registry.options import field_docs
from scottbench.registry.presets import EXTRACTOR_KEYS, KEYS, OWN_RECIPE_KEYS, TRAIN_KEYS, Preset
from scottbench.report.results import results_tables
from scottbench.report.tables import students_table
from scottbench.store.record import RunRecord, read_record
from scottbench.text import duration

ROOT = Path(__file__).resolve().parent.parent
FILES = ["README.md", "plugins/README.md", "reports/README.md", "docs/architecture.md"]
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

RECORDS = {
    "dataset": [nouns.Items],
    "method": [nouns.Sampling],
    "trainer": [nouns.Distillation],
    "metric": [nouns.CellFeatures, nouns.Influence],
    "claim": [claims.Claim, claims.Comparison, claims.Arm, claims.Quoted],
}
"""What a noun's functions take or return, documented beside it."""


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a cell's line ends become blanks and its bars are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def prose(text: str | None) -> str:
    """Join the lines of a docstring's paragraphs."""
    return inspect.cleandoc(text or "").replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")


def default_of(item: dataclasses.Field[Any]) -> str:
    """A field's default as code; "needed" where it has none."""
    if item.default is not dataclasses.MISSING:
        return f"`{item.default.__name__ if isinstance(item.default, type) else repr(item.default)}`"
    return "empty" if item.default_factory is not dataclasses.MISSING else "needed"


def record(cls: type) -> str:
    """A class as a table of its fields, and its public methods."""
    docs = field_docs(cls)
    if dataclasses.is_dataclass(cls):
        rows = [[f"`{item.name}`", f"`{item.type}`", default_of(item), docs.get(item.name, "")] for item in dataclasses.fields(cls)]
        fields = table(["field", "type", "default", "meaning"], rows)
    else:
        rows = [[f"`{name}`", f"`{kind}`", docs.get(name, "")] for name, kind in cls.__annotations__.items()]
        fields = table(["attribute", "type", "meaning"], rows)
    methods = [item for name, item in vars(cls).items() if inspect.isfunction(item) and not name.startswith("_")]
    lines = [f"- `{method.__name__}{inspect.signature(method)}`: {prose(method.__doc__)}" for method in methods]
    return f"**`{cls.__name__}`**: {prose(cls.__doc__)}\n\n{fields}" + ("\n" + "\n".join(lines) + "\n" if lines else "")


def hooks() -> str:
    """The eight hooks, each with the record that it returns and what that record's functions are given."""
    parts = []
    for hook, kind in HOOKS.items():
        function = getattr(hookspecs, hook)
        parts.append(f"### `{hook}{inspect.signature(function)}`\n\n{prose(function.__doc__)}\n")
        if kind == "preset":
            docs = field_docs(Preset)
            rows = [[f"`{name}`", f"`{item.type}`", default_of(item), docs.get(name, "")] for name, item in KEYS.items()]
            parts.append(table(["key", "type", "default", "meaning"], rows))
            parts.append(f"Keys of `[extractors.ROLE]`: {', '.join(EXTRACTOR_KEYS)}. Keys of `[train]`: {', '.join(TRAIN_KEYS)}. "
                         f"Keys of `[recipes.NAME]`: those of `[train]` and {', '.join(OWN_RECIPE_KEYS)}.\n")
        for cls in [nouns.KINDS.get(kind), *RECORDS.get(kind, [])]:
            if cls is not None:
                parts.append(record(cls))
    return "\n".join(parts)


def source(path: str) -> str:
    """A file of the repository, verbatim."""
    language = {".py": "python", ".toml": "toml"}[Path(path).suffix]
    return f"`{Path(path).name}`\n```{language}\n{(ROOT / path).read_text(encoding='utf-8')}```\n"


def example() -> str:
    """The example plug-in that the tests install."""
    folder = "tests/third_party/scottbench_example"
    names = ("pyproject.toml", "scottbench_example/__init__.py", "scottbench_example/ddim_eta.py")
    return "\n".join(source(f"{folder}/{name}") for name in names)


def smallest() -> str:
    """The shortest sampler that we ship."""
    return source("plugins/scottbench_solvers/ddim.py")


def exit_codes() -> str:
    """Every exit code of the command line."""
    return table(["code", "meaning"], [[str(code), meaning] for code, meaning in EXIT_CODES.items()])


def verbs() -> str:
    """Every verb of the command line with its arguments and options."""
    from scottbench.cli import scottbench

    rows = []
    for name, command in scottbench.commands.items():
        arguments = " ".join(item.human_readable_name for item in command.params if item.param_type_name == "argument")
        options = [max(item.opts, key=len) for item in command.params if item.param_type_name == "option"]
        line = f"scottbench {name} {arguments}".strip()
        rows.append([f"`{line}`", command.get_short_help_str(100), " ".join(f"`{option}`" for option in options)])
    return table(["command", "what it does", "options"], rows)


def bundled() -> str:
    """Every name that the bundled plug-ins bring."""
    rows = []
    for kind, found in load_plugins().nouns.items():
        rows += [[kind, f"`{name}`", item.noun.summary] for name, item in found.items() if item.distribution == "scottbench"]
    return table(["kind", "name", "what it is"], rows)


def code() -> str:
    """Which code makes which part of a run, as its identity has it."""
    rows = [
        [part.what, ", ".join(f"`{name}`" for name in part.host), ", ".join(part.plugins) or "none", part.recorded]
        for part in PARTS_OF_A_RUN.values()]  # fmt: skip
    return table(["makes", "files of `scottbench/`", "whole packages of the plug-ins of", "digests stand in"], rows)


SHOWN = ("fid", "clip_score", "coverage")
"""Metrics of a published report's short tables; all are in the report."""


def published() -> list[Path]:
    """The folders of the published reports."""
    return sorted(path.parent for path in (ROOT / "reports").glob("*/manifest.json"))


def results(record: RunRecord) -> str:
    """The first table of a published report, its leading metrics only."""
    first = results_tables(record)[0]
    kept = {"Method", "Steps", "NFE", *(f"{metric.label} {metric.arrow}" for metric in record.metrics if metric.name in SHOWN)}
    chosen = [x for x, column in enumerate(first.columns) if column.text in kept]
    rows = [[" ".join([f"**{row[x].text}**" if row[x].bold and x else row[x].text, *row[x].small]) for x in chosen] for row in first.rows]
    return table([" ".join(filter(None, (first.columns[x].text, first.columns[x].detail))) for x in chosen], rows)


def verdicts(record: RunRecord) -> str:
    """The claims that a published report can test, each with its evidence."""
    rows = [[f"`{claim['name']}`", claim["statement"], f"**{claim['verdict']}**", "; ".join(one["text"] for one in claim["evidence"])]
            for claim in record.claims if claim["verdict"] != "not testable here"]  # fmt: skip
    return table(["claim", "statement", "verdict", "evidence"], rows)


def one_report(folder: Path) -> str:
    """A published report in short, from its records."""
    record = read_record(folder)
    manifest, students = record.manifest, students_table(record)
    seeds = ", ".join(dict.fromkeys(str(cell.facts["seed"]) for cell in record.cells))
    trained = "" if students is None else "\n" + table(
        ["student", *(column.text for column in students.columns[1:-1])],
        [[names, *(entry.text for entry in row[1:-1])] for names, row in zip(students_names(record), students.rows, strict=True)])
    machine = manifest["environment"].get("cpu")
    return (
        f"### [{folder.name}]({folder.name}/report/index.html)\n\n`{manifest['command']}`\n\nN = {record.cells[0].n:,} prompts a row, "
        f"seed {seeds}; plan `{manifest['plan_hash'][:12]}`; {duration(manifest['wall_seconds'])} on {machine}.\n\n"
        f"{results(record)}\n{verdicts(record)}{trained}"
    )


def students_names(record: RunRecord) -> list[str]:
    """Labels of the methods that sample each student of the table of students."""
    names: dict[str, list[str]] = {}
    for cell in record.cells:
        if isinstance(cell.facts.get("student"), dict):
            names.setdefault(cell.facts["weights_digest"], []).append(cell.method)
    return [", ".join(dict.fromkeys(found)) for found in names.values()]


def reports() -> str:
    """All published reports in short."""
    return "\n".join(one_report(folder) for folder in published())


def headline() -> str:
    """Results and verdicts of the main report."""
    record = read_record(ROOT / "reports" / "pocket-main")
    return f"{results(record)}\n{verdicts(record)}"


PARTS: dict[str, Callable[[], str]] = {
    "hooks": hooks, "example": example, "smallest": smallest, "exit_codes": exit_codes, "verbs": verbs, "bundled": bundled,
    "reports": reports, "headline": headline, "code": code,
}  # fmt: skip


def rendered(text: str) -> str:
    """`text` with every generated block made anew."""
    return BLOCK.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}{match[3]}", text)


def main(check: bool) -> int:
    """Rewrite the files, or only name the stale ones where `check`; returns the exit code."""
    stale = []
    for name in FILES:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = rendered(before)
        if after != before:
            stale.append(name)
            if not check:
                path.write_text(after, encoding="utf-8")
    if stale:
        print(f"{'out of date' if check else 'rewritten'}: {', '.join(stale)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
