"""A run end to end on tiny random networks: images depend on nothing but the item, results on nothing but the plan."""

import json
import socket
import zipfile

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from tiny_plugin import PRESET, Dots, timesteps, tiny_plugins

from scottbench.errors import Incomplete, ScottbenchError, UsageError
from scottbench.models.noise import ItemNoise
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Method, Metric
from scottbench.run import sample, worker
from scottbench.run.execute import execute
from scottbench.store.folder import RunFolder

quiet = lambda event: None  # noqa: E731


@pytest.fixture(scope="module")
def plan(plugins):
    return make_plan(plugins, RunRequest("tiny", device="cpu", command="scottbench run -p tiny"))


@pytest.fixture(scope="module")
def folder(plan, plugins, tmp_path_factory):
    """One finished run; read only."""
    events = []
    root = execute(plan, plugins, tmp_path_factory.mktemp("run") / "run", None, events.append)
    (root / "events.json").write_text(json.dumps(events))
    return root


def images(root, cell):
    """(12, 64, 64, 3) uint8 of a cell."""
    with zipfile.ZipFile(root / "images" / cell / "00000-00011.zip") as archive:
        return np.stack([np.asarray(Image.open(archive.open(f"{item_id}.png"))) for item_id in Dots.ids])


def manifest(root):
    return json.loads((root / "manifest.json").read_text())


CELLS = ["ode__s2__seed0", "hop__s2__seed0"]
WITHOUT_PAGE = pytest.mark.usefixtures("no_page")
"""For tests of images and tables: the report would be half of their time."""


@pytest.fixture
def no_page(monkeypatch):
    monkeypatch.setattr("scottbench.report.build", lambda root: root)


