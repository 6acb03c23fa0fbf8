"""Checks of every noun: its fields, functions given by name, options, names of other nouns, docstrings."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from scottbench.errors import UsageError
from scottbench.registry.fits import misfit
from scottbench.registry.guard import Guarded, PluginFailed, cause_of
from scottbench.registry.lazy import lazy
from scottbench.registry.loader import Plugins
from scottbench.registry.nouns import NoOptions
from scottbench.registry.options import make_options, options_of
from scottbench.testing.finding import Check, Doubt, NotConforming, Subject
from scottbench.testing.where import plain
from scottbench.text import did_you_mean, one_line

UNKNOWN = "no-such-option"
ROLES = ("image", "clip")
"""Roles of extractors that presets usually have."""


def checked_options(who: str, options: type, given: dict[str, str] | None = None) -> Any:
    """Make the default options, after a look at their class: a frozen dataclass whose defaults are written as text and read as the same,
    and that takes no other key. given: values of options that have no default. Raises NotConforming, or Doubt where one has none."""
    values = {} if given is None else given
    if not dataclasses.is_dataclass(options) or not getattr(options, "__dataclass_params__").frozen:  # noqa: B009
        raise NotConforming(
            f"{who}: options is {one_line(options)}.", "It must be a frozen dataclass: write @dataclass(frozen=True).", options
        )
    needed = [option.name for option in options_of(options) if option.required and option.name not in values]
    if needed:
        raise Doubt(
            f"{who}: option '{needed[0]}' has no default, so its options are not tried.",
            "Nothing, if there is no value that would do; a default is kinder.",
            options,
        )
    try:
        made = make_options(options, values, who)
        # an option that is None is written by leaving it out: "none" may be the name of a file
        shown = {option.name: str(value) for option in options_of(options) if (value := getattr(made, option.name)) is not None}
        again = make_options(options, shown, who)
    except (UsageError, TypeError) as error:
        raise NotConforming(
            f"{who}: its options cannot be made from their defaults ({error}).",
            "Every field needs a default that is a value of its type: int, float, bool, str, Literal, or one of them | None.",
            options,
        ) from None
    if again != made:
        raise NotConforming(
            f"{who}: its options {made} are read back as {again}.", "Written as text and read again they must be equal.", options
        )
    try:
        options(**{UNKNOWN: 1})
    except TypeError:
        return made
    raise NotConforming(f"{who}: its options take the unknown key '{UNKNOWN}'.", "Let the dataclass make __init__.", options)


def made_options(subject: Subject) -> Any:
    """Make a noun's default options, once. Raises NotConforming where they break a rule."""
    return subject.once("options", lambda: checked_options(subject.who, subject.noun.options))


def everything(subject: Subject) -> Plugins:
    """Return all plug-ins. Raises Doubt where only the noun is at hand."""
    if subject.plugins is None:
        raise Doubt(f"{subject.who}: nothing else is registered here.", "Check the whole package: scottbench plugin check DIR.")
    return subject.plugins


def check_named(subject: Subject, kind: str, name: str, mend: str, at: str) -> None:
    """Look up a name, or PACKAGE/NAME, that a noun gives. mend: the first word of the fix; at: its place. Raises NotConforming for one
    that nobody registers."""
    plugins = everything(subject)
    if plugins.named(kind, name) is None:
        raise NotConforming(
            f"{subject.who} names {kind} '{one_line(name)}', which nobody registers.{did_you_mean(name, plugins.nouns[kind])}",
            f"{mend}: scottbench list {kind}s. Of a package that is not installed, give its --plugin-path too.",
            at,
        )


def check_fields(subject: Subject) -> str:
    """Every field has a value of its annotated type. Raises NotConforming."""
    wrong = misfit(subject.noun)
    if wrong is not None:
        raise NotConforming(f"{subject.who}: {wrong}.", "Correct the field.", wrong.partition("'")[2].partition("'")[0])
    if not subject.noun.summary.strip():
        raise NotConforming(f"{subject.who}: its summary is empty.", "Say in a line what it is: scottbench list shows it.", "summary")
    return "every field has a value of its type"


def check_functions(subject: Subject) -> str:
    """Functions given by name can be imported. Raises NotConforming."""
    names = []
    for item in dataclasses.fields(subject.noun):
        value = getattr(subject.noun, item.name)
        behind = value.function if isinstance(value, Guarded) else value
        if not isinstance(value, Guarded) and not isinstance(value, lazy):
            continue
        names.append(item.name)
        try:
            value.resolve()
        except (PluginFailed, ImportError, AttributeError) as error:
            cause = cause_of(error)
            raise NotConforming(
                f"{subject.who}: {item.name} is {behind!r}, which cannot be imported ({one_line(cause)}).",
                "Correct the name, or the module that it is in.",
                subject.code.place_of_error(cause) or subject.code._in_source(subject.noun, item.name),
            ) from None
    return f"{', '.join(names)} can be imported" if names else "no function is given by name"


def check_options(subject: Subject) -> str:
    """Options are read as they are written, and nothing else is read. Raises NotConforming."""
    place = getattr(subject.noun, "path_option", "")
    made = checked_options(subject.who, subject.noun.options, {place: "."} if place else None)
    names = list(vars(made)) if subject.noun.options is not NoOptions else []
    return f"{', '.join(names)}: read as written, and no other key" if names else "there are none, and none is read"


def check_docstrings(subject: Subject) -> str:
    """Functions and options say what they are. Raises Doubt."""
    for item in dataclasses.fields(subject.noun):
        function = plain(getattr(subject.noun, item.name))
        inside = function is not None and subject.code.holds(getattr(getattr(function, "__code__", None), "co_filename", ""))
        if inside and getattr(function, "__name__", "") != "<lambda>" and not inspect.getdoc(function):
            raise Doubt(
                f"{subject.who}: {item.name} has no docstring.", "Say in a sentence what goes in and what comes out, with shapes.", function
            )
    options = getattr(subject.noun, "options", NoOptions)
    bare = [option.name for option in options_of(options) if not option.doc] if dataclasses.is_dataclass(options) else []
    if bare:
        raise Doubt(
            f"{subject.who}: option '{bare[0]}' has no text under it.", f"Write one: scottbench show {subject.name} prints it.", options
        )
    return "functions and options say what they are"


def check_names(subject: Subject) -> str:
    """The names of other nouns are registered: the trainer of a method, the roles of a metric. Raises NotConforming, or Doubt where
    only the noun is at hand."""
    plugins, noun = everything(subject), subject.noun
    named: list[tuple[str, str, str]] = []
    if subject.kind == "method" and noun.trainer not in (None, "plain"):
        named.append(("trainer", noun.trainer, "trainer"))
    if subject.kind == "metric":
        in_presets = {role for found in plugins.nouns["preset"].values() for role in getattr(found.noun, "extractors", {})}
        named += [("extractor", role, "features") for role in noun.roles if role not in in_presets | set(ROLES)]
    for kind, name, at in named:
        check_named(subject, kind, name, "Register it, or correct the name", at)
    return f"{', '.join(f'{kind} {name}' for kind, name, _ in named)}: registered" if named else "it names nothing else"


COMMON_CHECKS = (
    Check("fields", check_fields),
    Check("functions", check_functions),
    Check("names", check_names),
    Check("docstrings", check_docstrings),
)
"""The checks of every noun that is made in Python."""
OPTIONS = Check("options", check_options)
