"""Draw the rooms of the package and who may import whom, from the one table in tests/test_architecture.py: docs/rooms.svg, and the
table of docs/architecture.md.

    python docs/rooms.py            draw and write both
    python docs/rooms.py --check    exit 1 if one of them shows another table (tests/test_docs.py)

Every box and every arrow has an id in the SVG. The check compares these ids with the table, so that another version of matplotlib, which
draws the same picture with other bytes, does not fail it.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "test_architecture.py"
PICTURE = ROOT / "docs" / "rooms.svg"
PAGE = ROOT / "docs" / "architecture.md"
BLOCK = re.compile(r"(<!-- rooms: table -->\n).*?(<!-- end -->)", re.DOTALL)

TEXTS = {
    "errors": "errors, exit codes",
    "text": "words for people",
    "diffusion": "schedule, update step",
    "registry": "what plugs in",
    "store": "everything on disk",
    "models": "networks, extractors",
    "metrics": "arrays to numbers",
    "stats": "intervals, verdicts",
    "report": "records to a page",
    "plan": "what will be done",
    "testing": "checks for authors",
    "run": "one plan at work",
    "training": "teacher to student",
    "cli": "a file per verb",
}
"""What each room is, in the few words that fit into its box. A room that is missing here is drawn with its name alone."""
COLUMN = {
    "errors": 1.9, "text": 2.9, "diffusion": 0.9, "registry": 1.2, "store": 2.6, "models": 0.5, "metrics": 1.9, "stats": 2.9, "report": 3.9,
    "testing": 2.3, "plan": 1.0, "training": 1.8, "run": 2.9, "cli": 1.6,
}  # fmt: skip
"""Places from left to right, in boxes, so that no arrow runs behind a box. A room that is missing here is put to the right of its floor."""
FILL, EDGE, INK, ARROW = "#dbe7f5", "#5b7fa6", "#12263f", "#7d8794"
"""Readable on a white and on a dark page: the boxes bring their own ground, and the arrows are of a middle gray."""
WIDTH, HEIGHT, GAP_X, GAP_Y = 1.7, 0.62, 0.35, 0.62


def read_table(path: Path = TABLE) -> dict[str, set[str]]:
    """The rooms and what each may import, read from the assignment of ROOMS without importing the tests. Raises LookupError."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "ROOMS":
            return {room: set(allowed.split()) for room, allowed in ast.literal_eval(node.value).items()}
    raise LookupError(f"no table ROOMS in {path}")


def floors(table: dict[str, set[str]]) -> list[list[str]]:
    """The rooms by floor, the lowest first: a room stands one floor above the highest of those that it imports."""
    height: dict[str, int] = {}
    while len(height) < len(table):
        ready = [room for room, below in table.items() if room not in height and below <= height.keys()]
        assert ready, "the table has a circle"
        height |= {room: 1 + max((height[other] for other in table[room]), default=-1) for room in ready}
    return [[room for room in table if height[room] == floor] for floor in range(1 + max(height.values()))]


def arrows(table: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The (room, imported room) arrows that no longer chain of arrows implies."""

    def reach(room: str) -> set[str]:
        return table[room] | {far for other in table[room] for far in reach(other)}

    return [
        (room, other) for room in table for other in sorted(table[room]) if not any(other in reach(via) for via in table[room] - {other})
    ]


def ids(table: dict[str, set[str]]) -> set[str]:
    """The ids of the boxes and arrows of a table's picture."""
    return {f"room-{room}" for room in table} | {f"arrow-{room}-{other}" for room, other in arrows(table)}


def drawn(svg: str) -> set[str]:
    """The ids of the boxes and arrows that a picture shows."""
    return set(re.findall(r'id="((?:room|arrow)-[\w-]+)"', svg))


def draw(table: dict[str, set[str]], path: Path) -> None:
    """Write the picture. Equal tables give equal bytes with one version of matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "rooms", "svg.fonttype": "none", "font.family": "sans-serif"}
    from matplotlib import pyplot
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    places = positions(table)
    right, top = (max(place[axis] for place in places.values()) for axis in (0, 1))
    size = right + WIDTH / 2, top + HEIGHT
    figure = pyplot.figure(figsize=(size[0] + 0.2, size[1] + 0.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, size[0] + 0.1), ylim=(-0.1, size[1] + 0.1))
    axes.axis("off")
    for room, (x, y) in places.items():
        box = FancyBboxPatch((x - WIDTH / 2, y), WIDTH, HEIGHT, "round,pad=0,rounding_size=0.08", facecolor=FILL, edgecolor=EDGE)
        box.set_gid(f"room-{room}")
        axes.add_patch(box)
        axes.text(x, y + HEIGHT * 0.66, room, ha="center", va="center", color=INK, fontsize=11, fontweight="bold")
        axes.text(x, y + HEIGHT * 0.28, TEXTS.get(room, ""), ha="center", va="center", color=INK, fontsize=8.5)
    for room, other in arrows(table):
        (x, y), (x_other, y_other) = places[room], places[other]
        arrow = FancyArrowPatch((x, y), (x_other, y_other + HEIGHT), shrinkA=0, shrinkB=1, zorder=0)
        arrow.set(arrowstyle="-|>", mutation_scale=10, color=ARROW)
        arrow.set_gid(f"arrow-{room}-{other}")
        axes.add_patch(arrow)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def positions(table: dict[str, set[str]]) -> dict[str, tuple[float, float]]:
    """The middle of each box's lower edge, in inches."""
    places = {}
    for floor, rooms in enumerate(floors(table)):
        column = max((COLUMN[room] for room in rooms if room in COLUMN), default=-1.0)
        for room in rooms:
            if room not in COLUMN:
                column += 1
            places[room] = WIDTH / 2 + COLUMN.get(room, column) * (WIDTH + GAP_X), floor * (HEIGHT + GAP_Y)
    return places


def rendered(page: str, table: dict[str, set[str]]) -> str:
    """The text of a page with its table of rooms made anew."""
    lines = ["| room | is | may import |", "|---|---|---|"]
    for room in (room for floor in reversed(floors(table)) for room in floor):
        allowed = ", ".join(f"`{other}`" for other in table if other in table[room])
        lines.append(f"| `{room}` | {TEXTS.get(room, '')} | {allowed or 'nothing of ours'} |")
    return BLOCK.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], page)


def stale(table: dict[str, set[str]]) -> list[str]:
    """The names of the files that show another table."""
    found = [] if PICTURE.is_file() and drawn(PICTURE.read_text(encoding="utf-8")) == ids(table) else [PICTURE.name]
    page = PAGE.read_text(encoding="utf-8")
    return found + ([] if rendered(page, table) == page else [PAGE.name])


def main(check: bool) -> int:
    """Write picture and table, or compare them with the rooms; the exit code."""
    table = read_table()
    old = stale(table)
    if check:
        if old:
            print(f"out of date: {', '.join(old)}. Run: python docs/rooms.py")
        return 1 if old else 0
    draw(table, PICTURE)
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
    print(f"written: {PICTURE.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
