"""scottbench plugin check NAME|DIR: does a plug-in keep the rules? One line a check, with the place and the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from scottbench.testing.finding import Finding

WORDS = {"ok": "ok  ", "warn": "warn", "FAIL": "FAIL"}
WIDTH, INDENT = 110, 5
"""Columns of a line, and where the place and the fix begin."""


@click.command("check", short_help="Does a plug-in keep the rules? One line a check, with place and fix.")
@click.argument("source", metavar="NAME|DIR")
@click.option(
    "--fast/--full", "fast", default=True, help="--full: also what takes longer, such as a trainer on a made GPU. Default: --fast."
)
@click.option("--against", metavar="WHEEL|FOLDER", help="An older version, to compare the code with. Default: the installed one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
@click.pass_context
def check_plugin(context: click.Context, source: str, fast: bool, against: str | None, as_json: bool) -> None:
    """Check a plug-in by its NAME, or the folder or file that it lies in: its import in another process, fields, options and names; methods
    on teachers in closed form, metrics on made features, trainers in four steps on a tiny teacher; presets and claims by their names.

    Nothing is installed, no socket opened. Exit code 0: every rule is kept; 1: one is broken; 2: there is no such plug-in (UsageError).
    """
    from pathlib import Path

    from scottbench.cli.printing import print_json
    from scottbench.errors import UsageError
    from scottbench.testing.package import check_plugin, counted
    from scottbench.text import count, one_line

    older = None if against is None else Path(against).expanduser()
    if older is not None and not older.exists():
        raise UsageError(f"--against {one_line(against)}: there is no such wheel, folder or file.")
    tell = (lambda finding: None) if as_json else (lambda finding: click.echo(in_lines(finding)))
    findings = check_plugin(source, not fast, tell, older)
    found = counted(findings)
    if as_json:
        document = {"schema": "scottbench.plugin-check/1", "source": source, "ok": not found["FAIL"], "counts": found}
        print_json({**document, "findings": [{key: value for key, value in vars(one).items() if key != "unforeseen"} for one in findings]})
    else:
        further = " More with --full." if fast and not found["FAIL"] else ""
        rest = ", ".join(f"{n} {status}" for status, n in found.items() if n)
        click.echo(f"\n{count(len(findings), 'check')}: {rest}. What each of them claims: docs/plugin-check.md.{further}")
    if found["FAIL"]:
        context.exit(1)


def in_lines(finding: Finding) -> str:
    """A finding in a line; where there is something to mend, its place and fix below."""
    from scottbench.text import folded, printable

    first = f"{WORDS[finding.status]} {finding.subject}: {finding.check}: {finding.found}"
    lines = [first] + ([f"     {finding.where}"] if finding.where else []) + ([f"     fix: {finding.fix}"] if finding.fix else [])
    return "\n".join(folded(printable(line), WIDTH, " " * INDENT) if not line.startswith("     ") else
                     " " * INDENT + folded(printable(line).strip(), WIDTH - INDENT, " " * (INDENT + 5)) for line in lines)  # fmt: skip
