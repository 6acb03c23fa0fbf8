"""Which picture shows which concept: icon names to code points to Unicode CLDR short names."""

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Family:
    """One icon set: `id` starts the image ids, `style` starts the captions, `package` is the npm package."""

    id: str
    style: str
    package: str
    version: str


FAMILIES = (
    Family("noto", "noto", "@iconify-json/noto", "1.2.9"),
    Family("twemoji", "twemoji", "@iconify-json/twemoji", "1.2.5"),
    Family("fluent-flat", "fluent flat", "@iconify-json/fluent-emoji-flat", "1.2.6"),
    Family("fluent", "fluent", "@iconify-json/fluent-emoji", "1.2.7"),
    Family("emojione", "emojione", "@iconify-json/emojione", "1.2.3"),
    Family("noto-v1", "noto classic", "@iconify-json/noto-v1", "1.2.5"),
)
CLDR_PACKAGE = ("emojibase-data", "17.0.0")

# Families whose chars.json is filled; fluent (3D) names its icons as fluent flat does.
_WITH_CHARS = ("noto", "twemoji", "fluent-flat")
# CLDR renamed this one (release 42) before any package here was made, so no alias tells.
_OLD_NAMES = {"dizzy face": "1f635"}


def folder(npm: Path, package: str) -> Path:
    """The unpacked folder of an npm package: `<npm>/<last part of the package name>`."""
    return npm / package.rsplit("/", 1)[-1]


def load(npm: Path, family: Family, name: str) -> dict:
    """One json file of a family's npm package."""
    return json.loads((folder(npm, family.package) / name).read_text(encoding="utf-8"))


def plain(text: str) -> str:
    """Lower-case ASCII letters, digits and single spaces: "flag: Côte d’Ivoire" -> "flag cote divoire".

    `#` and `*` become words, or the two keycaps would share one name.
    """
    text = text.replace("#", " hash ").replace("*", " asterisk ").replace("&", " and ")
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return " ".join(re.findall("[a-z0-9]+", text.replace("'", "").replace(".", "")))


def code(sequence: str) -> str:
    """A code point sequence in lower-case hex joined by `-`, without the variation selector FE0F."""
    return "-".join(part for part in sequence.lower().split("-") if part != "fe0f")


def concepts(npm: Path) -> dict[str, str]:
    """Code point sequence -> concept, from the CLDR short names in emojibase-data (skin tones included)."""
    found = {}

    def walk(entry: dict) -> None:
        found[code(entry["hexcode"])] = plain(entry["label"])
        for skin in entry.get("skins", ()):
            walk(skin)

    for entry in json.loads((folder(npm, CLDR_PACKAGE[0]) / "en" / "data.json").read_text(encoding="utf-8")):
        walk(entry)
    assert len(set(found.values())) == len(found), "two code point sequences share a concept"
    return found


def names(npm: Path, concept_of: dict[str, str]) -> dict[str, str]:
    """Plain icon name -> code point sequence: CLDR names first, then icon names, then their older aliases."""
    found = {concept: sequence for sequence, concept in concept_of.items()} | _OLD_NAMES
    for family in (f for f in FAMILIES if f.id in _WITH_CHARS):
        by_icon = _by_icon(npm, family)
        for icon, sequence in by_icon.items():
            if sequence in concept_of:
                found.setdefault(plain(icon), sequence)
        for alias, entry in load(npm, family, "icons.json").get("aliases", {}).items():
            sequence = by_icon.get(entry["parent"])
            if sequence in concept_of and set(entry) == {"parent"}:
                found.setdefault(plain(alias), sequence)
    return found


def _by_icon(npm: Path, family: Family) -> dict[str, str]:
    return {icon: code(sequence) for sequence, icon in load(npm, family, "chars.json").items()}


def _words(icon: str) -> str:
    return plain(re.sub("^flag-for-(flag-)?", "flag-", icon))


def match(npm: Path, family: Family, concept_of: dict[str, str], by_name: dict[str, str]) -> tuple[dict, list]:
    """Code point sequence -> icon name for one family, and the names of icons that no rule maps.

    Rules in order: chars.json; the icon's name; the name of one of its aliases. Where two icons claim one
    sequence the earlier rule wins, then the alphabetically first icon; the others are listed as unmapped.
    Hidden icons (superseded names kept by the icon set) do not take part.
    """
    data = load(npm, family, "icons.json")
    chars_of = next(f for f in FAMILIES if f.id == "fluent-flat") if family.id == "fluent" else family
    by_icon = _by_icon(npm, chars_of)
    aliases: dict[str, list[str]] = {}
    for alias, entry in data.get("aliases", {}).items():
        if set(entry) == {"parent"}:
            aliases.setdefault(entry["parent"], []).append(alias)
    visible = sorted(icon for icon, entry in data["icons"].items() if not entry.get("hidden"))
    rules = (
        lambda icon: [by_icon[icon]] if icon in by_icon else [],
        lambda icon: [] if icon in by_icon else [by_name.get(_words(icon))],
        lambda icon: [by_name.get(_words(alias)) for alias in sorted(aliases.get(icon, ()))],
    )
    taken: dict[str, str] = {}
    mapped: set[str] = set()
    for rule in rules:
        for icon in visible:
            for sequence in rule(icon):
                if icon not in mapped and sequence in concept_of and sequence not in taken:
                    taken[sequence] = icon
                    mapped.add(icon)
    return taken, [icon for icon in visible if icon not in mapped]
