"""scottbench doctor: does this machine run the benchmark, and what mends it where it does not?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scottbench import DEFAULT_PRESET

if TYPE_CHECKING:
    from scottbench.run.finding import Finding

WORDS = {"ok": "ok", "warning": "note", "problem": "WRONG", "skipped": "-"}
WIDTH, INDENT = 80, 20
"""Columns of a line, and where the words begin."""


@click.command(short_help="Check this machine and installation; every finding comes with its fix.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check Python, torch, devices, threads, memory, disk, cache, plug-ins and assets, and make a few images twice to compare their bytes.

    Nothing is written and no socket is opened. Exit code 0: the default run works here, notes or not; 1: something is wrong.
    """
    from scottbench.cli.printing import print_json
    from scottbench.run.doctor import examined
    from scottbench.text import count

    findings = []
    for finding in examined(DEFAULT_PRESET):
        findings.append(finding)
        if not as_json:
            click.echo(in_lines(finding))
    wrong, notes = (sum(one.status == status for one in findings) for status in ("problem", "warning"))
    if as_json:
        print_json({"schema": "scottbench.doctor/1", "ok": wrong == 0, "findings": [vars(one) for one in findings]})
    elif wrong:
        click.echo(f"\n{count(wrong, 'thing')} to mend, marked WRONG.")
    else:
        also = f", with {count(notes, 'note')}" if notes else ""
        click.echo(f"\nAll well{also}. Next: scottbench run -n 256")
    if wrong:
        context.exit(1)


def in_lines(finding: Finding) -> str:
    """A finding as lines of at most 80 columns: mark, check, sentence; and its fix below."""
    from scottbench.text import folded, printable

    lines = [(f"{WORDS[finding.status]:<6}{finding.check}", finding.found), *([("", f"fix: {finding.fix}")] if finding.fix else [])]
    return "\n".join(folded(first.ljust(INDENT) + printable(text), WIDTH, " " * INDENT) for first, text in lines)
