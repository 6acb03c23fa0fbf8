"""A training's values: flag > variable > config file > preset > default; another teacher; the dry run, which leaves nothing."""

import dataclasses
import json
import os
import tempfile

import pytest
import tiny
from tiny_cd import contents, refused, with_cd

from scottbench.errors import UsageError
from scottbench.plan.request import misspelt, read_config
from scottbench.store.weights import weights_digest
from scottbench.training.choices import choose, in_words
from scottbench.training.estimate import whole_training
from scottbench.training.request import NAMES, TrainRequest, read_train_config, suffix
from scottbench.training.settings import SETTINGS, Budget

FAST = ("-O", "lr=1e-3", "-O", "w_min=0", "-O", "w_max=4")
DRY = ("train", "cd", "-p", "tiny", "-b", "4", "--max-steps", "6", *FAST, "--dry-run")
CONFIG = """
preset = "tiny"
steps = [1]
[train]
max_steps = 6
batch_size = 2
accumulate = 2
evaluate_every = 0
gradient_checkpointing = true
[train.options]
lr = 0.25
huber = "norm"
"""


def table(out: str) -> dict[str, tuple[str, str]]:
    """Setting -> (value, origin) of what a dry run prints."""
    lines = out.split("origin\n")[1].splitlines()
    return {name: (value, " ".join(origin)) for name, value, *origin in map(str.split, lines)}


@pytest.fixture
def dry(cli, monkeypatch):
    """dry(arguments...) -> the table, without the timed steps."""
    from scottbench.training import estimate

    found = estimate.TrainEstimate("d" * 64, 12, 1, 4, {"student": 7}, None, [1.0], 6, 6.0)
    monkeypatch.setattr(estimate, "estimate", lambda plugins, choices: found)

    def call(*arguments):
        code, out, err = cli("train", "cd", *arguments, "--dry-run")
        assert code == 0, err
        return table(out)

    return call


def test_every_setting_is_a_field_of_the_request():
    assert {item.name for item in dataclasses.fields(TrainRequest)} >= set(NAMES)
    assert set(NAMES) >= set(SETTINGS)


def test_flag_variable_file_preset_default(dry, tmp_path, monkeypatch):
    """Each source in turn wins over those below it, and says so."""
    (tmp_path / "mine.toml").write_text(CONFIG)
    assert dry("-p", "tiny")["batch_size"] == ("4", "preset tiny")
    assert dry("-p", "tiny")["accumulate"] == ("1", "default")
    assert dry("-p", "tiny")["minutes"] == ("30.0", "default")
    found = dry("-c", "mine.toml")
    assert found["preset"] == ("tiny", "file mine.toml"), "a run's key at the top counts too"
    assert (found["batch_size"], found["max_steps"]) == (("2", "file mine.toml"), ("6", "file mine.toml"))
    assert found["minutes"] == ("-", "default"), "a number of steps takes the place of the default's minutes"
    assert found["gradient_checkpointing"] == ("True", "file mine.toml")
    assert (found["options.lr"], found["options.skip"]) == (("0.25", "file mine.toml"), ("20", "default"))
    monkeypatch.setenv("SCOTTBENCH_TRAIN_BATCH_SIZE", "6")
    monkeypatch.setenv("SCOTTBENCH_BATCH_SIZE", "7")
    monkeypatch.setenv("SCOTTBENCH_TRAIN_GRADIENT_CHECKPOINTING", "no")
    monkeypatch.setenv("SCOTTBENCH_DEVICE", "cpu")
    found = dry("-c", "mine.toml")
    assert found["batch_size"] == ("6", "SCOTTBENCH_TRAIN_BATCH_SIZE"), "a run's batch size is not a training's"
    assert found["gradient_checkpointing"] == ("False", "SCOTTBENCH_TRAIN_GRADIENT_CHECKPOINTING")
    assert found["device"] == ("cpu", "SCOTTBENCH_DEVICE")
    found = dry("-c", "mine.toml", "-b", "8", "--gradient-checkpointing", "-O", "lr=0.5")
    assert (found["batch_size"], found["gradient_checkpointing"]) == (("8", "flag"), ("True", "flag"))
    assert (found["options.lr"], found["options.huber"]) == (("0.5", "flag"), ("element", "default"))