def test_a_run_leaves_everything_that_was_promised(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    chunk = "00000-00011"
    places = [f"images/{cell}" for cell in (*CELLS, "reference")] + [f"features/{owner}/image" for owner in (*CELLS, "reference", "text")]
    for place in places:
        assert f"{place}/{chunk}.json" in names
    assert {"manifest.json", "plan.lock.json", "results.parquet", "timings.parquet", "report/index.html"} <= names
    assert not [name for name in names if name.endswith(".tmp")]


def test_results_are_one_row_per_cell_and_metric_in_plan_order(folder, plan):
    rows = pl.read_parquet(folder / "results.parquet")
    found = rows.select("method", "steps", "metric").rows()
    assert found == [("ode", 2, "gap"), ("ode", 2, "agreement"), ("hop", 2, "gap"), ("hop", 2, "agreement")]
    assert rows["n"].to_list() == [12] * 4 and rows["dataset"].to_list() == ["dots"] * 4
    assert rows["guidance_scale"].to_list() == [3.0, 3.0, 2.5, 2.5] and rows["higher_is_better"].to_list() == [False, True] * 2
    assert rows["fingerprint"].to_list() == [metric.fingerprint for metric in plan.metrics] * 2
    assert rows["value"].is_finite().all()


def test_a_value_is_the_metric_of_the_stored_features(folder):
    made = np.load(folder / "features/hop__s2__seed0/image/00000-00011.npy")
    real, text = (np.load(folder / f"features/{owner}/image/00000-00011.npy") for owner in ("reference", "text"))
    values = pl.read_parquet(folder / "results.parquet").filter(pl.col("method") == "hop")["value"]
    assert values[0] == pytest.approx(np.linalg.norm(made.astype(float).mean(0) - real.astype(float).mean(0)), rel=1e-12)
    assert values[1] == pytest.approx((made.astype(float) * text).sum(1).mean(), rel=1e-12)


def test_evaluations_are_counted_a_guided_teacher_needs_two_a_step_a_student_one(folder):
    assert {cell["method"]: cell["nfe"] for cell in manifest(folder)["cells"]} == {"ode": 4, "hop": 2}
    assert pl.read_parquet(folder / "results.parquet")["nfe"].to_list() == [4, 4, 2, 2]


def test_the_record_says_how_it_was_made(folder, plan):
    record = manifest(folder)
    assert record["status"] == "complete" and record["plan_hash"] == plan.hash and record["plan"] == plan.record
    assert record["command"] == "scottbench run -p tiny" and record["limits"] == ["Random weights: the numbers mean nothing."]
    assert record["samples"] == {"ids": list(Dots.ids[:4]), "prompts": Dots.prompts[:4]}
    assert 0 < record["forward_share"] < 1 and record["forward_seconds"] < record["wall_seconds"]
    assert set(record["environment"]) == {"python", "platform", "cpu", "threads", "packages", "git", "device", "variables", "flags"}
    assert set(record["forward_seconds_by_part"]) == {"text encoder", "U-Net", "decoder", "extractor"}
    assert record["peak_memory_bytes"] > 2**20 and record["environment"]["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert record["cells"][1]["student"]["trainer"] == "hop" and record["cells"][1]["timesteps"] == [999, 499]
    assert [metric["extractor_label"] for metric in record["metrics"]] == ["tiny features"] * 2


def test_the_record_holds_no_path_of_this_machine(folder, files):
    for name in ("manifest.json", "plan.lock.json", "results.parquet", "timings.parquet"):
        data = (folder / name).read_bytes()
        assert str(files).encode() not in data and str(folder).encode() not in data


def test_the_clock_is_taken_off_the_networks_again(folder, plan):
    """Or the second run of one process would count its forward passes twice."""
    assert "forward" not in {**vars(plan.model.unet), **vars(plan.model.text_encoder)} and "decode" not in vars(plan.model.vae)


def test_timings_have_every_stage_of_every_cell(folder):
    rows = pl.read_parquet(folder / "timings.parquet")
    stages = ["text", "denoise", "decode", "features", "store", "sampling"]
    assert rows.select("method", "stage").rows() == [(method, stage) for method in ("ode", "hop") for stage in stages]
    assert (rows["seconds_total"] > 0).all() and (rows["seconds_per_image"] > 0).all()
    assert rows.filter(stage="sampling")["seconds_total"].to_list() == pytest.approx(
        [rows.filter(method=method, stage="text")["seconds_total"][0] + rows.filter(method=method, stage="denoise")["seconds_total"][0]
         + rows.filter(method=method, stage="decode")["seconds_total"][0] for method in ("ode", "hop")])  # fmt: skip
    assert rows.filter(pl.col("stage") != "sampling")["seconds_total"].sum() < 2 * manifest(folder)["wall_seconds"]


def test_progress_tells_stage_and_items(folder):
    events = json.loads((folder / "events.json").read_text())
    assert all(set(event) == {"stage", "cell", "done", "total"} for event in events)
    assert list(dict.fromkeys(event["stage"] for event in events)) == ["reference", "text", "cell", "metrics", "report"]
    assert [event["cell"] for event in events if event["stage"] == "cell" and event["done"] == event["total"]] == CELLS


def test_stored_features_are_those_of_the_stored_images(folder, plan):
    from scottbench.models.extractors import open_extractor

    made = np.load(folder / "features/ode__s2__seed0/image/00000-00011.npy")
    assert np.allclose(open_extractor(plan.sources["image"]).features(images(folder, "ode__s2__seed0")), made, atol=1e-6)
    with zipfile.ZipFile(folder / "images/reference/00000-00011.zip") as archive:
        assert np.array_equal(np.asarray(Image.open(archive.open("dot-03.png"))), Dots().images([3])[0])


@WITHOUT_PAGE
@pytest.mark.parametrize("size", [1, 7])
def test_images_do_not_depend_on_the_batch_size(folder, plan, plugins, tmp_path, monkeypatch, size):
    """Not by one bit, nor do the results; and every noise is a function of the item alone."""
    drawn = {}
    original = ItemNoise.__call__

    def spy(self, draw):
        noise = original(self, draw)
        for item_id, row in zip(self.ids, noise, strict=True):
            drawn.setdefault((item_id, draw), []).append(row.clone())
        return noise

    monkeypatch.setattr(ItemNoise, "__call__", spy)
    other = execute(plan, plugins, tmp_path / "run", size, quiet)
    for cell in CELLS:
        assert np.array_equal(images(other, cell), images(folder, cell))
    whole = ItemNoise(0, Dots.ids, plan.model.latent_shape)
    for draw in (0, 1):
        for item_id, expected in zip(Dots.ids, original(whole, draw), strict=True):
            assert all(torch.equal(row, expected) for row in drawn[item_id, draw])
    assert (other / "results.parquet").read_bytes() == (folder / "results.parquet").read_bytes()


@WITHOUT_PAGE
def test_images_depend_on_seed_prompt_method_and_guidance(folder, plugins, tmp_path):
    base = images(folder, "ode__s2__seed0").astype(int)
    changed = make_plan(plugins, RunRequest("tiny", methods=["ode"], seeds=[1], device="cpu"))
    other = execute(changed, plugins, tmp_path / "seed", None, quiet)
    assert np.abs(images(other, "ode__s2__seed1") - base).mean() > 1
    changed = make_plan(plugins, RunRequest("tiny", methods=["ode"], guidance=9.0, device="cpu"))
    other = execute(changed, plugins, tmp_path / "guided", None, quiet)
    assert np.abs(images(other, "ode__s2__seed0") - base).max() > 1
    assert np.abs(images(folder, "hop__s2__seed0") - base).mean() > 1
    assert len({image.tobytes() for image in base}) == 12


@WITHOUT_PAGE
def test_a_prefix_has_the_images_of_the_whole(folder, plugins, tmp_path):
    other = execute(make_plan(plugins, RunRequest("tiny", methods=["hop"], limit=5, device="cpu")), plugins, tmp_path / "run", None, quiet)
    with zipfile.ZipFile(other / "images/hop__s2__seed0/00000-00004.zip") as archive:
        found = [np.asarray(Image.open(archive.open(f"{item_id}.png"))).astype(int) for item_id in Dots.ids[:5]]
    assert np.array_equal(np.stack(found), images(folder, "hop__s2__seed0")[:5])


@WITHOUT_PAGE
def test_two_runs_of_one_plan_have_the_same_bytes(folder, files, tmp_path):
    again = tiny_plugins(files)
    other = execute(make_plan(again, RunRequest("tiny", device="cpu", command="other words")), again, tmp_path / "run", None, quiet)
    for name in ("results.parquet", "plan.lock.json", *(f"images/{cell}/00000-00011.zip" for cell in CELLS)):
        assert (other / name).read_bytes() == (folder / name).read_bytes(), name


@WITHOUT_PAGE
def test_a_killed_run_goes_on_with_its_finished_chunks(folder, files, plugins, monkeypatch, tmp_path):
    """Killed in the third round, before its first cell; the second attempt makes what is missing and no more."""
    monkeypatch.setattr("scottbench.store.folder.CHUNK", 4)
    made, original = [], sample.make_images

    def make(work, planned, model, span):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append((planned.id, span.start))
        return original(work, planned, model, span)

    monkeypatch.setattr(sample, "make_images", make)
    plan = make_plan(plugins, RunRequest("tiny", device="cpu"))
    with pytest.raises(KeyboardInterrupt):
        execute(plan, plugins, tmp_path / "run", None, quiet)
    assert manifest(tmp_path / "run")["status"] == "interrupted"
    made.clear()
    spent = manifest(tmp_path / "run")["wall_seconds"]
    root = execute(plan, plugins, tmp_path / "run", None, quiet)
    assert made == [("ode__s2__seed0", 8), ("hop__s2__seed0", 8)]  # the cells take turns
    record = manifest(root)
    assert record["status"] == "complete" and record["attempts"] == 2 and record["wall_seconds"] > spent
    assert [cell["nfe"] for cell in record["cells"]] == [4, 2]

    whole = execute(plan, plugins, tmp_path / "whole", None, lambda event: made.clear())
    assert (root / "results.parquet").read_bytes() == (whole / "results.parquet").read_bytes()


@WITHOUT_PAGE
def test_a_flipped_bit_is_found_and_that_chunk_made_again(folder, plan, plugins, tmp_path):
    import shutil

    root = shutil.copytree(folder, tmp_path / "run")
    paths = [root / "images/ode__s2__seed0/00000-00011.zip", root / "features/reference/image/00000-00011.npy"]
    good = [path.read_bytes() for path in paths]
    for path, data in zip(paths, good, strict=True):
        path.write_bytes(data[:-40] + bytes([data[-40] ^ 4]) + data[-39:])
    kept = (root / "images/hop__s2__seed0/00000-00011.zip").stat().st_mtime_ns
    execute(plan, plugins, root, None, quiet)
    assert [path.read_bytes() for path in paths] == good
    assert (root / "images/hop__s2__seed0/00000-00011.zip").stat().st_mtime_ns == kept
    assert (root / "results.parquet").read_bytes() == (folder / "results.parquet").read_bytes()


def test_the_folder_of_another_plan_is_left_alone(folder, plugins):
    before = (folder / "manifest.json").read_bytes()
    other = make_plan(plugins, RunRequest("tiny", steps=[1], device="cpu"))
    with pytest.raises(UsageError, match=other.hash[:12]):
        execute(other, plugins, folder, None, quiet)
    assert (folder / "manifest.json").read_bytes() == before


def test_a_batch_size_of_zero_writes_nothing(plan, plugins, tmp_path):
    with pytest.raises(UsageError, match="--batch-size 0"):
        execute(plan, plugins, tmp_path / "run", 0, quiet)
    assert not (tmp_path / "run").exists()


def test_a_run_without_out_has_a_folder_of_its_own(plan, plugins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = execute(plan, plugins, None, None, quiet)
    assert root.parent.name == "runs" and root.name.endswith(f"-tiny-{plan.hash[:8]}")


def test_no_socket_is_opened(files, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    plugins = tiny_plugins(files)
    execute(make_plan(plugins, RunRequest("tiny", methods=["hop"], limit=2, device="cpu")), plugins, tmp_path / "run", None, quiet)


# --- failures --------------------------------------------------------------------------------------------------------


def broken(sample, name="broken", times=timesteps):
    return Method(name, "", sample, times)


@pytest.mark.parametrize(("sample", "message"), [
    (lambda run: 1 / 0, "ZeroDivisionError"),
    (lambda run: run.denoise(run.noise(0) * torch.nan, 999)[0], "NaN or infinite"),
    (lambda run: run.denoise(run.noise(0), 999)[0][:, :, :4], "shape"),
    (lambda run: run.noise(0), "evaluated its network 0 times for 16 images"),
])  # fmt: skip
def test_a_cell_that_fails_costs_no_other_cell_its_numbers(folder, files, tmp_path, sample, message):
    plugins = tiny_plugins(files, methods=[broken(sample)])
    plan = make_plan(plugins, RunRequest("tiny", methods=["broken", "hop"], device="cpu", guidance=2.5))
    with pytest.raises(ScottbenchError, match=f"(?s)1 part.*broken__s2__seed0: .*{message}") as caught:
        execute(plan, plugins, tmp_path / "run", None, quiet)
    assert caught.value.exit_code == 1
    record = manifest(tmp_path / "run")
    assert record["status"] == "failed" and message in record["cells"][0]["error"] and record["cells"][1]["error"] is None
    rows = pl.read_parquet(tmp_path / "run" / "results.parquet")
    assert rows["value"].is_null().to_list() == [True, True, False, False]
    whole = pl.read_parquet(folder / "results.parquet").filter(pl.col("method") == "hop")["value"]
    assert rows["value"][2:].to_list() == whole.to_list()


@pytest.mark.parametrize(("chunk", "message"), [
    (64, "evaluated its network 21 times for 14 images"),
    (7, "unequally often: .'1', '2'. per image"),
])  # fmt: skip
def test_every_image_must_take_the_same_number_of_evaluations(files, tmp_path, monkeypatch, chunk, message):
    """A sampler that evaluates twice for its second batch, of which 2 places are filled up: 7 + 7 * 2."""
    monkeypatch.setattr("scottbench.store.folder.CHUNK", chunk)
    monkeypatch.setattr("scottbench.plan.device.choose_micro_batch", lambda device, shape: 7)
    seen = []

    def sample(run):
        seen.append(run)
        return [run.denoise(run.noise(0), 999)[0] for _ in seen][-1]

    plugins = tiny_plugins(files, methods=[broken(sample, times=lambda schedule, steps, options: [999])])
    plan = make_plan(plugins, RunRequest("tiny", methods=["broken"], steps=[1], device="cpu", guidance=1.0))
    with pytest.raises(ScottbenchError, match=message):
        execute(plan, plugins, tmp_path / "run", 7, quiet)
    assert pl.read_parquet(tmp_path / "run" / "results.parquet")["value"].is_null().all()


@WITHOUT_PAGE
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_on_a_cpu_the_networks_always_see_the_same_number_of_images(files, tmp_path, monkeypatch, batch_size):
    """Matrix kernels sum in another order for another number of rows: without this, bytes would depend on --batch-size."""
    from scottbench.plan.device import choose_micro_batch

    assert choose_micro_batch("cpu", (4, 16, 16)) == 16 and choose_micro_batch("cpu", (4, 64, 64)) == 1
    assert choose_micro_batch("cuda:0", (4, 16, 16)) is None
    plugins, rows = tiny_plugins(files), {"unet": set(), "decode": set()}
    plan = make_plan(plugins, RunRequest("tiny", methods=["ode"], device="cpu", guidance=1.0))
    assert plan.micro_batch == 16 and plan.n % 16 != 0
    unet, decode = plan.model.unet.forward, plan.model.vae.decode
    monkeypatch.setattr(plan.model.unet, "forward", lambda z, *rest, **more: (rows["unet"].add(len(z)), unet(z, *rest, **more))[1])
    monkeypatch.setattr(plan.model.vae, "decode", lambda z, *rest, **more: (rows["decode"].add(len(z)), decode(z, *rest, **more))[1])
    execute(plan, plugins, tmp_path / "run", batch_size, quiet)
    assert rows == {"unet": {16}, "decode": {16}}


def too_small(cell, options):
    raise ScottbenchError(f"needs more than {cell.n} images")


def test_a_metric_that_fails_costs_no_other_metric_its_number(files, tmp_path):
    metrics = [
        Metric("small", "", too_small, higher_is_better=True),
        Metric("hole", "", lambda cell, options: float("nan"), higher_is_better=True),
        Metric("crash", "", lambda cell, options: cell.generated["depth"], higher_is_better=True),
    ]
    plugins = tiny_plugins(files, metrics=metrics)
    plan = make_plan(plugins, RunRequest("tiny", methods=["hop"], metrics=["small", "gap", "hole", "crash"], device="cpu"))
    with pytest.raises(ScottbenchError, match="(?s)3 part.*small: needs more than 12 images.*hole: the value is nan.*crash: metric "
                       "'crash' of plug-in 'tiny' failed in compute: KeyError: 'depth' .test_run.py:"):
        execute(plan, plugins, tmp_path / "run", None, quiet)
    rows = pl.read_parquet(tmp_path / "run" / "results.parquet")
    assert rows["value"].is_null().to_list() == [True, False, True, True]
    assert manifest(tmp_path / "run")["cells"][0]["failures"]["small"] == "needs more than 12 images"
    assert "KeyError" in (tmp_path / "run/errors/hop__s2__seed0-crash.txt").read_text()


@WITHOUT_PAGE
def test_a_full_disk_stops_the_run_and_it_can_go_on(plan, plugins, folder, tmp_path, monkeypatch):
    original, room = RunFolder.put_images, [2]

    def put(self, *args, **kwargs):
        room[0] -= 1
        if room[0] < 0:
            raise Incomplete("no space left")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(RunFolder, "put_images", put)
    with pytest.raises(Incomplete):
        execute(plan, plugins, tmp_path / "run", None, quiet)
    room[0] = 99
    root = execute(plan, plugins, tmp_path / "run", None, quiet)
    assert (root / "results.parquet").read_bytes() == (folder / "results.parquet").read_bytes()


@WITHOUT_PAGE
def test_each_set_of_weights_is_opened_once(files, tmp_path, monkeypatch):

    opened, original = [], worker.open_student
    monkeypatch.setattr(worker, "open_student", lambda *given: opened.append(given[2]) or original(*given))
    plugins = tiny_plugins(files)
    plan = make_plan(plugins, RunRequest("tiny", methods=["hop", "ode", "hop@guidance=1"], steps=[1, 2], limit=2, device="cpu"))
    execute(plan, plugins, tmp_path / "run", None, quiet)
    assert opened == ["hop"] and [cell["nfe"] for cell in manifest(tmp_path / "run")["cells"]] == [1, 2, 2, 4, 1, 2]


def test_prompts_and_items_of_a_hostile_dataset_stay_inside(files, tmp_path):
    class Hostile(Dots):
        prompts = ("<script>alert(1)</script>", "\x1b[2J", "../../etc/passwd", *Dots.prompts[3:])

    plugins = tiny_plugins(files, items=Hostile, preset=PRESET.replace("steps = [2]", "steps = [1]"))
    root = execute(make_plan(plugins, RunRequest("tiny", methods=["hop"], device="cpu")), plugins, tmp_path / "run", None, quiet)
    assert "<script>alert(1)" not in (root / "report/index.html").read_text()
