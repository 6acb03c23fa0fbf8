"""The report read back with the standard library's HTML parser: tags, attributes, tables, captions."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br"}


@dataclass
class Table:
    """text: rows of cell texts, headings first; bold: (row, column) of the fields in bold, headings not counted."""

    rows: list[list[str]] = field(default_factory=list)
    bold: set[tuple[int, int]] = field(default_factory=set)

    @property
    def header(self) -> list[str]:
        return self.rows[0]

    @property
    def body(self) -> list[list[str]]:
        return self.rows[1:]


class Page(HTMLParser):
    """Everything a test asks of a page. Unbalanced tags are an error."""

    def __init__(self, path: Path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.captions: list[str] = []
        self.tables: list[Table] = []
        self.open: list[str] = []
        self.feed(self.html)
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self.tables[-1].rows[-1].append("")
        elif tag == "figcaption":
            self.captions.append("")
        elif tag == "b" and "td" in self.open:
            table = self.tables[-1]
            table.bold.add((len(table.rows) - 2, len(table.rows[-1]) - 1))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "figcaption" in self.open:
            self.captions[-1] += data
        if "td" in self.open or "th" in self.open:
            row = self.tables[-1].rows[-1]
            row[-1] = " ".join((row[-1] + " " + data).split())

    @property
    def table_captions(self) -> list[str]:
        """Captions of tables, without those of figures."""
        return [text for text in self.captions if text.startswith("Table")]

    def table(self, caption: str) -> Table:
        """The data table (not the sample grid) whose caption starts so."""
        captions = [text for text in self.captions if text.startswith("Table")]
        data = [table for table in self.tables if table.header[0] != "prompt"]
        (found,) = [table for text, table in zip(captions, data, strict=True) if text.startswith(caption)]
        return found

    def images(self) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag == "img"]
