"""Documentation that a machine can check: generated parts are up to date, commands are those that CI runs."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from scottbench import __version__
from scottbench.registry.loader import HOOKS, load_plugins
from scottbench.registry.options import options_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")


def script(name: str):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate():
    return script("generate")


def test_the_generated_parts_are_up_to_date(generate):
    """On every page that has one, and on no page that the script does not know."""
    marked = {name for name in PAGES if "\n<!-- generated: " in FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))}
    assert marked == set(generate.FILES)
    stale = [name for name in generate.FILES if generate.rendered(text := (ROOT / name).read_text(encoding="utf-8")) != text]
    assert stale == [], "run: python docs/generate.py"


def test_the_check_sees_a_part_that_is_out_of_date(generate):
    stale = "<!-- generated: exit_codes -->\nold\n<!-- end -->"
    assert "interrupted by Ctrl-C" in generate.rendered(stale)


@pytest.mark.parametrize("kind, name", [
    *(("trainer", name) for name in ("cd", "dmd2", "flash", "instaflow", "pcm", "scott", "ufogen")),
    *(("method", name) for name in ("cd", "pcm", "scott"))])  # fmt: skip
def test_every_option_of_a_distillation_is_in_its_plug_in_s_readme(kind, name):
    """By name, in a table that gives its values and its default."""
    rows = [line for line in (ROOT / f"plugins/scottbench_{name}/README.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    options = options_of(load_plugins().find(kind, name).noun.options)
    assert options
    for option in options:
        assert any(f"`{option.name}`" in row for row in rows), option.name


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_in_the_guide_with_a_text(hook):
    section = re.search(rf"### `{hook}\(.*?\n\n(.+?)\n", GUIDE)
    assert section is not None
    assert len(section[1]) > 20


def test_every_public_field_of_the_guide_says_what_it_means():
    """Name, summary and paper speak for themselves; everything else has a text."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", GUIDE, re.MULTILINE)
    assert len(rows) > 30
    assert {name for name, meaning in rows if not meaning.strip()} <= {"name", "summary", "paper", "licence", "higher_is_better"}


def test_ci_runs_the_test_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert f"\n{command}\n" in README


def test_the_two_commands_of_the_readme_need_only_python_and_pip():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
    assert len(lines) == 2
    assert all(" && " in line for line in lines)


def test_the_readme_is_read_in_three_minutes():
    """600 words of prose: tables, fences, comments and addresses aside."""
    text = re.sub(r"<!--.*?-->|^\|.*?$", "", FENCE.sub("", README), flags=re.MULTILINE | re.DOTALL)
    assert len(re.sub(r"\]\([^)]*\)", "]", text).split()) <= 600
    assert len(README.split()) <= 1100


def test_the_first_output_of_the_readme_is_of_the_command_above_it():
    shown = script("shown")
    (output,) = shown.BLOCK.finditer(README)
    assert f"\n{output[2]}\n" in README[: output.start()]
    assert f"$ {output[2]}\n" in output[0] and "\nreport  runs/" in output[0], "run: python docs/shown.py"


def test_the_picture_of_the_readme_is_of_the_published_report():
    assert script("picture").main(check=True) == 0, "run: python docs/picture.py"
    assert (ROOT / "docs" / "picture.png").stat().st_size < 150_000


def test_a_picture_of_other_numbers_is_seen(monkeypatch):
    picture = script("picture")
    points = picture.points
    monkeypatch.setattr(picture, "points", lambda record: {**points(record), "more": [(1, 1.0, 0.9, 1.1)]})
    assert picture.main(check=True) == 1


# --- the site --------------------------------------------------------------------------------------------------------


def test_every_page_of_docs_has_a_place_in_the_navigation():
    conf = script("conf")
    pages = {name.removesuffix(".md") for name in PAGES if name.startswith("docs/")} | {"README", "docs/gpu-new", "docs/anything"}
    listed = re.findall(r"^/(\S+)$", conf.navigation(pages), re.MULTILINE)
    assert sorted(listed) == sorted(pages - {"README"})
    assert listed.index("docs/gpu-new") < listed.index("docs/anything"), "under How to, not under More"


def test_links_that_leave_the_pages_go_to_the_repository():
    conf = script("conf")
    pages = {"README", "docs/methods", "docs/decisions/README"}
    mended = lambda text: conf.LINK.sub(lambda match: conf.link(match, "docs/methods", pages), text)  # noqa: E731
    assert mended("[a](../README.md#install) ![p](picture.png)") == "[a](../README.md#install) ![p](picture.png)"
    assert mended("[a](decisions/)") == "[a](decisions/README.md)"
    assert mended("[a](../LICENSE)") == f"[a]({conf.SOURCE}LICENSE)"
    assert mended("[a](../reports/x/report/index.html)") == '<a href="../reports/x/report/index.html">a</a>'


def test_the_site_is_built_by_the_packages_of_the_extra():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["docs"]
    environment = (ROOT / "tox.ini").read_text(encoding="utf-8").split("[testenv:docs]")[1].split("[testenv")[0]
    assert re.findall(r"^    (\S+>=\S+)$", environment, re.MULTILINE) == extra


