"""The images that a training watches are those that a run makes."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import tiny_plugin
from PIL import Image

from scottbench.models.pipeline import open_student
from scottbench.models.sampling import Sampler, embed_prompts, micro_batches
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.run.execute import execute
from scottbench.training import validation


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_plugin.shared_files(tmp_path_factory)


@pytest.fixture(scope="module")
def plan(files):
    return make_plan(tiny_plugin.tiny_plugins(files), RunRequest("tiny", methods=["hop"], device="cpu"))


@pytest.fixture(scope="module")
def stored(plan, files, tmp_path_factory):
    """(12, H, W, 3) uint8: the images of a run."""
    root = execute(plan, tiny_plugin.tiny_plugins(files), tmp_path_factory.mktemp("run") / "run", None, lambda event: None)
    with zipfile.ZipFile(root / "images" / "hop__s2__seed0" / "00000-00011.zip") as archive:
        return np.stack([np.asarray(Image.open(archive.open(f"{item_id}.png"))) for item_id in plan.items.ids])


def watched(plan, index: list[int]):
    """A validation of the run's student on some of the run's items, with nothing of it but what `sample` needs."""
    kind = next(found for name, found in vars(validation).items() if name in ("Curve", "Validation"))
    made = object.__new__(kind)
    method = plan.cells[0].method
    vars(made).update(
        index=index, items=plan.items, method=method.noun, options=method.options, guidance=method.guidance, steps=plan.cells[0].steps)
    return made


@pytest.mark.parametrize("index", [list(range(12)), [7, 0, 3], [11]], ids=["all", "some", "one"])
def test_the_validation_makes_the_bytes_of_a_run(plan, stored, files, index):
    """Of the same student, items and seed, in whatever company: the micro-batch is as large as a run's, its empty places filled up."""
    student = open_student(plan.model, files / "student", "hop")
    assert np.array_equal(watched(plan, index).sample(student), stored[index])


def test_a_micro_batch_that_lacks_items_is_filled_up_and_the_filling_does_not_count():
    assert list(micro_batches(5, 3, 64)) == [([0, 1, 2], 3), ([3, 4, 4], 2)]
    assert list(micro_batches(5, None, 4)) == [([0, 1, 2, 3], 4), ([4], 1)]


@pytest.mark.parametrize("broken, told", [
    (lambda latents: latents[:1], "of shape"), (lambda latents: latents / 0, "NaN or infinite"),
])  # fmt: skip
def test_a_sampler_that_returns_something_else_is_named(plan, files, broken, told):
    from dataclasses import replace

    from scottbench.errors import ScottbenchError

    method, text = plan.cells[0].method, embed_prompts(plan.model, plan.items.prompts[:2], None, 2)
    noun = replace(method.noun, sample=lambda run: broken(run.noise(0)))
    sampler = Sampler(plan.model, noun, "hop@x=1", method.options, plan.model.encode_prompts([""]), 2.0, 2, 0)
    with pytest.raises(ScottbenchError, match=f"method 'hop@x=1' returned latents .*{told}"):
        sampler.images(text, plan.items.ids[:2], None, 2)
