"""scottbench score on pictures, and --method, --dataset of run and plan: what a person sees, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_plugin
import transformers
from PIL import Image
from scottbench_folder import register_datasets
from tiny_plugin import Dots

from scottbench.cli import invoke
from scottbench.cli.score import rows_of
from scottbench.errors import UsageError
from scottbench.registry.nouns import Metric

WORDS = Metric("words", "as agreement", tiny_plugin.agreement, True, features="clip", reference=False)


@pytest.fixture
def cli(files, tmp_path, monkeypatch, capsys):
    """cli("score", "a") -> (exit code, stdout, stderr), in a folder with pictures a/, b/ and captions c.csv, with the tiny plug-in."""
    plugins = tiny_plugin.tiny_plugins(files, metrics=[WORDS])
    plugins.nouns["dataset"]["folder"] = tiny_plugin.registered("dataset", register_datasets()[0])
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.chdir(tmp_path)
    transformers.logging.disable_progress_bar()
    for folder, shift in (("a", 0), ("b", 100)):
        Path(folder).mkdir()
        for k, name in enumerate(Dots.ids[:6]):
            Image.fromarray(Dots().images([k + shift])[0]).save(f"{folder}/{name}.png")
    Path("c.csv").write_text("file,caption\n" + "".join(f"{name}.png,{text}\n" for name, text in zip(Dots.ids[:6], Dots.prompts)))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = invoke([*arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


SCORE = ("-p", "tiny", "--prompts", "c.csv", "-q")


def test_two_folders_are_two_rows_with_names_and_a_test(cli):
    code, out, err = cli("score", "a", "b", *SCORE, "--name", "flux-api", "-k", "words", "-o", "run")
    assert (code, err) == (0, "") and "steps" in out and "flux-api" in out and "flux-api - b" in out and "ms/image" not in out
    assert cli("verify", "run")[0] == 0
    code, out, _ = cli("compare", "run", "flux-api", "b", "--json")
    assert code == 0 and json.loads(out)["pairs"][0]["n"] == 6
    assert cli("export", "run", "-o", "out")[0] == 0 and "flux-api" in Path("out/results.md").read_text()
    assert cli("report", "run")[0] == 0
    code, out, _ = cli("score", "run", "-k", "agreement", "--json", "-q")  # of a run, other metrics
    assert code == 2  # it compares with a reference by its author's word, and there is none


def test_a_broken_picture_is_named_the_rest_is_measured_and_the_code_is_1(cli):
    Path("a/dot-02.png").write_bytes(b"x")
    code, out, err = cli("score", "a", *SCORE, "-k", "words", "-o", "run", "--json")
    assert code == 1 and "error: the rest was measured, but a: 1 picture left out: dot-02.png cannot be decoded" in err
    assert json.loads(out)["results"][0]["n"] == 5 and json.loads(Path("run/manifest.json").read_text())["status"] == "complete"
    assert "1 picture left out: dot-02.png" in " ".join(json.loads(Path("run/manifest.json").read_text())["limits"])


def test_a_reference_that_is_a_dataset_brings_its_preset_and_a_folder_does_too(cli):
    code, out, err = cli("score", "a", "--reference", "dots", "-q", "-k", "gap", "-o", "run")
    assert code == 0 and "preset" not in err and json.loads(Path("run/manifest.json").read_text())["plan"]["preset"] == "tiny"
    code, out, err = cli("score", "b", *SCORE, "--reference", "a", "-n", "4", "-k", "gap", "--json", "-o", "other")
    assert code == 0 and json.loads(out)["results"][0]["value"] > 0 and json.loads(out)["results"][0]["n"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["score", "a", "-p", "tiny", "-q", "-k", "words"], "a has no captions: name a file of them with --prompts"),
        (["score", "a", *SCORE, "-k", "gap"], "metric 'gap' compares with reference images, and there are none"),
        (["score", "a", *SCORE, "--reference", "nothing"], "unknown dataset 'nothing'"),
        (["score", "a", *SCORE, "--model", "x"], "pictures are scored without a model"),
        (["score", "none", "-k", "gap"], "no run 'none'"),
        (["score", "none", *SCORE, "-k", "words"], "no folder none: name a folder of pictures"),
        (["run", "-p", "tiny", "--method", "x", "-q"], "--method must have the form NAME=FOLDER"),
        (["plan", "-p", "tiny", "--dataset", "a"], "a has no captions: give captions.csv"),
    ],
)
def test_what_cannot_be_scored_is_one_line_and_code_2(cli, arguments, words):
    code, _, err = cli(*arguments)
    assert code == 2 and words in err and err.count("\n") == 1 and not Path("runs").exists()


def test_flags_of_pictures_are_refused_for_a_run(cli):
    assert cli("score", "a", *SCORE, "-k", "words", "-o", "run")[0] == 0
    assert "name the metrics to measure the run with" in cli("score", "run", "-q")[2]
    for more in ((), ("--reference", "a")):  # before anything else is said of it
        assert "no run 'absent.npz': neither a run folder" in cli("score", "absent.npz", "-q", *more)[2]
    assert "--reference is for pictures, and run is a run" in cli("score", "run", "-k", "words", "--reference", "a")[2]


def test_plan_prints_the_guidance_of_each_row_and_none_of_pictures(cli):
    for name in Dots.ids[6:]:
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(f"a/{name}.png")
    code, out, err = cli("plan", "-p", "tiny", "-m", "ode,hop", "--method", "real=a")
    rows = {line.split()[0]: line.split()[1:4] for line in out.splitlines() if "__" in line}
    assert rows == {
        "ode__s2__seed0": ["3", "12", "4"], "hop__s2__seed0": ["2.5", "12", "2"], "real__images": ["-", "12", "-"]}, (out, err)  # fmt: skip
    assert "24 images, 1 row of pictures given" in out
    code, out, err = cli("plan", "-p", "tiny", "-m", "ode", "--dataset", "b", "--prompts", "c.csv", "--json")
    assert code == 0 and json.loads(out)["prompts"] == 6 and json.loads(out)["cells"][0]["guidance_scale"] == 3


def test_rows_are_called_by_their_folders_unless_they_are_named(tmp_path):
    first, second = str(tmp_path / "x"), str(tmp_path / "y z")
    rows = rows_of((first, second), ("flux",))
    assert list(rows.values()) == [first, second] and next(iter(rows)) == "flux" and list(rows)[1].startswith("y_z-")
    with pytest.raises(UsageError, match="two rows are called 'x'"):
        rows_of((str(tmp_path / "x"), str(tmp_path / "b" / "x")), ())
    with pytest.raises(UsageError, match="2 names for 1 places"):
        rows_of(("x",), ("a", "b"))