# --- links, paths, names ---------------------------------------------------------------------------------------------

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "plugins/*.md", "plugins/*/README.md", "reports/*.md", "tests/calibration/*.md")
    for path in ROOT.glob(pattern)
)
"""Every page that somebody wrote or that a script writes; licences of the data are others'."""
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
QUOTED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.{},-]+(?:/[\w.{},-]+)+/?")
MODULE = re.compile(r"(?<![/\w])scottbench(?:\.\w+)+")  # not the name of a file, such as completions/scottbench.fish
NUMBER = r"\d+\w?(?:\.\d+)*"
CITATION = re.compile(rf"\b(methods|evaluation|architecture)\.md,?\s+(?:sections?\s+)?{NUMBER}(?:(?:,| and| to)\s+{NUMBER})*")
SOURCES = [
    path for base in ("scottbench", "plugins", "tests", "docs") for path in sorted((ROOT / base).rglob("*"))
    if path.suffix in (".py", ".md", ".toml") and path != Path(__file__)]  # fmt: skip


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path, text: str) -> list[str]:
    """Targets of links that are no file, or no heading of one."""
    dead = []
    for target in LINK.findall(FENCE.sub("", text)):
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            dead.append(target)
    return dead


def spelled_out(name: str) -> list[str]:
    """A path with braces as all paths that it means: "a/{b,c}" -> ["a/b", "a/c"]."""
    match = re.search(r"\{([^{}]*)\}", name)
    return [name] if match is None else [out for part in match[1].split(",") for out in spelled_out(name.replace(match[0], part, 1))]


WRITTEN = {(ROOT, name) for name in re.findall(r"^/(\w+)/$", (ROOT / ".gitignore").read_text(encoding="utf-8"), re.MULTILINE)}
"""Folders at the top that commands write and git does not keep."""


def absent_paths(page: Path, text: str) -> list[str]:
    """Quoted paths that begin with something of the repository, or of the page's own folder, and do not exist there; what commands write
    is nothing of the repository, though it may lie in the checkout."""
    absent = []
    for quoted in QUOTED.findall(FENCE.sub("", text)):
        words = [word for word in quoted.split() if PATH.fullmatch(word) and "NAME" not in word]
        for name in (name for word in words for name in spelled_out(word)):
            first = name.split("/")[0]
            bases = [base for base in (ROOT, page.parent) if (base / first).exists() and (base, first) not in WRITTEN]
            if bases and not any((base / name).exists() for base in bases):
                absent.append(name)
    return absent


def absent_names(text: str) -> list[str]:
    """Dotted names of the host that are neither a module nor defined in one."""
    absent = []
    for name in MODULE.findall(text):
        parts = name.split(".")
        for split in range(len(parts), 0, -1):
            base = ROOT.joinpath(*parts[:split])
            module = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
            if module.is_file():
                rest = parts[split] if split < len(parts) else None
                if rest is not None and not re.search(rf"\b{rest}\b", module.read_text(encoding="utf-8")):
                    absent.append(name)
                break
    return absent


def sections(page: Path) -> set[str]:
    """The numbers of a page's headings, and of the items of a list below a heading: {"3", "3c", "3c.5"}."""
    found, heading = set(), ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"#+ (\d+\w?(?:\.\d+)*)[. ]", line):
            heading = match[1]
            found.add(heading)
        elif match := re.match(r"(\d+)\. |\| (\d+) \|", line):
            found.add(f"{heading}.{match[1] or match[2]}")
    return found


def unknown_sections(text: str) -> list[str]:
    """Citations of a section that the page does not have."""
    unknown = []
    for match in CITATION.finditer(text):
        known = sections(ROOT / "docs" / f"{match[1]}.md")
        numbers = re.findall(NUMBER, match[0].split(".md", 1)[1])
        # a number that is no section of its own may be a row or an item of the one before: "methods.md 7.2, 26"
        unknown += [f"{match[1]}.md {number}" for number in numbers if number not in known and f"{numbers[0]}.{number}" not in known]
    return unknown


