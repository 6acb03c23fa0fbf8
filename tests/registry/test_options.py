"""Options: text to typed values, and every way in which a person gets it wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from scottbench.errors import UsageError
from scottbench.registry.label import Label
from scottbench.registry.options import make_options, options_of, parse_pairs, split_list


@dataclass(frozen=True)
class Base:
    eta: float = 0.3
    """How much noise.

    Two paragraphs."""


@dataclass(frozen=True)
class Example(Base):
    h: int = 3
    "Sub-steps."
    solver: Literal["ode", "er-sde"] = "ode"
    undocumented: str = "x"
    ema: bool = True
    rank: int | None = None
    """None: full."""

    def __post_init__(self):
        if self.h < 1:
            raise ValueError(f"h must be at least 1, found {self.h}")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [("eta", "1e-2", 0.01), ("h", " 7 ", 7), ("solver", "er-sde", "er-sde"), ("ema", "no", False), ("ema", "TRUE", True),
     ("rank", "none", None), ("rank", "4", 4), ("undocumented", "a b", "a b")],
)  # fmt: skip
def test_text_becomes_a_value_of_the_annotated_type(key, text, value):
    found = getattr(make_options(Example, {key: text}, "method 'm'"), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"etaa": "1"}, ["method 'm'", "no option 'etaa'", "Did you mean 'eta'?", "undocumented"]),
        ({"h": "3.5"}, ["'h' must be a whole number", "'3.5'"]),
        ({"eta": "nan"}, ["'eta' must be a number", "'nan'"]),
        ({"eta": "inf"}, ["'eta' must be a number"]),
        ({"solver": "sde"}, ["one of: ode, er-sde", "'sde'"]),
        ({"ema": "maybe"}, ["true or false"]),
        ({"rank": "x"}, ["a whole number or none"]),
        ({"h": "0"}, ["h must be at least 1, found 0"]),
    ],
)
def test_a_wrong_option_is_one_clear_line(values, words):
    with pytest.raises(UsageError) as caught:
        make_options(Example, values, "method 'm'")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_values_that_are_typed_already_pass_as_toml_gives_them():
    made = make_options(Example, {"h": 5, "eta": 1, "ema": False}, "trainer 't'")
    assert (made.h, made.eta, made.ema) == (5, 1.0, False)


def test_a_required_option_is_asked_for():
    @dataclass(frozen=True)
    class Needs:
        folder: str

    with pytest.raises(UsageError, match="needs option 'folder': -O folder=VALUE"):
        make_options(Needs, {}, "model 'm'")


def test_documentation_is_the_literal_under_the_field_also_of_a_parent():
    docs = {option.name: option.doc for option in options_of(Example)}
    assert docs["eta"] == "How much noise.\n\nTwo paragraphs."
    assert docs["h"] == "Sub-steps."
    assert docs["undocumented"] == ""
    assert [option.name for option in options_of(Example)] == ["eta", "h", "solver", "undocumented", "ema", "rank"]


def test_inline_options_survive_the_comma_list():
    names = split_list(["scott@eta=0.3,h=1,cd", "ddim"])
    assert names == ["scott@eta=0.3,h=1", "cd", "ddim"]
    assert Label.parse(names[0]) == Label("scott", {"eta": "0.3", "h": "1"})
    assert Label.parse("cd") == Label("cd", {})


@pytest.mark.parametrize("text", ["a,,b", ",a", "a,", ""])
def test_an_empty_name_in_a_list_is_refused(text):
    with pytest.raises(UsageError, match="a name is missing"):
        split_list([text])


@pytest.mark.parametrize("pairs", [["eta"], ["=3"], ["a=1", "a=2"]])
def test_pairs_need_a_key_and_a_value_and_each_key_once(pairs):
    with pytest.raises(UsageError):
        parse_pairs(pairs)


def test_a_bare_at_sign_is_refused():
    with pytest.raises(UsageError, match="key=value must follow the @"):
        Label.parse("scott@")


def test_a_value_may_hold_an_equals_sign():
    assert parse_pairs(["phi=x=1"]) == {"phi": "x=1"}
