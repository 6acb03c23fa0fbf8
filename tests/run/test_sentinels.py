"""Sentinels: images that no method means to make are counted, stored and told of; above 1 % of a cell the run has failed."""

import types

import numpy as np
import polars as pl
import pytest
import tiny_plugin
import torch

from scottbench.errors import ScottbenchError
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Method
from scottbench.run.execute import execute
from scottbench.run.sentinels import count, count_cell, looks
from scottbench.store.files import read_json
from scottbench.store.manifest import flawed, is_flawed


def pictures() -> np.ndarray:
    """Six pictures: good, black, of one colour, good, equal to the first, good but for what is told of its pixels."""
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    images[1], images[2], images[4] = 0, (9, 0, 0), images[0]
    return images


def test_each_image_counts_once_as_the_first_kind_that_fits():
    finite = np.array([True] * 5 + [False])
    found = looks(pictures(), finite)
    assert found[1:3] == ["black", "constant"] and found[5] == "non-finite" and found[0] == found[4] != found[3]
    assert count(found) == {"non-finite": 1, "black": 1, "constant": 1, "duplicate": 1}
    assert count(looks(pictures())) == {"black": 1, "constant": 1, "duplicate": 1}, "without the word of the decoder"
    assert count(looks(pictures()[[0, 3, 5]])) == {}
    assert count(looks(pictures()[[1, 1, 1]])) == {"black": 3}, "black ones are no duplicates of each other"


def test_duplicates_are_found_across_chunks_and_chunks_of_earlier_versions_are_looked_at():
    images, spans = pictures(), [range(0, 3), range(3, 6)]
    facts = {0: {"looks": looks(images[:3])}, 3: {"nfe": 1}}  # the second chunk was made before kinds were noted
    folder = types.SimpleNamespace(
        facts=lambda place, span: facts[span.start], get_images=lambda place, span, ids: images[span.start : span.stop])
    work = types.SimpleNamespace(chunks=spans, folder=folder, ids=list)
    assert count_cell(work, types.SimpleNamespace(id="x")) == {"black": 1, "constant": 1, "duplicate": 1}


def test_above_one_percent_is_too_many():
    assert not is_flawed({"n": 200, "sentinels": {"black": 1, "duplicate": 1}}) and is_flawed({"n": 199, "sentinels": {"black": 2}})
    assert not is_flawed({"n": 64}) and flawed({"n": 64}) == "", "runs of earlier versions counted nothing"
    assert flawed({"n": 5000, "sentinels": {"black": 2, "duplicate": 1}}) == "3 of 5,000 images are flawed (2 black, 1 duplicate)"


def sevens(run):
    """Latents that the decoder of the test below makes black images of."""
    return torch.full_like(run.denoise(run.noise(0), 999)[0], 7.0)


@pytest.fixture(scope="module")
def stopped(files, tmp_path_factory):
    """(run folder, message) of a run with a method whose images are black, one whose are all equal, and a good one."""
    methods = [Method("sevens", "", sevens, tiny_plugin.timesteps)]
    methods += [Method("zeros", "", lambda run: sevens(run) * 0, tiny_plugin.timesteps, guidance=0.0)]
    plugins = tiny_plugin.tiny_plugins(files, methods=methods)
    plan = make_plan(plugins, RunRequest("tiny", methods=["sevens", "zeros", "ode"], steps=[1]))
    original = plan.model.vae.decode

    def decode(latents, **words):
        images = original(latents, **words)[0]
        seven = (latents * plan.model.vae.config.scaling_factor - 7).abs().flatten(1).amax(1) < 1e-3
        images[seven] = -1.0
        return (images,)

    plan.model.vae.decode = decode
    root = tmp_path_factory.mktemp("flawed") / "run"
    with pytest.raises(ScottbenchError) as caught:
        execute(plan, plugins, root, None, lambda event: None)
    return root, caught.value


def test_a_run_of_flawed_images_ends_with_exit_1_after_all_is_stored(stopped):
    root, error = stopped
    assert error.exit_code == 1
    assert "sevens__s1__seed0: 12 of 12 images are flawed (12 black)" in str(error)
    assert "zeros__s1__seed0: 12 of 12" not in str(error) and "zeros__s1__seed0: 11 of 12 images are flawed (11 duplicate)" in str(error)
    assert "ode__" not in str(error)
    manifest = read_json(root / "manifest.json")
    assert [cell["sentinels"] for cell in manifest["cells"]] == [{"black": 12}, {"duplicate": 11}, {}]
    assert manifest["status"] == "failed" and all(cell["error"] is None for cell in manifest["cells"])
    for cell in manifest["cells"]:
        assert list((root / "images" / cell["id"]).glob("*.zip")), "images are kept"


def test_the_counts_stand_in_table_and_report(stopped):
    root, _ = stopped
    table = pl.read_parquet(root / "results.parquet")
    counts = dict(table.select("method", "flawed").unique().iter_rows())
    assert counts == {"sevens": 12, "zeros": 11, "ode": 0} and table["value"].null_count() == 0
    page = (root / "report" / "index.html").read_text()
    assert "Images: 12 of 12 images are flawed (12 black)." in page
    assert "11 of 12 images are flawed (11 duplicate) of zeros at 1 step" in page
    assert "Guidance scale 0 of method" in page, "warnings of the plan stand in the report too"


def test_results_on_the_terminal_tell_of_flawed_images(stopped, capsys):
    from scottbench.cli.results import print_results

    print_results(stopped[0])
    assert "! sevens__s1__seed0: 12 of 12 images are flawed (12 black)" in capsys.readouterr().out
