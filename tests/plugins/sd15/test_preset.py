"""The preset sd15-coco2017-5k: end to end on tiny stand-ins of its model, data and evaluators, and exit 3 where it has nothing."""

import dataclasses
import json
import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import polars
import pytest
import scottbench_cd
import scottbench_extractors
import scottbench_metrics
import scottbench_sd15
import scottbench_solvers
import tiny
from PIL import Image
from scottbench_sd15.coco import open_coco2017
from sd15_files import CHOSEN, add_unused, coco_folder, make_old, new_pipeline
from tiny_training import train

from scottbench.errors import MissingAsset
from scottbench.plan import inputs
from scottbench.plan.choices import choose
from scottbench.plan.device import auto_batch, choose_dtype
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.hookspecs import hookimpl
from scottbench.registry.loader import load_plugins
from scottbench.registry.presets import read_preset
from scottbench.run.execute import execute

TOML = scottbench_sd15.HERE / "sd15.toml"
TINY_EVALUATORS = """
[extractors.image]
kind = "open_clip"
folder = "image"
resize = "clean"
label = "tiny image features"
[extractors.clip]
kind = "open_clip"
folder = "clip"
resize = "open_clip"
label = "tiny clip"
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """The bundled model, dataset, methods and metrics, and the preset's own text but for its extractors, as preset "stand-in"."""
    root = tmp_path_factory.mktemp("preset")
    head, _, rest = TOML.read_text().partition("[extractors.image]")
    _, _, tail = rest.partition("[train]")
    text = head.replace('name = "sd15-coco2017-5k"', 'name = "stand-in"') + TINY_EVALUATORS + "[train]" + tail
    (root / "stand-in.toml").write_text(text)
    tiny.tiny_evaluator(root / "image", side=40, seed=1)
    tiny.tiny_evaluator(root / "clip", side=32, seed=2)
    extra = types.ModuleType("stand_in")
    extra.register_presets = hookimpl(lambda: [root / "stand-in.toml"])
    extra.register_presets.__name__ = "register_presets"
    modules = [scottbench_sd15, scottbench_solvers, scottbench_cd, scottbench_metrics, scottbench_extractors, extra]
    loaded = load_plugins(
        [
            types.SimpleNamespace(name=module.__name__, value=module.__name__, load=lambda module=module: module, dist=None)
            for module in modules
        ]
    )
    assert not loaded.broken, loaded.plugins
    return loaded


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A pipeline in the hub repository's form, with all that lies beside it there, and six COCO images."""
    root = tmp_path_factory.mktemp("files")
    add_unused(make_old(new_pipeline(root / "model")))
    coco_folder(root / "coco")
    return root


@pytest.fixture(scope="module")
def finished(plugins, files, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOTTBENCH_SD15", str(files / "model"))
        patch.setenv("SCOTTBENCH_COCO2017", str(files / "coco"))
        plan = make_plan(plugins, RunRequest("stand-in", methods=["ddim", "dpmpp"], device="cpu"))
        folder = execute(plan, plugins, tmp_path_factory.mktemp("runs") / "run", None, lambda event: None)
    return plan, folder


def test_the_plan_has_the_papers_setting(finished):
    plan, _ = finished
    assert plan.items.ids == sorted(CHOSEN) and plan.items.prompts == [CHOSEN[item][1] for item in sorted(CHOSEN)]
    assert [(cell.id, cell.method.guidance, cell.timesteps) for cell in plan.cells] == [
        ("ddim__s2__seed0", 7.5, [501, 1]),
        ("dpmpp__s2__seed0", 7.5, [999, 500]),
    ]
    assert plan.record["dtype"] == "float32" and plan.preset.dtype == "float16"
    assert {role: source.resize for role, source in plan.sources.items()} == {"image": "clean", "clip": "open_clip"}


def test_every_metric_of_every_cell_has_a_number_and_the_counted_nfe_is_four(finished):
    _, folder = finished
    rows = polars.read_parquet(folder / "results.parquet").to_dicts()
    metrics = ["fid", "clip_score", "coverage", "precision", "recall", "density"]
    assert [(row["method"], row["metric"]) for row in rows] == [(method, metric) for method in ("ddim", "dpmpp") for metric in metrics]
    assert {(row["steps"], row["nfe"], row["n"], row["dataset"]) for row in rows} == {(2, 4, 6, "coco2017-5k")}
    assert all(np.isfinite(row["value"]) for row in rows)
    prints = {row["metric"]: row["fingerprint"] for row in rows}
    assert "tiny image features" in prints["fid"] and "resize clean" in prints["fid"] and "resize open_clip" in prints["clip_score"]


def test_reference_images_are_the_squares_and_the_page_is_there(finished):
    plan, folder = finished
    import zipfile

    (archive,) = (folder / "images" / "reference").glob("*.zip")
    with zipfile.ZipFile(archive) as stored, stored.open("000000000139.png") as stream:
        assert np.array_equal(np.asarray(Image.open(stream)), plan.items.images([1])[0])
    assert json.loads((folder / "manifest.json").read_text())["status"] == "complete"
    page = (folder / "report" / "index.html").read_text()
    assert "tiny image features" in page and "a red apple and a pear" in page


def test_a_student_trained_on_the_training_split_is_sampled(plugins, files, monkeypatch, tmp_path):
    monkeypatch.setenv("SCOTTBENCH_SD15", str(files / "model"))
    monkeypatch.setenv("SCOTTBENCH_COCO2017", str(coco_folder(tmp_path / "coco")))
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))
    coco_folder(tmp_path / "coco", "train2017")
    student = train(plugins, "stand-in", "cd", tmp_path / "cd", max_steps=1, batch_size=1)
    request = RunRequest("stand-in", methods=["cd"], metrics=["clip_score"], students={"cd": str(student)}, limit=2, device="cpu")
    folder = execute(make_plan(plugins, request), plugins, tmp_path / "run", None, lambda event: None)
    (row,) = polars.read_parquet(folder / "results.parquet").to_dicts()
    assert (row["nfe"], row["guidance_scale"], row["n"]) == (2, 8.0, 2) and np.isfinite(row["value"])
    facts = json.loads((student / "student.json").read_text())
    assert facts["dataset_digest"] == open_coco2017("train").digest and (facts["w_min"], facts["w_max"]) == (2, 14)


