"""What a person may do wrong with trainers and students, through the command line: exit code, one line, nothing lost."""

import json
import shutil

import pytest
import tiny
import tiny_plugin
from tiny_cd import contents, refused, with_cd
from tiny_training import train

from scottbench.errors import ScottbenchWarning, TrainingDiverged, UsageError
from scottbench.models.student import sealed
from scottbench.plan.choices import check_guidance
from scottbench.registry.nouns import Method

FAST = ("-O", "lr=1e-3", "-O", "w_min=0", "-O", "w_max=4")
TRAIN = ("train", "cd", "-p", "tiny", "-b", "4", "-q", "-o", "s", *FAST)


def student_with(files, folder, **facts):
    """The tiny plug-in's student with other facts in its student.json."""
    shutil.copytree(files / "student", folder)
    path = folder / "student.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | facts)))
    return folder


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """What TRAIN with one step leaves; copied, not used."""
    options = {"lr": "1e-3", "w_min": "0", "w_max": "4"}
    return train(with_cd(files), "tiny", "cd", tmp_path_factory.mktemp("trained") / "s", max_steps=1, batch_size=4, options=options)


@pytest.fixture
def after_one_step(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "s")


HOP = ("run", "-p", "tiny", "-m", "hop", "-n", "2", "-q", "--student", "hop=s")


# --- students that cannot be sampled so ------------------------------------------------------------------------------


def test_a_student_of_another_model_is_exit_code_3(cli, files, tmp_path):
    tiny.tiny_student(tmp_path / "s", "hop", "f" * 64)
    before = contents(tmp_path)
    refused(cli(*HOP), 3, "s was distilled from a teacher with digest ffffffffffff", "this run's model has",
            "Name its own teacher with --model", "to make one: scottbench train hop")  # fmt: skip
    assert contents(tmp_path) == before, "no run folder, and the student is as it was"


def test_a_student_of_another_trainer_is_exit_code_2(cli, files, tmp_path):
    student_with(files, tmp_path / "s", trainer="scott")
    refused(cli(*HOP), 2, "s holds a student of 'scott', not of 'hop'", "Give a folder made by: scottbench train hop")


@pytest.mark.parametrize("guidance", ["2.5", "1.01", "0.5"])
def test_guidance_for_a_student_that_has_it_baked_in_is_exit_code_2(cli, files, tmp_path, guidance):
    student_with(files, tmp_path / "s", guidance="baked")
    refused(cli(*HOP, "--guidance", guidance), 2, f"guidance scale {guidance} of method 'hop'", "baked into this student",
            "Use hop@guidance=1")  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("guidance", ["5.5", "0.5"])
def test_guidance_outside_a_student_s_range_is_exit_code_2(cli, files, tmp_path, guidance):
    student_with(files, tmp_path / "s", w_min=0.0, w_max=4.0)
    refused(cli(*HOP, "--guidance", guidance), 2, f"guidance scale {guidance} of method 'hop'", ": 1 to 5.", "hop@guidance=S")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("label, better", [("cd", "cd@guidance=S"), ("cd@guidance=99", "cd@guidance=S"),
                                           ("cd@guidance=99,student=b", "cd@student=b,guidance=S")])  # fmt: skip
def test_the_line_says_what_to_ask_for_instead_of_the_guidance_given(label, better):
    with pytest.raises(UsageError) as caught:
        check_guidance(label, 99.0, {"w_min": 0.0, "w_max": 4.0})
    assert str(caught.value).endswith(f"Give one inside it: {better}.")


@pytest.mark.parametrize("w", [0.1, 0.3, 0.7, 4.3])
def test_the_ends_of_the_range_are_inside_it(w):
    """As a user writes them: 1.3 - 1 is not 0.3 in floating point."""
    for scale in (round(1 + w, 1), 1 + w):
        check_guidance("cd", scale, {"w_min": w, "w_max": w})


# --- step counts -----------------------------------------------------------------------------------------------------


