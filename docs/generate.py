"""Write the generated parts of the Markdown files: everything between `<!-- generated: NAME -->` and `<!-- end -->`.

    python docs/generate.py            rewrite the files
    python docs/generate.py --check    exit 1 and name the files that are out of date (tests/test_docs.py)
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
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
from scottbench.stats.measured import read_measured
from scottbench.stats.verdicts import OTHERS, judge
from scottbench.store.record import RunRecord, read_record
from scottbench.text import duration

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    "README.md", "plugins/README.md", "reports/README.md", "docs/architecture.md", "docs/measured.md", "docs/reference/command-line.md",
    "docs/reference/names.md", "docs/reference/schemas.md", "docs/reference/python.md"]  # fmt: skip
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
        types = {name: getattr(kind, "__forward_arg__", kind) for name, kind in cls.__annotations__.items()}
        rows = [[f"`{name}`", f"`{kind}`", docs.get(name, "")] for name, kind in types.items()]
        fields = table(["attribute", "type", "meaning"], rows)
    members = [(name, item.fget if isinstance(item, property) else item) for name, item in vars(cls).items()]
    methods = [item for name, item in members if inspect.isfunction(item) and (not name.startswith("_") or name == "__call__")]
    methods = [method for method in methods if method.__doc__]
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


MADE = {
    "method": ("my-sampler", "sampler.py"), "trainer": ("my-student", "trainer.py"), "metric": ("my-metric", "shift.py"),
    "extractor": ("my-eye", "colours.py"), "claim": ("my-claim", "claim.toml"),
}  # fmt: skip
"""Kind -> the name that the guide gives to `scottbench plugin new`, and the file of the package that it shows."""


def made(kind: str) -> str:
    """A file of the package that `scottbench plugin new` writes, in a fence that names its place."""
    from scottbench.cli.plugin_new import commands, rendered

    name, file = MADE[kind]
    folder, slug = f"scottbench-{name}", name.replace("-", "_")
    place = f"scottbench_{slug}/{file}"
    text = rendered(kind, name, slug, commands(kind, name, Path(folder)))[place]
    language = {".py": "python", ".toml": "toml"}[Path(file).suffix]
    return f"```{language} as made: {folder}/{place}\n{text}```\n"


STABLE = ROOT / "plugins" / "stable.txt"
SHOWN_ABOVE = {noun.__name__ for noun in [*nouns.KINDS.values(), *(cls for found in RECORDS.values() for cls in found)]}
"""Records that the blocks of the hooks show already."""
BY_NAME = {"scottbench.metrics", "scottbench.testing"}
"""Modules that docs/reference/python.md describes: the guide names what they have."""


def stable_names() -> dict[str, list[str]]:
    """Module -> the names in it that are stable, methods as Class.method, in the order of the list."""
    found: dict[str, list[str]] = {}
    for line in STABLE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            module = line
            found[module] = []
        elif line.startswith(" "):
            found[module].append(line.strip().partition("(")[0])
    return found


def stable() -> str:
    """Everything that is stable API, module by module, from the docstrings."""
    parts = []
    for module, names in stable_names().items():
        found = importlib.import_module(module)
        parts.append(f"### {module}\n\n{escaped(prose(found.__doc__).partition(chr(10))[0])}\n")
        top = [name for name in names if "." not in name]
        elsewhere = top if module in BY_NAME else [name for name in top if name in PUBLIC.get(module, [])]
        if elsewhere:
            shown = ", ".join(f"`{name}`" for name in elsewhere)
            parts.append(f"Described in [docs/reference/python.md](../docs/reference/python.md): {shown}.\n")
        for name in (name for name in top if name not in elsewhere):
            item = getattr(found, name)
            if module == "scottbench" and name in SHOWN_ABOVE:
                continue
            if getattr(item, "_is_protocol", False) or issubclass_of_dict(item):
                parts.append(record(item).replace("<", "&lt;"))
            elif inspect.isroutine(item) or inspect.isclass(item):
                parts.append(entry(module, name, item))
    return "\n".join(parts)


def issubclass_of_dict(item: Any) -> bool:
    """True of a TypedDict, which has fields and no signature."""
    return isinstance(item, type) and issubclass(item, dict)


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


def flags() -> str:
    """Every verb with its description, arguments and options, and what each takes."""
    import click

    from scottbench.cli import scottbench

    parts = []

    def add(name: str, command: click.Command) -> None:
        arguments = " ".join(item.human_readable_name.upper() for item in command.params if item.param_type_name == "argument")
        about = inspect.cleandoc(command.help or "").split("\f")[0].replace("\b\n", "").strip()
        lines = [f"### scottbench {name}\n", f"```text\n{f'scottbench {name} {arguments}'.rstrip()}\n\n{about}\n```\n"]
        rows = []
        for item in command.params:
            if isinstance(item, click.Option):
                takes = "" if item.is_flag else item.metavar if item.metavar else item.type.name
                rows.append([", ".join(f"`{one}`" for one in item.opts), f"`{takes}`" if takes else "", item.help or ""])
        parts.append("\n".join(lines + ([table(["option", "takes", "what it does"], rows)] if rows else [])))
        for below in command.commands.values() if isinstance(command, click.Group) else ():
            add(f"{name} {below.name}", below)

    for name, command in scottbench.commands.items():
        add(name, command)
    return "\n".join(parts)


def schemas() -> str:
    """Every JSON Schema of the records: what it describes, and the fields that a record must have."""
    rows = []
    for path in sorted((ROOT / "scottbench" / "store" / "schemas").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        fields = ", ".join(f"`{name}`" for name in found.get("required", []))
        rows.append([f"`{path.name}`", found.get("title", ""), fields])
    return table(["file", "describes", "a record has at least"], rows)


PUBLIC = {
    "scottbench": ["benchmark", "sample", "distil", "open_run", "Run", "Samples", "Student"],
    "scottbench.metrics": [],
    "scottbench.stats.intervals": [],
    "scottbench.stats.paired": [],
    "scottbench.testing": [],
}
"""Modules and their public names; [] for all that is defined there or, in a package, named by its __all__."""


def escaped(text: str) -> str:
    """Text of a docstring, in which Markdown must see no HTML."""
    return text.replace("<", "&lt;")


def signature(item: Callable[..., Any]) -> str:
    """The arguments of a function or class; those of a class that takes none by name are left out."""
    try:
        found = str(inspect.signature(item))
    except ValueError:
        return ""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", found)  # annotations are text in our modules


def entry(module: str, name: str, item: Any) -> str:
    """One public function or class with its docstring; of a class also its public methods and properties."""
    lines = [f"#### {name}\n", f"```text\n{module}.{name}{signature(item)}\n```\n", escaped(prose(item.__doc__)) + "\n"]
    if dataclasses.is_dataclass(item):
        docs = field_docs(item)
        rows = [[f"`{one.name}`", f"`{one.type}`", escaped(docs.get(one.name, ""))] for one in dataclasses.fields(item) if one.init]
        lines += [table(["field", "type", "meaning"], rows)] if rows else []
    if inspect.isclass(item):
        for word, member in vars(item).items():
            wrapped = getattr(member, "__func__", getattr(member, "func", member))
            function = member.fget if isinstance(member, property) else wrapped
            if not word.startswith("_") and inspect.isfunction(function) and function.__doc__:
                called = inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod))
                arguments = signature(getattr(item, word)) if called else ""
                about = " ".join(escaped(prose(function.__doc__)).split())
                lines.append(f"- `.{word}{arguments.replace('(self, ', '(').replace('(self)', '()')}`: {about}")
        lines.append("")
    return "\n".join(lines)


def api() -> str:
    """The public functions and classes, from their docstrings."""
    parts = []
    for module, names in PUBLIC.items():
        found = importlib.import_module(module)
        mine = [name for name, item in vars(found).items() if getattr(item, "__module__", "") == module and inspect.isroutine(item)]
        chosen = names or [name for name in getattr(found, "__all__", mine) if not name.startswith("_")]
        parts.append(f"### {module}\n\n{escaped(prose(found.__doc__).partition(chr(10))[0])}\n")
        parts += [entry(module, name, item) for name in chosen if inspect.isroutine(item := getattr(found, name)) or inspect.isclass(item)]
    return "\n".join(parts)


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


def in_short() -> str:
    """The README's table: of the main report every student at 2 steps, and the teacher's own samplers."""
    record = read_record(ROOT / "reports" / "pocket-main")
    header, rule, *rows = results(record).splitlines()
    students = {cell.method for cell in record.cells if cell.steps == 2}
    kept = []
    for row in rows:
        method, steps = (field.strip() for field in row.split("|")[1:3])
        if (steps == "2" or method not in students) and "@student=" not in method:  # second trainings are left to the report
            kept.append(row)
    return "\n".join([header.replace(" pocket features", ""), rule, *kept]) + "\n"


TOGETHER = ("pocket-main", "pocket-scott-1", "pocket-continuous")
"""Published reports of one setting, whose claims are judged together: another training of SCott, and the students that came later."""


@functools.cache
def judged() -> list[dict[str, Any]]:
    """The claims that all runs of TOGETHER can test, as `scottbench claims RUN RUN` judges them."""
    brought = [registered.noun for registered in load_plugins().nouns["claim"].values()]
    measured = [one for name in TOGETHER for one in read_measured(ROOT / "reports" / name)]
    return judge(brought, measured)


FINDINGS = ("beats-cd", "headline-instaflow", "more-diverse")
"""Claims that the README tells as findings."""


def findings() -> str:
    """Three claims of the main report in a sentence each, with the evidence that decides, over all trainings."""
    claims_by_name = {claim["name"]: claim for claim in judged()}
    lines = []
    for name in FINDINGS:
        claim = claims_by_name[name]
        # second trainings are counted behind it, and the table above says whose features these are
        text = claim["evidence"][0]["text"]
        evidence = re.sub(r" \([^()]*chance[^()]*\)|, N = [\d,]+| and \S+@student=[^\s:]+| \(pocket features\)", "", text)
        lines.append(f"- *{claim['statement']}*: **{claim['verdict']}**. {evidence}.")
    return "\n".join(lines) + "\n"


def verdicts(found: list[dict[str, Any]]) -> str:
    """The claims that could be tested, each with its evidence."""
    rows = []
    for claim in (one for one in found if one["verdict"] != "not testable here"):
        evidence = [one["text"] for one in claim["evidence"]]
        evidence += [part for part in claim["reason"].split("; ") if part.startswith(OTHERS)]
        rows.append([f"`{claim['name']}`", claim["statement"], f"**{claim['verdict']}**", "; ".join(evidence)])
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
    # those of TOGETHER stand in one table above
    tested = "" if folder.name in TOGETHER else verdicts(record.claims)
    return (
        f"### [{folder.name}]({folder.name}/report/index.html)\n\n`{manifest['command']}`\n\nN = {record.cells[0].n:,} prompts a row, "
        f"seed {seeds}; plan `{manifest['plan_hash'][:12]}`; {duration(manifest['wall_seconds'])} on {machine}.\n\n"
        f"{results(record)}\n{tested}{trained}"
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
    together = ", ".join(f"`{name}`" for name in TOGETHER)
    line = " ".join(f"reports/{name}" for name in TOGETHER)
    claimed = f"### Claims over all trainings\n\n{together} judged together, `scottbench claims {line}`:\n\n{verdicts(judged())}"
    return "\n".join([claimed, *(one_report(folder) for folder in published())])


def headline() -> str:
    """Results of the main report and of those beside it, and the verdicts over all.

    The recorded teacher of those beside it is the main report's and left out; what is best among their own rows bears no mark.
    """
    first, *others = (read_record(ROOT / "reports" / name) for name in TOGETHER)
    rows = [row.replace("**", "") for record in others for row in results(record).splitlines()[2 : 2 + len(record.cells)]]
    return "\n".join([*results(first).splitlines(), *rows]) + f"\n\n{verdicts(judged())}"


PARTS: dict[str, Callable[[], str]] = {
    "hooks": hooks, "stable": stable, "exit_codes": exit_codes, "verbs": verbs, "bundled": bundled,
    "flags": flags, "schemas": schemas, "api": api, "in_short": in_short, "findings": findings, "reports": reports, "headline": headline,
    "code": code, **{f"made_{kind}": functools.partial(made, kind) for kind in MADE},
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
