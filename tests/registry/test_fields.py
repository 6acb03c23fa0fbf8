"""One parser for text and TOML: what text becomes, what a TOML value must be, and one message form for each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from scottbench.errors import UsageError
from scottbench.registry.fields import NO_VALUE, TEXT, TOML, convert, describe, fits, make


@dataclass(frozen=True)
class Leaf:
    size: float
    kind: Literal["oak", "elm"] = "oak"


@dataclass(frozen=True)
class Tree:
    name: str
    leaves: list[Leaf]
    top: Leaf | None = None
    rings: list[int] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    folder: str = ""

    def __post_init__(self):
        if not self.leaves:
            raise ValueError("a tree has leaves")


def read(text: str) -> Tree:
    return make(Tree, tomllib.loads(text), "tree t.toml", folder="here")


GOOD = 'name = "x"\nrings = [1, 2]\n[[leaves]]\nsize = 1\n[[leaves]]\nsize = 2.5\nkind = "elm"\n[top]\nsize = 3\n'


def test_tables_of_a_toml_file_become_the_dataclasses_of_their_fields():
    found = read(GOOD)
    assert found == Tree("x", [Leaf(1), Leaf(2.5, "elm")], Leaf(3), [1, 2], {}, "here")
    assert type(found.leaves[0].size) is int  # a value of a file is kept as it stands there


@pytest.mark.parametrize(("old", "new", "message"), [
    ('name = "x"', "name = 1", "tree t.toml: 'name' must be string, found 1"),
    ('name = "x"', "", "tree t.toml: key 'name' is missing; needed: name"),
    ('name = "x"', 'name = "x"\nfolder = "y"', "tree t.toml: unknown key 'folder'."),
    ('name = "x"', 'nam = "x"', "tree t.toml: unknown key 'nam'. Did you mean 'name'?"),
    ("rings = [1, 2]", "rings = [1, true]", "tree t.toml: 'rings' must be a list of whole numbers, found [1, True]"),
    ("size = 2.5", 'size = "2.5"', "tree t.toml: [[leaves]]: 'size' must be a number, found '2.5'"),
    ('"elm"', '"elk"', "tree t.toml: [[leaves]]: kind must be one of oak, elm, found 'elk'. Did you mean 'elm'?"),
    ("size = 3", "", "tree t.toml top: key 'size' is missing; needed: size"),
    ("[top]\nsize = 3", "[top.leaf]\nsize = 3", "tree t.toml top: unknown key 'leaf'."),
])  # fmt: skip
def test_a_mistake_in_a_file_names_the_place(old, new, message):
    with pytest.raises(UsageError) as caught:
        read(GOOD.replace(old, new))
    assert str(caught.value) == message


def test_what_is_no_table_is_refused():
    with pytest.raises(UsageError) as caught:
        make(Tree, {"name": "x", "leaves": [{"size": 1}], "top": 3}, "tree")
    assert str(caught.value) == "tree top must be a table, found 3"


def test_a_range_is_the_dataclass_own_word():
    with pytest.raises(UsageError, match="tree t.toml: a tree has leaves"):
        read('name = "x"\nleaves = []')


@pytest.mark.parametrize(("kind", "text", "value"), [
    (int, " 7 ", 7), (int, "7.0", NO_VALUE), (float, "1e-2", 0.01), (float, "nan", NO_VALUE), (bool, "no", False), (bool, "2", NO_VALUE),
    (int | None, "none", None), (Literal["a", "b"], "b", "b"), (Literal["a", "b"], "c", NO_VALUE), (str, " a b ", "a b"),
])  # fmt: skip
def test_text_is_converted(kind, text, value):
    found = convert(text, kind)
    assert found is value if value is NO_VALUE else (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("kind", "value", "expected"), [
    (int, "7", False), (int, True, False), (float, 7, True), (float, True, False), (bool, True, True), (str | None, "a", True),
    (list[str], ["a", 1], False), (dict[str, float], {"a": 1}, True), (dict[str, float], {"a": "1"}, False), (Any, object(), True),
    (Literal["a"], "a", True), (Literal["a"], "b", False), (Literal[1], True, False),
])  # fmt: skip
def test_a_value_of_a_file_must_have_the_type(kind, value, expected):
    assert fits(value, kind) is expected


@pytest.mark.parametrize(("kind", "text", "toml"), [
    (int, "a whole number", "a whole number"), (str, "text", "string"), (int | None, "a whole number or none", "a whole number"),
    (list[int], "a list of whole numbers", "a list of whole numbers"), (dict[str, float], "a table", "a table"),
    (bool, "true or false", "true or false"), (Literal["a", "b"], "one of: a, b", "one of: a, b"),
    (list[str], "a list of texts", "a list of strings"),
])  # fmt: skip
def test_a_type_is_described_in_the_words_of_its_form(kind, text, toml):
    assert (describe(kind, TEXT), describe(kind, TOML)) == (text, toml)
