"""Labels: read from text and written back, one spelling for each."""

import pytest

from scottbench.errors import UsageError
from scottbench.registry.label import Label


@pytest.mark.parametrize(("text", "name", "options"), [
    ("cd", "cd", {}),
    ("scott@skip=20", "scott", {"skip": "20"}),
    ("scott@eta=0.3,h=1", "scott", {"eta": "0.3", "h": "1"}),
    ("share@phi=x=1", "share", {"phi": "x=1"}),
])  # fmt: skip
def test_a_label_is_read_and_written_back(text, name, options):
    label = Label.parse(text)
    assert (label.name, dict(label.options)) == (name, options)
    assert str(label) == f"{label}" == text


def test_two_spellings_of_one_label_are_one():
    first, second = Label.parse("scott@eta=0.3,h=1"), Label.parse(" scott @ h = 1 , eta = 0.3 ")
    assert first == second and str(first) == str(second) and len({first, second}) == 1
    assert first != Label.parse("scott@eta=0.3,h=2") and first != Label.parse("cd@eta=0.3,h=1")


def test_parts_of_a_label():
    label = Label.parse("scott@h=1,eta=0.3")
    assert label.chosen == "eta=0.3,h=1" and label.file_name == "scott-eta=0.3-h=1"
    assert str(label.without("h")) == "scott@eta=0.3" and str(label.without("h", "eta", "x")) == "scott"
    assert (Label("cd").chosen, Label("cd").file_name) == ("", "cd")


@pytest.mark.parametrize("text", ["scott@", "scott@ ", "scott@eta", "scott@=1", "scott@a=1,a=2"])
def test_what_is_no_label_is_refused(text):
    with pytest.raises(UsageError):
        Label.parse(text)