def test_an_unusual_step_count_runs_with_a_warning_and_an_impossible_one_is_exit_code_2(cli, files, tmp_path):
    narrow = Method("narrow", "", tiny_plugin.sample_ode, tiny_plugin.timesteps, made_for=(1, 2, 4))
    cli.plugins = with_cd(files, methods=[narrow])
    run = ("run", "-p", "tiny", "-m", "narrow", "-n", "2", "-q")
    code, out, err = cli(*run, "-s", "3", "-o", "r")
    assert code == 0 and out.count("narrow") >= 1
    assert err == "warning: method 'narrow' was made for 1, 2, 4 steps, not for 3.\n"
    code, _, err = cli(*run, "-s", "4", "-o", "r4")
    assert (code, err) == (0, "")
    refused(cli(*run, "-s", "51", "-o", "r51"), 2, "--steps 51: method 'narrow' cannot do that. It can do 1 to 50 steps.")
    assert not (tmp_path / "r51").exists()


def test_the_metric_curve_s_step_count_is_held_to_the_same(cli, files, tmp_path):
    curve = ("--max-steps", "1", "--evaluate-every", "1")
    refused(cli(*TRAIN, *curve, "--evaluate-steps", "51"), 2, "--evaluate-steps 51: method 'cd' cannot do that. It can do 1 to 50 steps.")
    with pytest.warns(ScottbenchWarning, match="^--evaluate-steps: method 'cd' was made for 1 to 8 steps, not for 9.$"):
        code, _, _ = cli(*TRAIN, *curve, "--evaluate-steps", "9")
    assert code == 0 and (tmp_path / "s" / "student.json").is_file()


def test_guidance_of_the_metric_curve_is_checked_before_the_first_step(cli, tmp_path):
    cli.plugins.nouns["preset"]["tiny"].noun.guidance["cd"] = 5.5
    refused(cli(*TRAIN, "--max-steps", "1", "--evaluate-every", "1"), 2, "the metric curve samples method 'cd' at guidance scale 5.5",
            "outside the range to be trained: 1 to 5. Widen w_min to w_max")  # fmt: skip
    assert not list((tmp_path / "s").iterdir())
    assert cli(*TRAIN, "--max-steps", "1")[0] == 0


# --- training folders ------------------------------------------------------------------------------------------------


def test_a_training_split_smaller_than_a_batch_is_exit_code_2_and_nothing_is_written(cli, tmp_path):
    refused(cli("train", "cd", "-p", "tiny", "-b", "12"), 2, "the training split has 12 items (11 after 1 held out)",
            "fewer than one batch of 12. Use --batch-size 11 or less")  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_training_of_another_configuration_is_exit_code_2_and_leaves_all_as_it_was(cli, after_one_step, tmp_path):
    before = contents(tmp_path / "s")
    go_on = (*TRAIN, "--max-steps", "2", "--resume")
    refused(cli(*(word.replace("lr=1e-3", "lr=0.5") for word in go_on)), 2,
            "s was trained with another configuration (options.lr was 0.001, now 0.5). Give the same one, or another --out")  # fmt: skip
    refused(cli(*go_on, "--seed", "7", "-b", "5", "-O", "huber=norm", "-O", "skip=10"), 2,
            "batch_size was 4, now 5, options.huber was element, now norm, options.skip was 20, now 10 and 1 more")  # fmt: skip
    refused(cli("train", "failing", *go_on[2:]), 2, "trainer was cd, now failing")
    refused(cli(*TRAIN, "--max-steps", "2"), 2, "s already holds a student", "--resume")
    assert contents(tmp_path / "s") == before
    assert cli(*go_on)[0] == 0
    (tmp_path / "s" / "training.json").write_text('{"tra')
    refused(cli(*go_on), 3, "cannot read s/training.json", "another --out")


def test_nothing_to_resume_is_exit_code_2_or_3(cli, trained, tmp_path):
    refused(cli(*TRAIN, "--resume"), 2, "nothing to resume at s: no training.json. Start without --resume")
    shutil.copytree(trained, tmp_path / "s", dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "s" / "checkpoint")
    refused(cli(*TRAIN, "--max-steps", "2", "--resume"), 3, "nothing to resume: s/checkpoint has no checkpoint")
    assert (tmp_path / "s" / "student.json").is_file()


