"""The command line as a person meets it: speed, suggestions, exit codes, tables, JSON, interruption."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import tiny_plugin
import transformers
from fake_run import cell_entry, manifest_of, metric_entry, result_row

from scottbench.cli import invoke
from scottbench.errors import EXIT_CODES, ScottbenchWarning
from scottbench.report.forms import terminal
from scottbench.report.results import leading_tables
from scottbench.store.record import read_record

MAIN = "import sys; from scottbench.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny random pipeline, evaluator and student."""
    return tiny_plugin.make_files(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def cli(folder, tmp_path, monkeypatch, capsys):
    """cli("run", "-p", "tiny") -> (exit code, stdout, stderr), in an empty working folder, with the tiny plug-in alone."""
    plugins = tiny_plugin.tiny_plugins(folder)
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.chdir(tmp_path)
    transformers.logging.disable_progress_bar()  # another test may have imported it with bars on; a fresh process does not

    def call(*arguments: str) -> tuple[int, str, str]:
        code = invoke(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


# --- start-up ---------------------------------------------------------------------------------------------------------


def processor_seconds(*arguments: str) -> float:
    """User and system time of a Python process: what it takes on an idle machine, however busy this one is."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-P", *arguments], check=True, stdout=subprocess.DEVNULL, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_there_within_0_4_seconds_of_bare_python():
    bare = min(processor_seconds("-c", "pass") for _ in range(3))
    assert min(processor_seconds("-c", MAIN, "--help") for _ in range(3)) - bare <= 0.4


QUICK = [["--help"], ["--version"], [], ["run", "--help"], ["list", "methods"], ["run", "-s", "0"], ["run", "-m", "no-such-method"]]


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_nothing_heavy_is_imported_to_answer_a_question_or_refuse_a_value(arguments):
    program = f"import sys; from scottbench.cli import invoke; invoke({arguments!r}); print(*sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    modules = set(found.stderr.split())
    assert "click" in modules
    assert not {"torch", "diffusers", "transformers", "polars", "matplotlib", "scipy", "open_clip"} & modules


def test_no_verb_prints_a_quick_start_of_twelve_lines(cli):
    code, out, err = cli()
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= 12
    assert "scottbench run" in out


def test_the_version_is_the_packages(cli):
    from scottbench import __version__

    assert cli("--version") == (0, f"scottbench {__version__}\n", "")


@pytest.mark.parametrize("verb", [
    "run", "plan", "resume", "merge", "score", "verify", "runs", "train", "adopt", "list", "show", "report", "config",
    "doctor"])  # fmt: skip
def test_every_verb_explains_itself(cli, verb):
    code, out, _ = cli(verb, "--help")
    assert code == 0
    assert out.startswith(f"Usage: scottbench {verb}")


# --- bad input: exit code, one line, nothing written ------------------------------------------------------------------

BAD = [
    (["run", "-p", "tiny", "-s", "0"], "--steps must be a whole number of at least 1, found '0'"),
    (["run", "-p", "tiny", "-s", "-1"], "found '-1'"),
    (["run", "-p", "tiny", "-s", "two"], "found 'two'"),
    (["run", "-p", "tiny", "-s", "2.0"], "found '2.0'"),
    (["run", "-p", "tiny", "-s", "1,,2"], "a name is missing between the commas"),
    (["run", "-p", "tiny", "-s", "2,2"], "--steps has '2' twice"),
    (["run", "-p", "tiny", "-s", "2000"], "--steps 2000"),
    (["run", "-p", "tiny", "-n", "0"], "--limit must be a whole number of at least 1"),
    (["run", "-p", "tiny", "-n", "9" * 400], "--limit must be a whole number of at least 1"),
    (["run", "-p", "tiny", "-n", "13"], "12 items"),
    (["run", "-p", "tiny", "-b", "0"], "--batch-size must be a whole number of at least 1"),
    (["run", "-p", "tiny", "-b", "many"], "found 'many'"),
    (["run", "-p", "tiny", "--seed", "-1"], "--seeds must be whole numbers of at least 0"),
    (["run", "-p", "tiny", "--guidance", "nan"], "--guidance must be a number"),
    (["run", "-p", "tiny", "-m", "ode@guidance=x"], "guidance scale must be a number"),
    (["run", "-p", "tiny", "-m", "hopp"], "unknown method 'hopp'. Did you mean 'hop'?"),
    (["run", "-p", "tiny", "-m", "gap"], "('gap' is a metric: use --metrics gap)"),
    (["run", "-p", "tiny", "-k", "ode"], "('ode' is a method: use --methods ode)"),
    (["run", "-p", "tiny", "-m", "ode,ode"], "--methods has 'ode' twice"),
    (["run", "-p", "tiny", "-m", ""], "a name is missing"),
    (["run", "-p", "tinny"], "unknown preset 'tinny'. Did you mean 'tiny'?"),
    (["run", "-p", "tiny", "-O", "eta"], "must have the form key=value"),
    (["run", "-p", "tiny", "-O", "eta=1"], "no method of this run has an option 'eta'"),
    (["run", "-p", "tiny", "-m", "ode@eta=1"], "method 'ode' has no option 'eta'"),
    (["run", "-p", "tiny", "--student", "hop"], "NAME=FOLDER"),
    (["run", "-p", "tiny", "-d", "abacus"], "--device abacus"),
    (["run", "--stepz", "2"], "No such option '--stepz'"),
    (["run", "-s"], "requires an argument"),
    (["run", "surplus"], "surplus"),
    (["rnu"], "unknown command 'rnu'. Did you mean 'run'?"),
    (["list", "method s"], "Did you mean 'methods'?"),
    (["show", "plugin", "tin"], "Did you mean 'tiny'?"),
    (["show", "method", "od"], "Did you mean 'ode'?"),
    (["show", "methud", "ode"], "Did you mean 'methods'?"),
    (["report", "no-such-folder"], "no run 'no-such-folder'"),
    (["train", "hopp", "-p", "tiny"], "unknown trainer 'hopp'. Did you mean 'hop'?"),
    (["train", "ode", "-p", "tiny"], "('ode' is a method: use --methods ode)"),
    (["train", "hop", "-p", "tiny", "--minutes", "0"], "--minutes must be above 0"),
    (["train", "hop", "-p", "tiny", "--max-steps", "0"], "--max-steps must be"),
    (["train", "hop", "-p", "tiny", "--accumulate", "none"], "--accumulate must be a whole number"),
    (["train", "hop", "-p", "tiny", "--evaluate-every", "-1"], "--evaluate-every must be"),
    (["train", "hop", "-p", "tiny", "--patience", "2"], "patience and export best need a metric curve"),
    (["train", "hop", "-p", "tiny", "--precision", "half"], "'precision' must be one of: auto, float32, bfloat16, float16"),
    (["train", "hop", "-p", "tiny", "--precision", "float16", "-d", "cpu"], "a CPU trains in float32 only"),
    (["train", "hop", "-p", "tiny", "--weights", "all"], "'weights' must be one of: ema, student, both"),
    (["train", "hop", "-p", "tiny", "-b", "3", "--accumulate", "2"], "a batch of 3 cannot be cut into 2 equal parts"),
    (["train", "hop", "-p", "tiny", "--tracker", "nonsense"], "--tracker nonsense"),
    (["train", "hop", "-p", "tiny", "-O", "lr=1"], "trainer 'hop' has no option 'lr'"),
    (["train", "hop", "-p", "tiny", "--resume", "-o", "nowhere"], "nothing to resume"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_ends_with_exit_code_2_and_one_line_and_writes_nothing(cli, tmp_path, arguments, words):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_a_file_is_refused_and_left_alone(cli, tmp_path):
    (tmp_path / "out").write_text("mine")
    code, out, err = cli("run", "-p", "tiny", "-o", "out")
    assert (code, out) == (2, "")
    assert "out is a file" in err
    assert (tmp_path / "out").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_output_folder_below_a_file_is_refused(cli, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, _, err = cli("run", "-p", "tiny", "-o", "file/out")
    assert code == 2
    assert "Traceback" not in err


def test_an_output_folder_with_other_things_in_it_is_refused(cli, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    code, _, err = cli("run", "-p", "tiny", "-o", "out")
    assert code == 2
    assert "not empty" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a folder that even root may not write to: Linux's /sys")
def test_an_output_folder_that_is_not_writable_is_refused(cli):
    code, _, err = cli("run", "-p", "tiny", "-o", "/sys/scottbench")
    assert code == 2
    assert err == "error: cannot write /sys/scottbench: Operation not permitted. Name a folder that is writable with --out.\n"


def test_a_missing_student_folder_is_exit_code_3(cli, tmp_path):
    code, out, err = cli("run", "-p", "tiny", "-m", "hop", "--student", "hop=nowhere")
    assert (code, out) == (3, "")
    assert "nowhere" in err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_pipeline_folder_is_exit_code_3_and_names_what_is_missing(cli, tmp_path):
    code, _, err = cli("run", "-p", "tiny", "-m", "ode", "--model", "./nowhere")
    assert code == 3
    assert "nowhere" in err
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named_one_file_a_line(cli, monkeypatch):
    from scottbench.errors import MissingAsset

    def nothing_here(*arguments):
        raise MissingAsset("model 'tiny' cannot be used:\n  missing a.safetensors (3.4 GB)\n  missing b.json")

    monkeypatch.setattr("scottbench.plan.plan.make_plan", nothing_here)
    assert cli("run", "-p", "tiny") == (
        3, "", "error: model 'tiny' cannot be used:\n  missing a.safetensors (3.4 GB)\n  missing b.json\n")  # fmt: skip


def test_an_error_message_cannot_steer_the_terminal(cli):
    code, _, err = cli("run", "-p", "tiny", "-m", "x\x1b]0;owned\x07\x1b[2Jy")
    assert code == 2
    assert "\x1b" not in err
    assert "'xy'" in err


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory) -> tuple[Path, str, str]:
    """(run folder, stdout, stderr) of a table run of two methods at one and two steps on eight items."""
    out = tmp_path_factory.mktemp("runs") / "a"
    tiny = f"q = tiny_plugin.tiny_plugins(pathlib.Path({str(folder)!r})); p.load_plugins = lambda: q; "
    program = "import pathlib, tiny_plugin, scottbench.registry.loader as p; " + tiny + MAIN
    paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-P", "-c", program, "run", "-p", "tiny", "-m", "ode,hop", "-s", "1,2", "-n", "8", "-o", str(out)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert found.returncode == 0, found.stderr
    return out, found.stdout, found.stderr


def test_a_run_prints_its_table_on_stdout_and_its_progress_on_stderr(finished):
    out, stdout, stderr = finished
    lines = stdout.splitlines()
    assert lines[0] == "metrics on tiny features, N = 8"
    assert lines[1].split() == ["method", "steps", "NFE", "gap", "↓", "agreement", "↑", "ms/image", "↓", "ms/call"]
    assert [line.split()[:3] for line in lines[2:6]] == [["ode", "1", "2"], ["ode", "2", "4"], ["hop", "1", "1"], ["hop", "2", "2"]]
    assert f"report  {out / 'report' / 'index.html'}" in lines
    assert "\x1b" not in stdout
    assert "ode, 1 step" in stderr and "__seed0" not in stderr
    assert "8/8" in stderr
    assert "Loading weights" not in stderr


def test_json_is_one_document_with_the_rows_of_the_records(finished, cli):
    import polars

    out, _, _ = finished
    code, stdout, _ = cli("run", "-p", "tiny", "-m", "ode,hop", "-s", "1,2", "-n", "8", "-o", str(out), "--json", "-q")
    document = json.loads(stdout)
    assert code == 0
    assert document["run"] == str(out)
    assert document["results"] == polars.read_parquet(out / "results.parquet").to_dicts()
    assert {row["stage"] for row in document["timings"]} >= {"text", "denoise", "decode", "features"}
    assert document["plan_hash"] == json.loads((out / "manifest.json").read_text())["plan_hash"]
    assert Path(document["report"]).is_file()


def test_the_folder_of_another_plan_is_refused_and_left_alone(finished, cli):
    out, _, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code, _, err = cli("run", "-p", "tiny", "-m", "ode", "-n", "8", "-o", str(out))
    assert code == 2
    assert "holds a run of plan" in err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_quiet_writes_no_progress(finished, cli):
    out, _, _ = finished
    code, _, err = cli("run", "-p", "tiny", "-m", "ode,hop", "-s", "1,2", "-n", "8", "-o", str(out), "-q")
    assert (code, err) == (0, "")


def test_the_manifest_remembers_the_command_line(cli, tmp_path):
    assert cli("run", "-p", "tiny", "-m", "ode@guidance=1", "-s", "1", "-n", "2", "-o", "a b", "-q")[0] == 0
    manifest = json.loads((tmp_path / "a b" / "manifest.json").read_text())
    assert manifest["command"] == "scottbench run -p tiny -m ode@guidance=1 -s 1 -n 2 -o 'a b' -q"


def test_report_rebuilds_the_page_and_prints_its_path(finished, cli):
    out, _, _ = finished
    page = out / "report" / "index.html"
    before = page.read_bytes()
    page.unlink()
    assert cli("report", str(out))[:2] == (0, f"{page}\n")
    assert page.read_bytes() == before


def test_failed_cells_are_exit_code_1_and_the_others_are_printed(folder, tmp_path, monkeypatch, capsys):
    from scottbench.registry.nouns import Method

    def fails(run):
        raise RuntimeError("of no use")

    plugins = tiny_plugin.tiny_plugins(folder, methods=[Method("bad", "s", fails, tiny_plugin.timesteps)])
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.chdir(tmp_path)
    code = invoke(["run", "-p", "tiny", "-m", "bad,ode", "-s", "1", "-n", "4", "-q"])
    captured = capsys.readouterr()
    assert code == 1
    assert "of no use" in captured.err
    assert captured.out.splitlines()[1].split() == ["bad", "1", "-", "-", "-", "0.0"] or "bad" in captured.out
    assert any(line.startswith("ode ") for line in captured.out.splitlines())
    why = "of bad at 1 step: method 'bad' of plug-in 'tiny' failed in sample: RuntimeError: of no use (test_cli.py:"
    assert [line.startswith("-  ") for line in captured.out.splitlines() if why in line] == [True, True]  # a line a metric


def test_ctrl_c_in_a_run_says_how_to_go_on(folder, tmp_path, monkeypatch, capsys):
    from scottbench.registry.nouns import Method

    def interrupted(run):
        raise KeyboardInterrupt

    plugins = tiny_plugin.tiny_plugins(folder, methods=[Method("stop", "s", interrupted, tiny_plugin.timesteps)])
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.chdir(tmp_path)
    assert invoke(["run", "-p", "tiny", "-m", "stop", "-s", "1", "-n", "2", "-q"]) == 130
    captured = capsys.readouterr()
    (made,) = (tmp_path / "runs").iterdir()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == f"error: interrupted; finished work is kept. Go on with: scottbench resume runs/{made.name}"


def test_the_embedded_default_runs_end_to_end(tmp_path, monkeypatch, capfd):
    """What `scottbench run` promises without any flag but --limit: two students, seven metrics, a report, two network calls an image. That
    a process of its own says no more: the run of `finished`."""
    monkeypatch.chdir(tmp_path)
    transformers.logging.disable_progress_bar()
    capfd.readouterr()
    with pytest.warns(ScottbenchWarning, match="rank"):  # 16 images are fewer than the features have dimensions, and of that a user is told
        assert invoke(["run", "--limit", "16", "--json", "-q"]) == 0
    stdout, stderr = capfd.readouterr()
    assert all(line.startswith("warning: ") and "rank" in line for line in stderr.splitlines()), stderr
    document = json.loads(stdout)
    values = {(row["method"], row["metric"]): row["value"] for row in document["results"]}
    metrics = {"fid", "fid_t", "clip_score", "coverage", "precision", "recall", "density"}
    assert set(values) == {(method, metric) for method in ("scott", "cd") for metric in metrics}
    assert all(0 <= values[method, "coverage"] <= 1 and values[method, "fid"] > 0 for method in ("scott", "cd"))
    assert {(row["steps"], row["nfe"], row["n"], row["dataset"]) for row in document["results"]} == {(2, 2, 16, "emoji5k")}
    (made,) = (tmp_path / "runs").iterdir()
    assert document["run"] == f"runs/{made.name}"
    assert (made / "report" / "index.html").stat().st_size > 10_000


# --- tables -----------------------------------------------------------------------------------------------------------

METRICS = [
    {**metric_entry(name, 64, "pocket features"), "digits": digits} for name, digits in (("fid", 2), ("coverage", 3))]  # fmt: skip
STAGES = {"text": 0.001, "denoise": 0.02, "decode": 0.004, "features": 5.0, "store": 7.0}


def shown(folder: Path, *values: tuple[str, float | None, float | None], metrics=METRICS, timed=()) -> tuple[str, list, list, set]:
    """(title, headings, rows of text, {(row, column) that is best}) as printed of a run of methods at two steps: (method, FID, coverage).

    timed: methods that have times.
    """
    folder.mkdir()
    cells = [cell_entry(method, 2, 64) for method, *_ in values]
    (folder / "manifest.json").write_text(json.dumps(manifest_of(cells, metrics, [], [], 64)))
    found = [result_row(cell, metric, value) for cell, (_, *pair) in zip(cells, values) for metric, value in zip(metrics, pair)]
    pl.DataFrame(found).write_parquet(folder / "results.parquet")
    each = [(cell, stage, seconds) for cell in cells for stage, seconds in STAGES.items() if cell["method"] in timed]
    key = {"method": pl.String, "steps": pl.Int64, "seed": pl.Int64, "stage": pl.String, "seconds_per_image": pl.Float64}
    rows = [(cell["method"], 2, 0, stage, seconds) for cell, stage, seconds in each]
    pl.DataFrame(rows, schema=key, orient="row").write_parquet(folder / "timings.parquet")
    (table,) = leading_tables(read_record(folder))
    header, *body = (re.split("  +", line) for line in terminal(table, screen=False).splitlines())
    return table.title, header, body, {(y, x) for y, row in enumerate(body) for x, field in enumerate(row) if field.startswith("*")}


def test_the_best_of_a_column_follows_its_direction_and_ties_are_shared(tmp_path):
    title, header, table, best = shown(tmp_path / "run", ("a", 1.004, 0.5), ("b", 1.0, 0.7), ("c", 2.0, None))
    assert title == "metrics on pocket features, N = 64"
    assert header == ["method", "steps", "NFE", "FID ↓", "Coverage ↑", "ms/image ↓", "ms/call"]
    assert best == {(0, 3), (1, 3), (1, 4)}  # 1.004 and 1.0 print alike with two digits
    assert [row[3] for row in table] == ["*1.00", "*1.00", "2.00"]
    assert table[2][4] == "-"


def test_a_nan_is_shown_as_missing_and_is_never_best(tmp_path):
    _, _, table, best = shown(tmp_path / "run", ("a", float("nan"), 0.5), ("b", 1.0, 0.7))
    assert table[0][3] == "-"
    assert (0, 3) not in best


def test_features_that_differ_stand_in_the_headings(tmp_path):
    metrics = [METRICS[0], {**METRICS[1], "extractor_label": "ViT-g-14"}]
    title, header, _, _ = shown(tmp_path / "run", ("a", 1.0, 0.5), metrics=metrics)
    assert title == "N = 64"
    assert header[3:5] == ["FID, pocket features ↓", "Coverage, ViT-g-14 ↑"]


def test_one_row_has_no_best(tmp_path):
    assert shown(tmp_path / "run", ("a", 1.0, 0.5))[3] == set()


def test_time_per_image_is_what_a_user_of_the_method_pays(tmp_path):
    assert shown(tmp_path / "run", ("a", 1.0, 0.5), timed="a")[2][0][-2:] == ["25.0", "10.00"]


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["methods", "metrics", "models", "datasets", "trainers", "presets", "plugins"])
def test_every_kind_is_listed_as_a_table_and_as_json(cli, kind):
    code, out, _ = cli("list", kind)
    assert code == 0
    assert out.splitlines()[0].split()[0] == "name"
    code, out, _ = cli("list", kind, "--json")
    listed = json.loads(out)
    assert code == 0
    assert listed
    assert all(row["status"] == "ok" and row["package"] and row["summary"] for row in listed)


def test_a_broken_plug_in_is_listed_and_a_run_of_another_goes_on_with_a_warning(folder, monkeypatch, capsys, tmp_path):
    from scottbench.registry.loader import Plugin

    plugins = tiny_plugin.tiny_plugins(folder)
    plugins.plugins.append(Plugin("extra", "extra", "acme", "2.0", "BROKEN: ImportError: peft", (("method", "lcm"),)))
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.chdir(tmp_path)
    assert invoke(["list", "methods"]) == 0
    captured = capsys.readouterr()
    assert "BROKEN: ImportError: peft" in captured.out
    assert "1 plug-in(s) BROKEN: extra" in captured.err
    assert invoke(["run", "-p", "tiny", "-m", "lcm"]) == 2
    captured = capsys.readouterr()
    assert "warning: plug-in 'extra' of acme 2.0 is BROKEN: ImportError: peft" in captured.err
    assert "Plug-in 'extra' of acme 2.0, which should bring it, is BROKEN" in captured.err


def test_a_model_and_its_preset_are_listed_as_missing_while_their_files_are_not_here(cli, folder):
    import dataclasses

    from scottbench.registry import loader

    plugins = loader.load_plugins()
    registered = plugins.nouns["model"]["tiny"]
    for place, status in ((folder / "model", "ok"), (folder / "nowhere", "files missing")):
        noun = dataclasses.replace(registered.noun, folder=lambda place=place: place)
        plugins.nouns["model"]["tiny"] = dataclasses.replace(registered, noun=noun)
        assert [row["status"] for row in json.loads(cli("list", "models", "--json")[1])] == [status]
        assert [row["status"] for row in json.loads(cli("list", "presets", "--json")[1])] == [status]


def test_show_prints_where_a_noun_comes_from(cli):
    code, out, _ = cli("show", "methods", "hop")
    assert code == 0
    for words in ("file", "tiny_plugin.py", "trainer   hop", "guidance  2.5"):
        assert words in out
    assert json.loads(cli("show", "preset", "tiny", "--json")[1])["dataset"] == "dots"


def test_markup_and_escapes_of_a_plug_in_are_printed_as_text(folder, monkeypatch, capsys):
    from scottbench.registry.nouns import Metric

    hostile = Metric("evil", "[bold]red[/bold] :boom: \x1b[31m<script>", print, higher_is_better=True)
    plugins = tiny_plugin.tiny_plugins(folder, metrics=[hostile])
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert invoke(["list", "metrics"]) == 0
    out = capsys.readouterr().out
    assert "[bold]red[/bold] :boom: <script>" in out
    assert "\x1b" not in out


# --- the way out ------------------------------------------------------------------------------------------------------


def listing(load: str) -> subprocess.Popen:
    """`scottbench list methods`, started, with an expression in place of load_plugins()."""
    # a suite started in the background of a shell hands on that Ctrl-C is ignored
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{heed}\nimport time, scottbench.registry.loader as p\np.load_plugins = lambda: {load}\n{MAIN}"
    command = [sys.executable, "-P", "-c", program, "list", "methods"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_with_its_exit_code_and_one_line(number, code):
    process = listing("(print('ready', flush=True), time.sleep(60))")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.strip().startswith("error: ")
    assert err.strip().count("\n") == 0


def test_a_reader_that_has_seen_enough_is_no_error():
    process = listing("(time.sleep(1), p.Plugins())[1]")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 0


def test_a_bug_of_ours_is_one_line_and_a_file_without_secrets(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: {}["hf_abcdefgh \x1b[31m"])
    code, out, err = cli("list", "methods")
    assert (code, out) == (70, "")
    assert err.startswith("error: unexpected KeyError: ") and err.count("\n") == 1 and "scottbench-crash.txt" in err
    text = (tmp_path / "scottbench-crash.txt").read_text()
    assert "Traceback" in text and "torch: " in text and "command: scottbench list methods" in text
    assert "hf_abcdefgh" not in text + err and "\x1b" not in text + err


def test_where_the_current_folder_cannot_be_written_the_file_goes_to_a_temporary_one(cli, monkeypatch, tmp_path):
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: 1 / 0)
    (tmp_path / "scottbench-crash.txt").mkdir()
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str((tmp_path / "elsewhere").mkdir() or tmp_path / "elsewhere"))
    code, _, err = cli("list", "methods")
    assert code == 70 and str(tmp_path / "elsewhere" / "scottbench-crash.txt") in err


@pytest.mark.parametrize(("error", "code", "words"), [
    (FileNotFoundError(2, "No such file or directory", "gone/manifest.json"), 4, "gone/manifest.json is not there"),
    (FileNotFoundError(2, "No such file or directory", "/usr/lib/ours.json"), 70, "unexpected FileNotFoundError"),
    (OSError(36, "File name too long", "x" * 300), 2, "File name too long"),
    (OSError(28, "No space left on device", "a"), 4, "no space left while writing a"),
    (MemoryError(), 4, "not enough memory"),
    (RecursionError("maximum recursion depth exceeded"), 70, "unexpected RecursionError"),
    (GeneratorExit("?"), 70, "unexpected GeneratorExit"),
])  # fmt: skip
def test_whatever_is_raised_is_one_line_with_a_documented_code(cli, monkeypatch, error, code, words):
    def load():
        raise error

    monkeypatch.setattr("scottbench.registry.loader.load_plugins", load)
    found, _, err = cli("list", "methods")
    assert (found, err.count("\n")) == (code, 1) and err.startswith("error: ") and words in err and code in EXIT_CODES


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"FID v ?"), ("cp1252", b"FID v \xe9"), ("utf-8", "FID ↓ é".encode())])
def test_a_sign_that_stdout_lacks_is_replaced(encoding, shown, monkeypatch):
    from scottbench.cli import streams

    under = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(under, encoding=encoding, errors="strict"))
        patch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict"))
        streams.prepare()
        sys.stdout.write("FID ↓ é")
        sys.stdout.flush()
        sys.stderr.write("nu\udcff\n")  # a file name that is no UTF-8
        assert under.getvalue() == shown


def test_streams_that_are_closed_or_full_cost_no_traceback(tmp_path):
    """One process each: the shell's own redirections are the input."""
    program = shlex.join([sys.executable, "-P", "-c", MAIN])
    cases = {  # line -> exit code, lines on stderr
        f"{program} --version >&-": (0, 0),
        f"{program} --version > /dev/full": (4, 1),
        f"{program} list nope 2> /dev/full": (2, 0),
        f"{program} list nope 2>&-": (2, 0),
    }
    for line, (code, lines) in cases.items():
        found = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (found.returncode, len(found.stderr.splitlines())) == (code, lines), (line, found)


def test_a_warning_of_ours_is_one_line_and_others_keep_their_place(monkeypatch):
    import warnings

    from scottbench.cli import main
    from scottbench.errors import ScottbenchWarning
    from scottbench.registry import guard

    # `main` makes the process its own; the tests after this one have theirs back
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(guard, "INTERRUPTS", guard._Interrupts())
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit):
            main(["--version"])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert warnings.formatwarning(ScottbenchWarning("few images"), ScottbenchWarning, "a.py", 3, None) == "warning: few images\n"
    assert "a.py:3" in warnings.formatwarning(UserWarning("few images"), UserWarning, "a.py", 3, None)
