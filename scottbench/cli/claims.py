"""scottbench claims RUN...: what papers say, held against what was measured."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

INDENT = " " * 11


@click.command(short_help="Hold the claims of papers against a run (or several).")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--claim", "names", multiple=True, metavar="NAME", help="This claim alone; again for more.")
@click.option("--gate", is_flag=True, help="Exit 6 unless a claim can be tested here and all such hold.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@click.option("--write", is_flag=True, help="Put the verdicts into RUN, one alone, and make its report again: a run has those of its own "
              "day, and plug-ins bring claims that came later.")  # fmt: skip
def claims(runs: tuple[Path, ...], names: tuple[str, ...], gate: bool, as_json: bool, write: bool) -> None:
    """Judge every claim that the plug-ins bring, or those that you name, against one or more runs: reproduced, direction holds,
    inconclusive, contradicted, or not testable here, with the paired differences behind it.

    \b
    scottbench claims runs/...
    scottbench claims runs/a runs/b     an ablation: two runs with students of one trainer, or more trainings of one recipe
    \f
    Raises GateNotMet with --gate where a claim fails or none can be tested, UsageError for a claim that nobody brings, and with --write for
    several runs or single claims.
    """
    from scottbench.cli.printing import print_json
    from scottbench.cli.running import all_plugins
    from scottbench.errors import GateNotMet, UsageError
    from scottbench.run.claims import judge_again
    from scottbench.stats.measured import read_measured
    from scottbench.stats.verdicts import CONTRADICTED, OPEN, UNTESTED, judge
    from scottbench.store.runs import find_run

    if write and (len(runs) > 1 or names):
        raise UsageError("--write puts all verdicts into one run: name one RUN, and no --claim.")
    plugins, runs = all_plugins(), tuple(find_run(str(run)) for run in runs)
    if write:
        found = judge_again(runs[0], plugins)
    else:
        brought = plugins.nouns["claim"].values() if not names else [plugins.find("claim", name) for name in dict.fromkeys(names)]
        found = judge([registered.noun for registered in brought], [one for run in runs for one in read_measured(run)])
    tested = [claim for claim in found if claim["verdict"] != UNTESTED]
    failed = [claim["name"] for claim in tested if claim["verdict"] in (CONTRADICTED, OPEN)]
    if as_json:
        print_json({"runs": [str(run) for run in runs], "claims": found, "gate": bool(tested) and not failed})
    else:
        print_claims(found)
    if write:
        _tell(runs[0])
    if gate and (failed or not tested):
        why = f"{', '.join(failed)} {'does' if len(failed) == 1 else 'do'} not hold" if failed else "no claim can be tested here"
        raise GateNotMet(f"gate not met: {why}.")


def _tell(run: Path) -> None:
    """Say what was written into a run, and what is left to do in a folder that was exported."""
    from scottbench.cli.printing import note
    from scottbench.store.reader import CLAIMS
    from scottbench.store.sums import SUMS

    note(f"written: {run / CLAIMS}, {run / 'report' / 'index.html'}")
    if (run / SUMS).is_file():
        place = shlex.quote(str(run))
        note(f"its tables and {SUMS} are those of before. Write them again: scottbench export {place} -o {place}")


def print_claims(found: list[dict[str, Any]]) -> None:
    """Print each judged claim with its verdict, evidence and the paper's own numbers."""
    from collections import Counter

    from scottbench.cli.printing import say
    from scottbench.text import one_line

    for claim in found:
        say(one_line(f"{claim['verdict'].upper()}  {claim['name']}: {claim['statement']}"), "    ")
        say(f"    {one_line(claim['paper'])}, {one_line(claim['version'])}, {one_line(claim['locator'])}", "    ")
        for evidence in claim["evidence"]:
            say(f"    here   {one_line(evidence['text'])}: {evidence['verdict']}", INDENT)
        for quoted in claim["quoted"]:
            say(f"    paper  {one_line(quoted_text(quoted))}", INDENT)
        if claim["reason"]:
            say(f"    why    {one_line(claim['reason'])}", INDENT)
        for line in claim["to_test"]:
            say(f"    test   {one_line(line)}", INDENT)
        print()
    counts = Counter(claim["verdict"] for claim in found)
    say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) if found else "no plug-in brings a claim")
    say("Intervals: 95 %, paired over shared prompts and seeds; each p is of its one test. They cover trainings where a side has several "
        "of one recipe, and say so; else prompts and sampling noise alone.")


def quoted_text(quoted: dict[str, Any]) -> str:
    """A paper's comparison in one line: "fid 21.9 against 23.4 (x@2, y@1; MSCOCO-2017, N = 5,000; abstract; confidence A)"."""
    return (
        f"{quoted['metric']} {quoted['better']:g} against {quoted['worse']:g} ({quoted['better_cell']}, {quoted['worse_cell']}; "
        f"{quoted['dataset']}, N = {quoted['n']:,}; {quoted['source']}; confidence {quoted['confidence']})"
    )
