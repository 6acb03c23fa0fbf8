"""`scottbench sample` and `scottbench.sample`: pictures of one's own prompts, their sheet, and what can be wrong with a prompt."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tiny
import tiny_plugin
import transformers
from PIL import Image

import scottbench
from scottbench.cli import invoke
from scottbench.errors import ScottbenchWarning, UsageError
from scottbench.registry.nouns import Method
from scottbench.report.contact_sheet import Sheet, draw_sheet
from scottbench.run.own_prompts import item_id

APPLE, FISH = "a red apple", "a blue fish"


@pytest.fixture
def here(plugins, tmp_path, monkeypatch):
    """The tiny plug-in in place of the installed ones, in an empty working folder."""
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.chdir(tmp_path)
    transformers.logging.disable_progress_bar()  # another test may have imported it with bars on; a fresh process does not
    return tmp_path


@pytest.fixture
def cli(here, capsys):
    def call(*arguments):
        code = invoke(["sample", "-p", "tiny", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_pngs_a_sheet_and_a_record_with_seconds_and_nfe(cli, here):
    code, out, err = cli("-m", "ode,hop", "-s", "1,2", "--seed", "0..1", APPLE, FISH, "-o", "out", "-q")
    assert code == 0 and err == ""
    names = {f"{n}_{m}__s{s}__seed{seed}.png" for n in ("01", "02") for m in ("ode", "hop") for s in (1, 2) for seed in (0, 1)}
    assert {path.name for path in (here / "out").iterdir()} == names | {"sheet.png", "pictures.json"}
    rows = re.findall(r"^(\w+) +(\d) +([\d.]+) +(\d) +(\d) +[\d.]+$", out, re.MULTILINE)
    # the teacher is guided by two passes, the student's guidance is an input
    assert rows == [
        ("ode", "1", "3.0", "2", "4"), ("ode", "2", "3.0", "4", "4"), ("hop", "1", "2.5", "1", "4"), ("hop", "2", "2.5", "2", "4")]
    assert "sheet     out/sheet.png" in out
    record = json.loads((here / "out" / "pictures.json").read_text())
    assert record["prompts"] == [APPLE, FISH] and len(record["pictures"]) == 16 and record["failed"] == {}
    assert record["pictures"][0] | {"seconds": 0} == {
        "file": "01_ode__s1__seed0.png", "prompt": 1, "id": item_id(APPLE), "method": "ode", "steps": 1, "seed": 0, "guidance": 3.0,
        "nfe": 2, "seconds": 0}  # fmt: skip
    images = [pixels(here / "out" / name) for name in sorted(names)]
    assert {image.shape for image in images} == {(tiny.SIDE, tiny.SIDE, 3)} and len({image.tobytes() for image in images}) == 16


def test_a_picture_is_the_same_in_any_company(cli, here):
    """Alone, after another prompt, beside other methods and seeds: the same bytes, and those of the function."""
    assert cli("-m", "hop", "-s", "2", "--seed", "3", APPLE, "-o", "alone", "-q")[0] == 0
    assert cli("-m", "ode,hop", "-s", "1,2", "--seeds", "0,3", FISH, APPLE, "-o", "more", "-q")[0] == 0
    alone = pixels(here / "alone" / "01_hop__s2__seed3.png")
    assert np.array_equal(alone, pixels(here / "more" / "02_hop__s2__seed3.png"))
    made = scottbench.sample(APPLE, "hop", 2, "tiny", seeds=3, progress=False)
    assert np.array_equal(alone, np.asarray(made.images[0])) and made[0].nfe == 2 and repr(made) == "Samples(1 picture of 1 prompt)"
    assert not np.array_equal(alone, pixels(here / "more" / "01_hop__s2__seed3.png"))


def test_the_sheet_has_each_picture_in_its_row_and_column(here):
    made = scottbench.sample([APPLE, FISH], ["ode", "hop"], 1, "tiny", seeds=[0, 7], progress=False)
    sheet = np.asarray(made.sheet)
    doubled = [np.asarray(image).repeat(2, 0).repeat(2, 1) for image in made.images]
    places = []
    for picture in doubled:
        corners = np.argwhere((sheet[:-127, :-127] == picture[0, 0]).all(2))
        (place,) = [(y, x) for y, x in corners if np.array_equal(sheet[y : y + 128, x : x + 128], picture)]
        places.append(place)
    ys, xs = sorted({y for y, _ in places}), sorted({x for _, x in places})
    # made cell by cell (ode seed 0, ode seed 7, hop seed 0, hop seed 7), in each the prompts
    assert [(ys.index(y), xs.index(x)) for y, x in places] == [(0, 0), (2, 0), (0, 1), (2, 1), (1, 0), (3, 0), (1, 1), (3, 1)]
    assert made._repr_png_().startswith(b"\x89PNG")
    assert (here / "none").exists() is False and list(here.iterdir()) == [], "without out nothing is written"


def test_of_one_seed_the_columns_are_numbers_of_steps(here):
    made = scottbench.sample(APPLE, ["ode", "hop@steps=2"], [1, 4], "tiny", progress=False)
    assert made.sheet.size[0] >= 150 + 3 * 136 and len(made) == 3
    assert [row["steps"] for row in made.rows] == [1, 4, 2]


def test_a_sheet_stays_a_picture_that_programs_can_open():
    red = Image.new("RGB", (64, 64), "red")
    sheet = Sheet(["a"] * 3, [f"seed {n}" for n in range(100)], [(f"prompt {n}", {(0, 0): red}) for n in range(200)], "model x.")
    drawn = draw_sheet(sheet)
    assert drawn.size[0] <= 8_000 and drawn.size[1] <= 16_100
    wide = draw_sheet(Sheet(["a"], ["seed 0"], [("p " * 2_000, {(0, 0): Image.new("RGB", (2_048, 1_024))})]))
    assert wide.size[0] < 500 and wide.size[1] < 500


@pytest.mark.parametrize("arguments, words", [
    ([], "no prompt. Give one in quotes"),
    ([""], "prompt 1 is empty"),
    ([APPLE, " \n "], "prompt 2 is empty"),
    (["--prompts", "absent.txt"], "--prompts absent.txt cannot be read: No such file"),
    (["--prompts", "blank.txt"], "holds no prompt"),
    (["--prompts", "binary.txt"], "it is no UTF-8 text"),
    (["--prompts", "."], "--prompts . cannot be read: "),
    ([APPLE, "-m", "hopp"], "Did you mean 'hop'"),
    ([APPLE, "-s", "5000"], "cannot do that"),
    ([APPLE, "-o", "blank.txt"], "blank.txt is no folder"),
    ([APPLE, "-o", "theirs"], "theirs holds 'sheet.png' and no pictures.json"),
])  # fmt: skip
def test_a_mistake_is_one_line_with_code_2_and_nothing_is_written(cli, here, arguments, words):
    (here / "blank.txt").write_text("\n  \n")
    (here / "binary.txt").write_bytes(b"\xff\xfe\x00a")
    (here / "theirs").mkdir()
    (here / "theirs" / "sheet.png").write_text("a drawing")
    before = sorted(here.rglob("*"))
    code, _, err = cli(*arguments)
    assert code == 2 and words in err and err.count("\n") == 1 and "Traceback" not in err
    assert sorted(here.rglob("*")) == before and (here / "theirs" / "sheet.png").read_text() == "a drawing"


def test_a_long_prompt_is_cut_with_a_note_and_its_tail_changes_nothing(cli, here):
    """10,000 characters; the model reads 16 tokens."""
    long = "a red apple on the moon " * 417
    code, _, err = cli("-m", "hop", "-s", "1", long, long + "star", "a dog", "-o", "out", "-q")
    notes = [line for line in err.splitlines() if "the model reads 16" in line]
    assert code == 0 and len(notes) == 2 and re.search(r"prompt 1 has 2,50\d tokens .*it sees nothing after '\.\.\. .*apple.*'", notes[0])
    record = json.loads((here / "out" / "pictures.json").read_text())
    assert record["remarks"][0] == notes[0].removeprefix("warning: ")


def test_prompts_of_a_file_a_prompt_given_twice_and_one_of_other_letters(cli, here):
    (here / "list.txt").write_bytes(b"\xef\xbb\xbfa red apple\r\n\r\n  a blue fish \n" + "лиса / ../ \x1b[31m 狐\n".encode())
    code, out, err = cli("-m", "hop", "-s", "1", APPLE, "--prompts", "list.txt", "--json")
    document = json.loads(out)
    assert code == 0 and "1 prompt given twice" in err and document["folder"] == "pictures/a-red-apple"
    assert document["pictures"] == [f"0{n}_hop__s1__seed0.png" for n in (1, 2, 3)]
    assert json.loads((here / document["folder"] / "pictures.json").read_text())["prompts"][2] == "лиса / ../ 狐"


def test_a_method_that_fails_costs_the_others_nothing(files, here, monkeypatch, capsys):
    def broken(run):
        raise ValueError("a slip")

    plugins = tiny_plugin.tiny_plugins(files, methods=[Method("slip", "fails", broken, tiny_plugin.timesteps)])
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    code = invoke(["sample", "-p", "tiny", "-m", "slip,hop", "-s", "1", APPLE, "-o", "out", "-q"])
    err = capsys.readouterr().err
    assert code == 1 and "1 of 2 rows have not all their pictures: slip__s1__seed0: " in err and "a slip" in err
    assert (here / "out" / "01_hop__s1__seed0.png").is_file() and (here / "out" / "sheet.png").is_file()
    with pytest.warns(ScottbenchWarning, match="slip__s1__seed0: .*a slip"):
        assert len(scottbench.sample(APPLE, ["slip", "hop"], 1, "tiny", progress=False)) == 1


def test_ctrl_c_keeps_the_pictures_that_are_made(cli, here, monkeypatch):
    from scottbench.run import own_prompts

    whole = own_prompts.make

    def interrupted(session, on_progress):
        yield next(whole(session, on_progress))
        raise KeyboardInterrupt

    monkeypatch.setattr(own_prompts, "make", interrupted)
    code, _, err = cli("-m", "hop", "-s", "1", APPLE, FISH, "-o", "out", "-q")
    assert code == 130 and "1 picture of 2 in out" in err and "scottbench sample" in err
    assert {path.name for path in (here / "out").iterdir()} == {"01_hop__s1__seed0.png", "sheet.png", "pictures.json"}


def test_the_function_names_a_wrong_argument(here):
    with pytest.raises(UsageError, match=r"sample\(\) has no argument 'seed'. Did you mean 'seeds'"):
        scottbench.sample(APPLE, seed=3)
    with pytest.raises(UsageError, match="prompts must be text"):
        scottbench.sample([1, 2])