def test_a_full_disk_keeps_the_checkpoint_before_and_is_exit_code_4(cli, after_one_step, tmp_path, monkeypatch):
    before = contents(tmp_path / "s" / "checkpoint")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        refused(cli(*TRAIN, "--max-steps", "2", "--resume"), 4, "No space left on device. That of step 1 is kept", "go on with --resume")
    assert contents(tmp_path / "s" / "checkpoint") == before and not (tmp_path / "s" / "checkpoint.new").exists()
    assert cli(*TRAIN, "--max-steps", "2", "--resume")[0] == 0


def test_a_full_disk_at_the_export_keeps_the_training_and_is_exit_code_4(cli, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("scottbench.training.export.write_student", full)
        refused(cli(*TRAIN, "--max-steps", "1"), 4, "cannot write the student to s", "No space left", "go on with --resume")
    assert cli(*TRAIN, "--max-steps", "1", "--resume")[0] == 0
    assert json.loads((tmp_path / "s" / "student.json").read_text())["updates"] == 1


# --- divergence ------------------------------------------------------------------------------------------------------


def test_a_diverging_training_is_exit_code_1_and_what_it_says_to_do_works(cli, tmp_path):
    failing = ("train", "failing", *TRAIN[2:])
    refused(cli(*failing, "--max-steps", "9"), 1, "step 2: the student's consistency loss is nan",
            "No checkpoint had been made yet", "lower learning rate")  # fmt: skip
    assert cli(*failing, "--max-steps", "2")[0] == 0, "the same --out is free still"
    kept, student = contents(tmp_path / "s" / "checkpoint"), (tmp_path / "s" / "student.json").read_bytes()
    refused(cli(*failing, "--max-steps", "9", "--resume"), 1, "step 2: the student's consistency loss is nan",
            "The checkpoint of step 2 is kept in s: export it with --resume --max-steps 2")  # fmt: skip
    assert contents(tmp_path / "s" / "checkpoint") == kept and (tmp_path / "s" / "student.json").read_bytes() == student
    (tmp_path / "s" / "student.json").unlink()
    assert cli(*failing, "--max-steps", "2", "--resume")[0] == 0
    assert json.loads((tmp_path / "s" / "student.json").read_text())["steps"] == 2


def test_an_update_that_breaks_the_weights_does_not_replace_a_good_checkpoint(files, after_one_step, tmp_path, monkeypatch):
    """Loss and gradient were finite, the update was not, and a checkpoint is due before the next step would show it."""
    options, out = {"lr": "1e-3", "w_min": "0", "w_max": "4"}, tmp_path / "s"
    kept = contents(out / "checkpoint")

    def breaks(ema, student, decay):
        next(student.parameters()).data.fill_(float("inf"))

    monkeypatch.setattr("scottbench.training.loop.update_ema", breaks)
    with pytest.raises(TrainingDiverged, match=r"step 1: weights or moments are no longer finite \(student\).*step 1 is kept"):
        train(with_cd(files), "tiny", "cd", out, max_steps=2, options=options, resume=True)
    assert contents(out / "checkpoint") == kept


def test_the_best_student_of_a_diverged_training_is_named_and_not_written_over(files, tmp_path):
    options = {"lr": "1e-3", "w_min": "0", "w_max": "4"}
    flags = {"evaluate_every": 1, "export": "best", "evaluate_steps": 1}
    with pytest.raises(TrainingDiverged, match="The best student so far is in .*best"):
        train(with_cd(files), "tiny", "failing", tmp_path / "s", max_steps=5, options=options, **flags)
    before = contents(tmp_path / "s" / "best")
    with pytest.raises(UsageError, match="best holds the best student of a training that ended early. Move it away, or give another --out"):
        train(with_cd(files), "tiny", "failing", tmp_path / "s", max_steps=1, options=options, **flags)
    assert before and contents(tmp_path / "s" / "best") == before
