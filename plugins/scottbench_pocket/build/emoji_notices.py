"""The licences Emoji-5K ships with: one text a family and ATTRIBUTION.md."""

from dataclasses import dataclass
from pathlib import Path

_TEXTS = Path(__file__).parent / "licences"
_CHANGED = "rasterised from SVG to 64x64 pixels on white, saved as lossless WebP; not altered otherwise"


@dataclass(frozen=True)
class Notice:
    """Who made a family, under which licence (SPDX name), and where it comes from."""

    family: str
    title: str
    authors: str
    licence: str
    source: str


NOTICES = (
    Notice("noto", "Noto Emoji", "Google Inc.", "Apache-2.0", "https://github.com/googlefonts/noto-emoji"),
    Notice("twemoji", "Twemoji", "Twitter, Inc and other contributors", "CC-BY-4.0", "https://github.com/jdecked/twemoji"),
    Notice("fluent-flat", "Fluent Emoji (flat)", "Microsoft Corporation", "MIT", "https://github.com/microsoft/fluentui-emoji"),
    Notice("fluent", "Fluent Emoji (3D)", "Microsoft Corporation", "MIT", "https://github.com/microsoft/fluentui-emoji"),
    Notice("emojione", "EmojiOne 2", "Emoji One (now JoyPixels) and the Emojitwo contributors", "CC-BY-4.0", "https://github.com/EmojiTwo/emojitwo"),
    Notice("noto-v1", "Noto Emoji (v1)", "Google Inc.", "Apache-2.0", "https://github.com/googlefonts/noto-emoji"),
)  # fmt: skip

_CC_BY = """Creative Commons Attribution 4.0 International (CC BY 4.0)
https://creativecommons.org/licenses/by/4.0/
Legal code: https://creativecommons.org/licenses/by/4.0/legalcode

{line}

The licensor offers the material as-is and gives no warranties.
"""


def attribution_line(notice: Notice) -> str:
    """Title, author, source, licence and changes: what CC BY 4.0 section 3(a) asks for."""
    return f"{notice.title} by {notice.authors}, {notice.source}, licensed under {notice.licence}. Changes: {_CHANGED}."


def licence_text(notice: Notice) -> str:
    """The text of LICENSES/<family>.txt: who, what was changed, and the licence."""
    if notice.licence == "CC-BY-4.0":
        return _CC_BY.format(line=attribution_line(notice))
    text = (_TEXTS / f"{notice.licence}.txt").read_text(encoding="utf-8")
    return f"{attribution_line(notice)}\n\n{text}"


def attribution() -> str:
    """ATTRIBUTION.md, one entry a family."""
    entries = "".join(
        f"\n## {n.family}\n- Title: {n.title}\n- Authors: {n.authors}\n- Source: {n.source}\n"
        f"- Licence: {n.licence} ([text](LICENSES/{n.family}.txt))\n- Changes: {_CHANGED}\n"
        for n in NOTICES
    )
    return (
        "# Emoji-5K: where the pictures come from\n\n"
        "The pictures come from the icon sets below, in the packaging of Iconify (https://iconify.design, `@iconify-json/*`\n"
        "on npm). The captions are Unicode CLDR short names (Unicode License v3, https://www.unicode.org/license.txt) from\n"
        "`emojibase-data` (MIT, https://github.com/milesj/emojibase). No author endorses this data set.\n" + entries
    )


def write(out: Path) -> None:
    """Write ATTRIBUTION.md and LICENSES/<family>.txt into `out`."""
    (out / "LICENSES").mkdir(parents=True, exist_ok=True)
    (out / "ATTRIBUTION.md").write_text(attribution(), encoding="utf-8")
    for notice in NOTICES:
        (out / "LICENSES" / f"{notice.family}.txt").write_text(licence_text(notice), encoding="utf-8")
