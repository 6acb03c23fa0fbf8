"""The documentation as a site: Sphinx over the repository's own Markdown files, with no second copy of any page.

    sphinx-build -W --keep-going -c docs . build/site         what `tox -e docs` runs

The source folder is the repository, so that a link works on a code host, in an editor and on the site. Pages are grouped by `GROUPS`, whose
patterns find new files by themselves. Links to files that are no page go to the repository's address.
"""

from __future__ import annotations

import fnmatch
import os
import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "https://github.com/scottbench/scottbench/blob/main/"

project = "scottbench"
author = "scottbench contributors"
copyright = "scottbench contributors"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = [
    "*.md", "docs/**/*.md", "docs/*.md", "plugins/README.md", "plugins/*/README.md", "reports/README.md", "tests/*/README.md"]  # fmt: skip
exclude_patterns = [".*", "**/.*", "build", "dist", "runs", "students", "**/build", "tests/third_party"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions: list[str] = []
nitpicky = True
highlight_language = "none"
html_theme = "furo"
html_title = "scottbench"
html_show_sphinx = False
html_extra_path: list[str] = []

GROUPS = {
    "Tutorial": ["docs/README", "docs/tutorial/first-run", "docs/tutorial/own-student", "docs/tutorial/own-method", "docs/tutorial/*"],
    "How to": ["docs/howto/*", "docs/own-prompts", "docs/pictures", "docs/published-students", "docs/gpu-*", "docs/*complet*",
               "docs/plugin-*", "docs/figures*", "docs/leaderboard*", "docs/report*"],
    "Reference": ["docs/reference/*", "docs/extractors", "docs/metrics-more", "plugins/README", "plugins/*/README"],
    "Explanation": ["docs/explanation/*", "docs/evaluation", "docs/methods", "docs/architecture", "docs/decisions/*", "tests/*/README"],
    "Measured": ["docs/measured", "reports/README"],
    "More": ["docs/*", "CONTRIBUTING", "CHANGELOG", "SECURITY"],
}
"""Heading of the navigation -> patterns of its pages, in order; a page stands where it is named first. Every page below docs/ is found."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def navigation(pages: set[str]) -> str:
    """The navigation as hidden tables of contents."""
    left, parts = set(pages) - {root_doc}, []
    for heading, patterns in GROUPS.items():
        found: list[str] = []
        for pattern in patterns:
            found += sorted(page for page in left - set(found) if fnmatch.fnmatch(page, pattern))
        left -= set(found)
        if found:
            listed = "\n".join(f"/{page}" for page in found)
            parts.append(f"```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{listed}\n```\n")
    return "\n".join(parts)


def link(match: re.Match[str], page: str, pages: set[str]) -> str:
    """A link to a file that is no page, as one that works on the site: a report's page beside it, all else at the repository's address."""
    image, text, target = match.groups()
    name, mark, anchor = target.partition("#")
    path = os.path.normpath(os.path.join(os.path.dirname(page), name))
    if image or path.removesuffix(".md") in pages:
        return match[0]
    if f"{path}/README" in pages:
        return f"[{text}]({name.rstrip('/')}/README.md{mark}{anchor})"
    if fnmatch.fnmatch(path, "reports/*/report/index.html"):
        return f'<a href="{escape(target)}">{text}</a>'
    return f"[{text}]({SOURCE}{path}{mark}{anchor})"


def read(app, page: str, content: list[str]) -> None:
    """Mend a page's links, and give the first page the navigation."""
    pages = set(app.env.found_docs)
    parts = FENCE.split(content[0])
    parts[::2] = [LINK.sub(lambda match: link(match, page, pages), part) for part in parts[::2]]
    content[0] = "".join(parts) + (f"\n\n{navigation(pages)}" if page == root_doc else "")


def finish(app, error) -> None:
    """Put the reports' pages and the entry beside the built pages, then look for links to files that are not there."""
    if error is not None or app.builder.name != "html":
        return
    from sphinx.util import logging

    log, out = logging.getLogger(__name__), Path(app.outdir)
    for path in ROOT.glob("reports/*/report/index.html"):
        copy = out / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (out / "index.html").write_text('<!doctype html><meta charset="utf-8"><title>scottbench</title>'
                                    f'<meta http-equiv="refresh" content="0; url={root_doc}.html">', encoding="utf-8")  # fmt: skip
    for page in app.env.found_docs:
        built = out / f"{page}.html"
        for target in set(re.findall(r'(?:href|src)="([^"#?]+)', built.read_text(encoding="utf-8"))):
            if "://" not in target and not target.startswith(("mailto:", "data:")) and not (built.parent / target).exists():
                log.warning("%s: dead link to %s", page, target)


def setup(app) -> dict[str, bool]:
    """Connect the two steps to the build."""
    app.connect("source-read", read)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