def test_options_of_the_preset_stand_under_those_that_are_given(files):
    plugins = with_cd(files)
    preset = plugins.find("preset", "tiny").noun
    preset.train["options"] = {"cd": {"lr": 0.125, "skip": 10}}
    rows = {name: (value, origin) for name, value, origin in in_words(choose(plugins, TrainRequest("cd", "tiny", {"lr": "0.5"})))}
    assert (rows["options.lr"], rows["options.skip"]) == ((0.5, "call"), (10, "preset tiny"))
    assert rows["options.ema"] == (0.95, "default")


@pytest.mark.parametrize("text, message", [
    ("[train]\nminuts = 5", "unknown key 'minuts' in [train]. Did you mean 'minutes'?"),
    ("minutes = 5", "unknown key 'minutes'. Keys: preset, methods, steps, metrics, limit, seeds, guidance, options, device, students, "
                    "model, dataset, prompts, batch_size, compile, tf32, reference. Those of a training stand under [train]."),
    ("[train]\nmax_steps = [1, 2]", "'max_steps' must be one value, found [1, 2]"),
    ("[train]\nbatch_size = true", "'batch_size' must be one value, found True"),
    ("[train.options.cd]\nlr = 1", "'options' must be a table of values: [options]"),
    ("train = 3", "'train' must be a table: [train]"),
])  # fmt: skip
def test_a_config_file_that_cannot_be_meant_is_refused(cli, tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    refused(cli("train", "cd", "-c", "mine.toml", "--dry-run"), 2, "config file mine.toml: " + message)


def test_a_run_leaves_the_training_s_table_alone_and_a_folder_is_beside_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('limit = 4\nmodel = "name"\n[train]\nmodel = "./other"\nminutes = 2.5\n')
    assert read_config(path) == {"limit": "4", "model": "name"}
    assert read_train_config(path) == {"model": str(tmp_path / "other"), "minutes": "2.5"}


def test_a_variable_that_is_misspelt_is_told_and_one_of_a_training_is_not():
    names = [*("batch_size", "steps"), *map(suffix, NAMES)]
    assert misspelt({"SCOTTBENCH_TRAIN_BATCH_SIZE": "1", "SCOTTBENCH_CACHE": "x"}, names) == []
    (line,) = misspelt({"SCOTTBENCH_TRAIN_MINUTS": "1"}, names)
    assert "Did you mean SCOTTBENCH_TRAIN_MINUTES?" in line


@pytest.mark.parametrize("asked, message", [
    ({"minutes": 0.0}, "--minutes must be above 0"), ({"minutes": float("nan")}, "--minutes must be above 0"),
    ({"max_steps": 0}, "--max-steps must be a whole number of at least 1"), ({"trainer": "cdd"}, "Did you mean 'cd'"),
    ({"preset": "tinny"}, "Did you mean 'tiny'"), ({"options": {"lrr": "1"}}, "trainer 'cd' has no option 'lrr'"),
])  # fmt: skip
def test_a_request_that_cannot_be_is_refused_before_anything_is_opened(files, asked, message):
    with pytest.raises(UsageError, match=message):
        choose(with_cd(files), TrainRequest(**{"trainer": "cd", "preset": "tiny"} | asked))


# --- another teacher -------------------------------------------------------------------------------------------------


def test_a_pipeline_folder_is_the_teacher_in_place_of_the_preset_s(cli, files, tmp_path):
    tiny.tiny_pipeline(tmp_path / "other", seed=1)
    code, out, err = cli("train", "cd", "-p", "tiny", "-b", "4", "--max-steps", "1", "-q", "-o", "s", *FAST, "--model", "other")
    assert code == 0, err
    facts = json.loads((tmp_path / "s" / "student.json").read_text())
    assert facts["teacher_digest"] == weights_digest(tmp_path / "other") != weights_digest(files / "model")
    assert out.splitlines()[-1] == "next    scottbench run --preset tiny --model other --methods cd --student cd=s"
    assert cli(*out.splitlines()[-1].split()[2:], "-n", "2", "-s", "1", "-k", "gap", "-q")[0] == 0, "and that line works"


@pytest.mark.parametrize("model, code, words", [
    ("tinny", 2, "unknown model 'tinny'. Did you mean 'tiny'?"), ("./nowhere", 3, "no folder ./nowhere: --model takes a name"),
    (".", 3, "no diffusers pipeline at ."),
])  # fmt: skip
def test_a_teacher_that_is_not_there_is_refused_and_nothing_is_written(cli, tmp_path, model, code, words):
    refused(cli("train", "cd", "-p", "tiny", "-b", "4", "-o", "s", "--model", model), code, words)
    assert list(tmp_path.iterdir()) == []


# --- dry run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty folders for the cache and for temporary files, beside the working folder."""
    found = {name: tmp_path / name for name in ("cache", "temporary")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(found["cache"]))
    monkeypatch.setattr(tempfile, "tempdir", str(found["temporary"]))
    return found


@pytest.mark.parametrize("encoded", [False, True])
def test_a_dry_run_says_what_would_be_trained_and_leaves_no_file(cli, files, tmp_path, places, encoded):
    if encoded:
        assert cli("train", "cd", "-p", "tiny", "-b", "4", "--max-steps", "1", "-q", "-o", "first", *FAST)[0] == 0
    before = contents(tmp_path)
    code, out, err = cli(*DRY, "--accumulate", "2")
    assert code == 0, err
    assert contents(tmp_path) == before and not list(places["temporary"].iterdir())
    lines = out.splitlines()
    assert lines[0] == f"training cd  preset tiny  teacher tiny ({weights_digest(files / 'model')[:12]})"
    assert lines[1].startswith("data     dots: 12 items, 11 trained on, 1 held out; " + ("encoded already" if encoded else "about "))
    assert lines[2] == "batch    4, 2 micro-batches of 2"
    assert lines[3].startswith("trained  student ") and lines[3].endswith(" parameters")
    assert lines[4:6] == ["budget   6 steps", "out      students/tiny-cd (nothing is there yet)"]
    assert lines[6].startswith("estimate about 6 steps in ") and "from 5 timed steps" in lines[6]
    found = table(out)
    assert (found["accumulate"], found["options.lr"]) == (("2", "flag"), ("0.001", "flag"))
    assert (found["options.ema"], found["model"]) == (("0.95", "default"), ("tiny", "preset tiny"))


def test_a_dry_run_refuses_what_the_training_would(cli, tmp_path, monkeypatch):
    assert cli("train", "cd", "-p", "tiny", "-b", "4", "--max-steps", "1", "-q", "-o", "s", *FAST)[0] == 0
    before = contents(tmp_path)
    refused(cli(*DRY, "-o", "s"), 2, "s already holds a student")
    refused(cli(*DRY, "-b", "12"), 2, "fewer than one batch of 12")
    refused(cli(*DRY, "--resume"), 2, "nothing to resume at students/tiny-cd")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(cli(*DRY), 2, "a dry run needs one process: run it without a launcher")
    assert contents(tmp_path) == before and not os.path.exists("students")


def test_the_estimate_counts_each_part_of_the_budget_alike():
    """Half of the time at 1 s a step and half at 3 s: 60 s hold 30 + 10 steps; 40 steps, half of them of each kind, take 80 s."""
    assert whole_training(Budget(1.0, None), [1.0, 3.0], 100) == (40, 60.0)
    assert whole_training(Budget(None, 40), [1.0, 3.0], 100) == (40, 80.0)
    assert whole_training(Budget(1.0, 10), [1.0, 3.0], 100) == (10, 20.0) and whole_training(Budget(1.0, 99), [1.0, 3.0], 100) == (40, 60.0)
    # 100 passes a step: 1,999 passes are 19 whole steps, unless time or steps end first
    assert whole_training(Budget(None, None, 1999), [1.0, 3.0], 100) == (19, 38.0)
    assert whole_training(Budget(None, 7, 1999), [1.0, 3.0], 100) == (7, 14.0)
    assert whole_training(Budget(1.0, None, 9999), [1.0, 3.0], 100) == (40, 60.0)
