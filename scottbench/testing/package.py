"""All checks of a plug-in, kind by kind: what `scottbench plugin check` prints, and what `checks` gives to pytest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scottbench.registry.loader import Plugin, Plugins
from scottbench.testing.choices import METHOD_CHOICES, TRAINER_CHOICES
from scottbench.testing.common import COMMON_CHECKS, OPTIONS
from scottbench.testing.dataset import DATASET_CHECKS
from scottbench.testing.extractor import EXTRACTOR_CHECKS
from scottbench.testing.finding import FAIL, OK, WARN, Check, Doubt, Finding, NotConforming, Subject, follows, found_by, quiet
from scottbench.testing.isolated import PLUGIN_CHECKS, PluginSubject
from scottbench.testing.method import METHOD_CHECKS
from scottbench.testing.metric import METRIC_CHECKS
from scottbench.testing.names import CLAIM_CHECKS, PRESET_CHECKS
from scottbench.testing.sources import as_plugins, loaded
from scottbench.testing.trainer import TRAINER_CHECKS
from scottbench.testing.where import Code

BY_KIND: dict[str, tuple[Check, ...]] = {
    "method": (*COMMON_CHECKS, *METHOD_CHECKS, METHOD_CHOICES),
    "trainer": (*COMMON_CHECKS, OPTIONS, *TRAINER_CHECKS, TRAINER_CHOICES),
    "metric": (*COMMON_CHECKS, *METRIC_CHECKS),
    "extractor": (*COMMON_CHECKS, *EXTRACTOR_CHECKS),
    "dataset": (*COMMON_CHECKS, OPTIONS, *DATASET_CHECKS),
    "model": COMMON_CHECKS,
    "preset": PRESET_CHECKS,
    "claim": CLAIM_CHECKS,
}
"""Kind of noun -> its checks."""


@dataclass(frozen=True)
class Bound:
    """One check of one noun: call it, and it raises where a rule is broken."""

    check: Check
    subject: Any

    @property
    def __name__(self) -> str:
        return f"{self.subject.name}: {self.check.name}"

    def __call__(self) -> None:
        with quiet():
            try:
                self.check.run(self.subject)
            except Doubt as doubt:
                note(str(doubt))

    def find(self) -> Finding:
        """Run the check and say how it ended; nothing is raised."""
        with one_thread():
            return found_by(self.check, self.subject)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread: several would wait for each other at every layer of networks as small as these."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def note(text: str) -> None:
    """Warn of what could not be tried."""
    import warnings

    from scottbench.errors import ScottbenchWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(ScottbenchWarning(text), stacklevel=3)


def checks(source: Any, full: bool = True, older: Path | None = None) -> list[Bound]:
    """List the checks of a plug-in, to parametrize a test with:

        @pytest.mark.parametrize("check", checks("my_package"))
        def test_it_conforms(check):
            check()

    source: a plug-in's name, module name or package, a folder or file, a module, or a list of nouns. full: those that take seconds too.
    older: a folder or wheel of an older version, to compare the code with. Raises UsageError for what is no plug-in.
    """
    if isinstance(source, (str, Path)):
        plugins, mine = loaded(str(source))
    else:
        plugins = as_plugins(source)
        mine = [plugins.plugins[-1]] if not isinstance(source, Plugins) else plugins.plugins
        mine = [plugin for plugin in mine if plugin.distribution != "scottbench"]
    return [bound for plugin in mine for bound in of_plugin(plugins, plugin, full, older)]


def of_plugin(plugins: Plugins, plugin: Plugin, full: bool, older: Path | None = None) -> Iterator[Bound]:
    """Yield the checks of one plug-in: of itself, then of each noun that it registers."""
    whole = PluginSubject(plugin, plugins, older)
    for check in PLUGIN_CHECKS:
        if full or not check.full:
            yield Bound(check, whole)
    for kind, names in plugins.nouns.items():
        for found in names.values():
            if found.plugin != plugin.name or plugin.broken:
                continue
            code = Code(whole.folder, found.file if kind in ("preset", "claim") else whole.file)
            subject = Subject(kind, found.noun, plugins, code)
            for check in BY_KIND[kind]:
                if full or not check.full:
                    yield Bound(check, subject)


def check_plugin(source: Any, full: bool = True, tell: Callable[[Finding], None] | None = None, older: Path | None = None) -> list[Finding]:
    """Run all checks of a plug-in and return how each ended. tell: called with each finding as it comes. Arguments else as of `checks`.

    After a check that fails, those of the same noun go on. Raises UsageError for what is no plug-in.
    """
    findings: list[Finding] = []
    told: set[tuple[str, str]] = set()
    for bound in checks(source, full, older):
        finding = follows(bound.find(), findings)
        if finding.status == WARN and (finding.subject, finding.found) in told:
            continue  # files that are missing are told once a noun
        told.add((finding.subject, finding.found))
        findings.append(finding)
        if tell is not None:
            tell(finding)
    return findings


def counted(findings: list[Finding]) -> dict[str, int]:
    """Count findings by how they ended: {"ok": 31, "warn": 1, "FAIL": 0}."""
    return {status: sum(one.status == status for one in findings) for status in (OK, WARN, FAIL)}


__all__ = ["BY_KIND", "Bound", "NotConforming", "check_plugin", "checks", "counted"]