def test_students_that_are_missing_are_named_with_the_line_that_trains_them(plugins, files, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = choose(plugins, RunRequest("stand-in", methods=["cd"], device="cpu"))
    (cd,) = found.methods
    scott = dataclasses.replace(cd, student="scott", method=dataclasses.replace(cd.method, name="scott", trainer="scott"))
    with pytest.raises(MissingAsset) as caught:
        inputs.find_students(dataclasses.replace(found, methods=[scott, cd]))
    for name in ("scott", "cd"):
        folder = tmp_path / ".local" / "share" / "scottbench" / "students" / "sd15-coco2017-5k" / name
        assert f"no student at {folder} " in str(caught.value)
        assert f"scottbench train {name} --preset stand-in --out {folder}" in str(caught.value)


def test_the_shipped_preset_is_the_protocol_of_its_readme():
    preset = read_preset(TOML)
    assert (preset.name, preset.model, preset.dataset, preset.steps) == ("sd15-coco2017-5k", "sd15", "coco2017-5k", [2])
    assert preset.extractors["image"] == {"kind": "inception", "resize": "clean", "label": "Inception"}
    clip = preset.extractors["clip"]
    assert (clip["model"], clip["pretrained"], clip["resize"]) == ("ViT-g-14", "laion2b_s12b_b42k", "open_clip")
    readme = (TOML.parent / "README.md").read_text()
    assert clip["revision"] in readme and clip["size"] in readme
    assert tomllib.loads(TOML.read_text())["students"] == {
        name: f"~/.local/share/scottbench/students/sd15-coco2017-5k/{name}" for name in ("cd", "scott")
    }


@pytest.mark.parametrize(
    ("device", "asked", "used"),
    [
        ("cpu", "float16", "float32"),
        ("cpu", "bfloat16", "bfloat16"),
        ("cpu", "float32", "float32"),
        ("cuda", "float16", "float16"),
        ("cuda:1", "float16", "float16"),
    ],
)
def test_half_precision_is_for_gpus(device, asked, used):
    assert choose_dtype(types.SimpleNamespace(dtype=asked), device) == used


def test_the_automatic_batch_is_small_for_large_latents_only():
    assert [auto_batch(types.SimpleNamespace(device="cpu", latent_shape=(4, side, side))) for side in (8, 16, 17, 64)] == [64, 64, 8, 8]


def test_where_nothing_is_there_run_ends_with_exit_3_and_one_message_that_names_everything(tmp_path):
    home = tmp_path / "home"
    work = tmp_path / "work"
    work.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_", "SCOTTBENCH_"))}
    environment = kept | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    program = "import sys; from scottbench.cli import main; main(sys.argv[1:])"
    found = subprocess.run(
        [sys.executable, "-c", program, "run", "--preset", "sd15-coco2017-5k", "--device", "cpu"],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (found.returncode, found.stdout) == (3, "")
    assert "Traceback" not in found.stderr and found.stderr.count("error: ") == 1
    for words in [
        "unet/diffusion_pytorch_model.safetensors (3.4 GB)",
        "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --revision 451f4fe1",
        f"{home}/.cache/scottbench/coco2017/annotations/captions_val2017.json (in a zip of 252.9 MB)",
        "(5,000 pictures, a zip of 815.6 MB)",
        "inception-2015-12-05.pt (95.6 MB)",
        "https://nvlabs-fi-cdn.nvidia.com/",
        "laion/CLIP-ViT-g-14-laion2B-s12B-b42K/open_clip_pytorch_model.safetensors (5.47 GB)",
        "hf download laion/CLIP-ViT-g-14",
        f"scottbench train cd --preset sd15-coco2017-5k --out {home}/.local/share/",
        "scottbench train scott --preset sd15-coco2017-5k --out",
    ]:
        assert words in found.stderr, words
    assert list(work.iterdir()) == []
    assert not [path for path in Path(home).rglob("*") if path.is_file()]
