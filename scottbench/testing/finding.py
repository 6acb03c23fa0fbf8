"""One line of `scottbench plugin check`: a check, how it ended, where in the plug-in's files, and what mends it."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scottbench.errors import MissingAsset, ScottbenchError
from scottbench.registry.guard import cause_of, is_ours
from scottbench.testing.where import Code
from scottbench.text import in_one_line

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins

OK, WARN, FAIL = "ok", "warn", "FAIL"


class NotConforming(ScottbenchError):
    """A plug-in breaks a rule: the message says what was found, what is allowed and what to do. Exit code 1.

    found, fix: the two halves of the message. at: the function, class, name of a field or "file:line" that it is about.
    """

    def __init__(self, found: str, fix: str = "", at: Any = None) -> None:
        super().__init__(f"{found} {fix}".strip())
        self.found, self.fix, self.at = found, fix, at


class Doubt(NotConforming):
    """A rule that cannot be tried here, or advice: a line "warn", by which nothing fails."""


@dataclass(frozen=True)
class Finding:
    """How one check of one noun ended."""

    status: str
    """"ok", "warn" or "FAIL"."""
    subject: str
    """The noun, "method ddim", or "plug-in solvers"."""
    check: str
    """Name of the check, as docs/plugin-check.md lists it."""
    found: str
    """The thing that was seen, in a sentence."""
    where: str = ""
    """"file:line" in the plug-in; "" of a check that is well."""
    fix: str = ""
    """The way to mend it; "" where nothing is to be mended."""
    unforeseen: bool = field(default=False, repr=False)
    """The plug-in raised something, where a rule was looked at."""

    @property
    def line(self) -> str:
        """Write the finding in one line."""
        where = f" ({self.where})" if self.where else ""
        fix = f" Fix: {self.fix}" if self.fix else ""
        return in_one_line(f"{self.status:<4} {self.subject}: {self.check}: {self.found}{where}{fix}")


@dataclass
class Subject:
    """A noun to be checked, and what its checks share."""

    kind: str
    noun: Any
    plugins: Plugins | None = None
    """All that is registered, to resolve names; None where only the noun is at hand."""
    code: Code = field(default_factory=Code)
    """The plug-in's files."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Things that a check may be told: "student" of a method, "cells" of a metric, "spec" of an extractor."""
    seen: dict[str, Any] = field(default_factory=dict)
    """Results that several checks share."""

    @property
    def name(self) -> str:
        """Name the noun as findings do."""
        return f"{self.kind} {self.noun.name}"

    @property
    def who(self) -> str:
        """Name the noun as messages do."""
        return f"{self.kind} '{self.noun.name}'"

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Give what `make` makes, made once a noun."""
        if key not in self.seen:
            self.seen[key] = make()
        return self.seen[key]


@dataclass(frozen=True)
class Check:
    """One rule."""

    name: str
    run: Callable[[Any], str]
    """(Subject) -> what was seen, where the rule is kept. Raises NotConforming where it is broken, Doubt where it cannot be tried."""
    full: bool = False
    """Left out by --fast."""


def found_by(check: Check, subject: Any) -> Finding:
    """Run one check of a subject; whatever the plug-in raises becomes a line."""
    name = subject.name
    try:
        with quiet():
            return Finding(OK, name, check.name, in_one_line(check.run(subject)))
    except NotConforming as error:
        status = WARN if isinstance(error, Doubt) else FAIL
        return Finding(
            status, name, check.name, in_one_line(error.found), subject.code.place(error.at, subject.noun), in_one_line(error.fix)
        )
    except MissingAsset as error:
        return Finding(
            WARN,
            name,
            check.name,
            f"not tried, for files are missing here: {in_one_line(error)}",
            subject.code.place(None, subject.noun),
            "fetch the files, then check again.",
        )
    except BaseException as error:  # a plug-in may raise anything
        if is_ours(error) and not isinstance(error, ScottbenchError):
            raise
        cause = cause_of(error)
        where = subject.code.place_of_error(cause) or subject.code.place(None, subject.noun)
        kind = "" if isinstance(cause, ScottbenchError) else f"{type(cause).__name__}: "
        return Finding(FAIL, name, check.name, f"it failed: {kind}{in_one_line(cause)[:300]}", where, "mend that line.", unforeseen=True)


def follows(finding: Finding, earlier: Iterable[Finding]) -> Finding:
    """Return a finding as it is; or, where the check fell over what an earlier one of the same noun has found, as a warning that says so:
    one cause is one FAIL."""
    failed = [one for one in earlier if one.status == FAIL and one.subject == finding.subject]
    same = lambda one: (one.where, one.found) == (finding.where, finding.found)  # noqa: E731
    first = next((one for one in failed if same(one) or (finding.unforeseen and not one.unforeseen)), None)
    if finding.status != FAIL or first is None:
        return finding
    return replace(finding, status=WARN, found=f"not tried: it falls over what '{first.check}' found.", fix="mend that first.")


def raise_first(checks: Iterable[Check], subject: Any) -> None:
    """Run checks and let the first broken rule be raised. Raises NotConforming, or whatever the plug-in does."""
    for check in checks:
        with quiet(), contextlib.suppress(Doubt):
            check.run(subject)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings away, since made data are too small for comfort, and prints of a plug-in out of what is printed here."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
