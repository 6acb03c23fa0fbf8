"""Options that change rounding are part of what a run is: compiled U-Nets, extractors in TF32 or bfloat16. And batches that fit a GPU."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
import tiny
import torch

from scottbench.errors import UsageError
from scottbench.models import compiled, extractors
from scottbench.plan import device
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest, request_of
from scottbench.run import worker
from scottbench.run.manifest import level
from scottbench.store.differences import GENERATION
from scottbench.store.schemas import violations


def test_a_compiled_run_is_another_run_and_an_uncompiled_one_has_the_record_that_it_always_had(plugins):
    plain, made = (make_plan(plugins, RunRequest("tiny", device="cpu", compile=kind)) for kind in ("off", "blocks"))
    assert "compile" not in plain.record and made.record["compile"] == "blocks" and made.hash != plain.hash
    assert {**made.record, "compile": None} == {**plain.record, "compile": None} and "compile" in GENERATION
    assert (plain.exact, made.exact) == (True, False) and level(made, []) == "tolerance"
    lock = {"schema": made.record["schema"], "plan_hash": made.hash, "plan": made.record, "settings": made.settings}
    assert violations(lock) == []
    lock["plan"] = {**made.record, "compile": "wholly"}
    assert violations(lock)
    again = make_plan(plugins, request_of(made.settings, {}, ""))
    assert again.hash == made.hash


@pytest.mark.parametrize(("kind", "words"), [("quickly", "must be off, blocks or graphs"), ("graphs", "CUDA graphs need a GPU")])
def test_a_kind_of_compilation_that_cannot_be_is_one_line(plugins, kind, words):
    with pytest.raises(UsageError, match=words):
        make_plan(plugins, RunRequest("tiny", device="cpu", compile=kind))


def test_each_block_is_compiled_once_and_the_same_network_comes_out(plugins, monkeypatch):
    """With a stand-in for the compiler, whose own work takes a minute."""
    seen = []

    def compile(function, **words):
        seen.append(words)
        return lambda *given, **more: function(*given, **more)

    monkeypatch.setattr(torch, "compile", compile)
    plan = make_plan(plugins, RunRequest("tiny", methods=["ode"], device="cpu", compile="blocks"))
    unet = tiny.tiny_unet().eval()
    given = torch.ones(2, 4, 8, 8), 7, torch.ones(2, 3, 32)
    with torch.inference_mode():
        expected = unet(*given).sample
        plan.teacher.unet = unet
        for _ in range(2):
            assert worker.open_weights(types.SimpleNamespace(plan=plan), plan.cells[0], {}) is plan.teacher
        blocks = [module for module in unet.modules() if type(module).__name__ in compiled.BLOCKS]
        assert len(seen) == len(blocks) > 4 and all("forward" in vars(block) for block in blocks)
        assert torch.equal(unet(*given).sample, expected)
    with pytest.raises(UsageError, match="none of ResnetBlock2D"):
        compiled.compile_unet(torch.nn.Linear(2, 2), "blocks")


def test_what_a_graph_returns_is_a_copy_and_what_torch_cannot_compile_is_one_line(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    held = torch.zeros(2)
    monkeypatch.setattr(torch, "compile", lambda function, **words: lambda *given: (held.add_(1),))
    network = torch.nn.Linear(2, 2)
    compiled.compile_unet(network, "graphs")
    first, second = network(held)[0], network(held)[0]
    assert first.tolist() == [1, 1] and second.tolist() == [2, 2]

    def broken(*given):
        raise TorchDynamoException("no compiler\nand much more")

    with pytest.raises(UsageError, match="cannot compile this network here .no compiler.. On a CPU it needs") as told:
        compiled._told(broken)()
    assert "\n" not in str(told.value)


# --- extractors ------------------------------------------------------------------------------------------------------


@pytest.fixture
def noun(plugins):
    return plugins.find("extractor", "open_clip").noun


def test_precision_is_part_of_the_digest_and_the_fingerprint_and_float32_is_as_it_was(noun, files):
    found = {name: extractors.find_extractor(noun, {"folder": "evaluator", **more}, lambda text: files / text)
             for name, more in {"plain": {}, "float32": {"precision": "float32"}, "bfloat16": {"precision": "bfloat16"},
                                "tf32": {"precision": "tf32"}}.items()}  # fmt: skip
    assert found["plain"] == found["float32"] and "float32" not in " ".join(found["plain"].papers)
    assert len({source.digest for source in found.values()}) == 3 and "bfloat16" in found["bfloat16"].papers
    with pytest.raises(UsageError, match="precision 'int8'.*known: float32, tf32, bfloat16"):
        extractors.find_extractor(noun, {"folder": "evaluator", "precision": "int8"}, lambda text: files / text)


def test_towers_multiply_as_the_source_says_and_give_float32(noun, files):
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    made = {}
    for precision in extractors.PRECISIONS:
        spec = {"folder": "evaluator", "precision": precision}
        torch.manual_seed(0)
        opened = extractors.open_extractor(extractors.find_extractor(noun, spec, lambda text: files / text))
        made[precision] = opened.features(images)
        assert made[precision].dtype == np.float32 and opened.text_features(["a red apple"]).dtype == np.float32
    apart = np.linalg.norm(made["bfloat16"] - made["float32"]) / np.linalg.norm(made["float32"])
    assert 0 < apart < 0.05 and np.array_equal(made["tf32"], made["float32"])  # a CPU has no TF32


def test_tf32_is_on_within_a_tower_alone(noun):
    seen, flags = [], lambda: (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    before = flags()
    source = extractors.Source("x", "x", "0" * 64, None, precision="tf32")
    tower = extractors.in_precision(extractors.OpenExtractor(source, 8, lambda batch: (seen.append(flags()), batch)[1], None, None))
    tower.network(torch.ones(1, 3, 8, 8))
    assert seen == [(True, True)] and flags() == before
    with pytest.raises(RuntimeError):
        dataclasses.replace(tower, image_tower=extractors._within(lambda batch: torch.ones(2) @ torch.ones(3), extractors._tf32)).network(
            torch.ones(1, 3, 8, 8))
    assert flags() == before


# --- batches ---------------------------------------------------------------------------------------------------------


def model_of(side, vae, unet, dtype):
    """Enough of a model: latents, and the widths of its networks."""
    part = lambda widths: types.SimpleNamespace(dtype=dtype, config=types.SimpleNamespace(block_out_channels=widths))  # noqa: E731
    return types.SimpleNamespace(latent_shape=(4, side, side), vae=part(vae), unet=part(unet), dtype=dtype, device="cuda")


def test_a_batch_fits_the_memory_that_is_free_by_pixels_widths_and_format(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (free, 2 * free))
    sd15 = model_of(64, (128, 256, 512, 512), (320, 640, 1280, 1280), torch.float16)
    wide = model_of(128, (128, 256, 512, 512), (320, 640, 1280), torch.float16)
    found = {}
    for free in (3 * 2**30, 20 * 2**30, 75 * 2**30):
        found[free >> 30] = [device.auto_batch(model) for model in (sd15, wide)]
    assert found == {3: [2, 1], 20: [16, 4], 75: [64, 16]}
    pocket = model_of(16, (32, 64, 64), (64, 128), torch.float32)
    free = 20 * 2**30
    assert device.auto_batch(pocket) == 64  # a chunk, not more
    free = 1
    assert device.auto_batch(sd15) == 1
    half, full = (device.bytes_of_image(model_of(64, (128, 256, 512, 512), (320, 640), kind)) for kind in (torch.float16, torch.float32))
    assert 1.9 * half < full < 2 * half and device.bytes_of_image(wide) == 4 * device.bytes_of_image(sd15)
    for side, most in ((16, 64), (64, 8)):
        assert device.auto_batch(types.SimpleNamespace(device="cpu", latent_shape=(4, side, side))) == most