@pytest.mark.parametrize("name", PAGES)
def test_links_to_files_and_headings_are_not_dead(name):
    assert dead_links(ROOT / name, (ROOT / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_path_that_a_page_names_exists(name):
    assert absent_paths(ROOT / name, (ROOT / name).read_text(encoding="utf-8")) == []


def test_a_run_made_in_the_checkout_is_no_path_of_the_pages(tmp_path, monkeypatch):
    """The README's first command leaves runs/ there, and its second is these tests."""
    here = sys.modules[__name__]
    assert {name for _, name in WRITTEN} >= {"runs", "students"}
    for name in ("runs", "docs"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(here, "ROOT", tmp_path)
    monkeypatch.setattr(here, "WRITTEN", {(tmp_path, name) for _, name in WRITTEN})
    assert absent_paths(tmp_path / "page.md", "`runs/pocket-main/x` `docs/nowhere.md`") == ["docs/nowhere.md"]


@pytest.mark.parametrize("name", PAGES)
def test_every_name_of_the_host_on_a_page_exists(name):
    assert absent_names((ROOT / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["methods.md", "evaluation.md"])
def test_the_formulas_are_cited_and_every_citation_is_of_a_section(name):
    cited = [path for path in SOURCES if name in path.read_text(encoding="utf-8")]
    assert len(cited) >= 3
    unknown = {path.name: unknown_sections(path.read_text(encoding="utf-8")) for path in {*cited, *(ROOT / page for page in PAGES)}}
    assert {name: found for name, found in unknown.items() if found} == {}


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("(methods.md 3.3) methods.md 5; methods.md section 7 (evaluation.md 3c.5)", []),
        ("methods.md 7.2, 26 evaluation.md 3b architecture.md 2, 4", []),
        ("methods.md 3.9", ["methods.md 3.9"]),
        ("methods.md 7.2, 31", ["methods.md 31"]),
        ("evaluation.md 3d", ["evaluation.md 3d"]),
        ("evaluation.md, sections 5 and 12", ["evaluation.md 12"]),
    ],
)
def test_a_citation_of_a_section_that_is_not_there_is_seen(text, wrong):
    assert unknown_sections(text) == wrong


def test_dead_links_paths_and_names_are_seen():
    page = ROOT / "docs" / "methods.md"
    assert dead_links(page, "[a](evaluation.md) [b](evaluation.md#5-intervals) [c](https://example.org)") == []
    wrong = ["evolution.md", "evaluation.md#5-doubts", "#12-nowhere"]
    assert dead_links(page, " ".join(f"[a]({target})" for target in wrong)) == wrong
    assert absent_paths(page, "`scottbench/errors.py` `decisions/` `docs/{methods,evaluation}.md` `plugins/scottbench_NAME/`") == []
    wrong = ["scottbench/texts.py", "docs/madness.md", "docs/doors.py"]
    assert absent_paths(page, "`scottbench/texts.py` `docs/{methods,madness}.md` `python docs/doors.py --check`") == wrong
    assert absent_names("scottbench.stats.intervals.of_mean scottbench.errors") == []
    wrong = ["scottbench.stats.intervals.of_means", "scottbench.inference"]
    assert absent_names(" ".join(wrong)) == wrong


# --- rooms -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rooms():
    return script("rooms")


def test_the_picture_and_the_table_of_the_rooms_are_up_to_date(rooms):
    assert rooms.stale(rooms.read_table()) == [], "run: python docs/rooms.py"


def test_a_picture_of_another_table_is_seen(rooms):
    """One arrow more, one room more."""
    table = rooms.read_table()
    assert rooms.drawn((ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")) == rooms.ids(table)
    assert set(rooms.stale({**table, "errors": {"text"}})) == {"rooms.svg", "architecture.md"}
    assert set(rooms.stale({**table, "cellar": set()})) == {"rooms.svg", "architecture.md"}


def test_the_picture_can_be_drawn_and_shows_every_room_once(rooms, tmp_path):
    table = rooms.read_table()
    rooms.draw(table, tmp_path / "rooms.svg")
    svg = (tmp_path / "rooms.svg").read_text(encoding="utf-8")
    assert rooms.drawn(svg) == rooms.ids(table)
    assert all(svg.count(f">{room}</text>") == 1 for room in table)
    rooms.draw(table, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == svg


def test_arrows_that_others_imply_are_left_out_and_no_way_is_lost(rooms):
    assert rooms.arrows({"a": set(), "b": {"a"}, "c": {"a", "b"}}) == [("b", "a"), ("c", "b")]
    table = rooms.read_table()
    below = {room: {other for start, other in rooms.arrows(table) if start == room} for room in table}

    def reach(room: str) -> set[str]:
        return below[room] | {far for other in below[room] for far in reach(other)}

    assert all(allowed <= reach(room) for room, allowed in table.items())


def test_the_layout_names_every_folder_of_the_host(rooms):
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    layout = text[text.index("Layout\n") :]
    named = re.findall(r"^  (\w+)/ ", layout, re.MULTILINE)
    assert sorted(named) == sorted(path.parent.name for path in (ROOT / "scottbench").glob("*/__init__.py"))


# --- other files of the repository -----------------------------------------------------------------------------------


def test_version_licence_and_addresses_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    home = project["urls"]["Homepage"]
    assert f"\nversion: {__version__}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
    assert f"\nrepository-code: {home}\n" in citation
    assert all(address.startswith(home) for address in project["urls"].values())
    assert f"({home}/security/advisories/new)" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_the_changelog_has_a_section_for_this_version():
    assert f"\n## {__version__} (" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_workflow_runs_the_environments_of_tox():
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    listed = re.search(r"^env_list = (.+)$", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE)[1].split(", ")
    assert sorted(re.findall(r"run: tox -e (\w+)", workflow)) == sorted(listed)
    versions = re.search(r"python: (\[.+\])", workflow)[1]
    assert f'">={json.loads(versions)[0]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
