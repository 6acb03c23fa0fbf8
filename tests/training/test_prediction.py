"""Costs told before anything is here, held against what is measured where it is."""

import dataclasses
import json

import pytest
import tiny
import torch
from tiny_cd import with_cd
from tiny_training import Registry

from scottbench.cli.predicted import GIB
from scottbench.errors import MissingAsset
from scottbench.models.blank import blank_model, blank_text, bytes_of, tokens_of
from scottbench.models.cost import metered
from scottbench.models.diffusion_model import run_unet
from scottbench.models.pipeline import open_pipeline
from scottbench.registry.nouns import Model
from scottbench.training.context import Context
from scottbench.training.memory import NotPredicted, update_cost
from scottbench.training.settings import TrainSettings

LORA = {"variant": "lora", "lora_rank": 4, "w_max": 4.0}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny.tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


def cost(pipeline, trainer="cd", size=4, mixed="no", options=None, **settings):
    noun = Registry(pipeline).find("trainer", trainer).noun
    given = noun.options(**({"w_max": 4.0} if options is None else options))
    return update_cost(Context(blank_model(pipeline), "meta"), noun, given, TrainSettings(**settings), size, mixed)


@pytest.fixture(scope="module")
def sd15():
    """Stable Diffusion 1.5 of the configs that the plug-in brings: networks without numbers."""
    from scottbench.models.blank import configs_of
    from scottbench.registry.loader import load_plugins

    return blank_model(configs_of(load_plugins().find("model", "sd15").noun))


def test_stable_diffusion_is_counted_without_weights(sd15):
    """859.5 M parameters; 803 GFLOP a pass, as it is known from others' counts (402 GMAC); nothing of it is in memory."""
    assert sum(p.numel() for p in sd15.unet.parameters()) == 859_520_964 and sd15.latent_shape == (4, 64, 64) and tokens_of(sd15) == 77
    with metered() as (meter, _), torch.no_grad():
        weights = meter.note_all(sd15.unet)
        sd15.network(torch.empty(2, 4, 64, 64, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta"), blank_text(sd15, 2, 77))
    assert meter.flops / 2 == pytest.approx(803e9, rel=0.01)
    assert weights == 4 * 859_520_964 and meter.now < weights + 0.01 * GIB, "what a pass made is gone"
    assert weights + 0.2 * GIB < meter.peak < weights + 0.6 * GIB


def saved_bytes(unet, z, t, text) -> int:
    """Bytes of all tensors that autograd keeps of a pass, each storage once, weights aside."""
    kept = {p.untyped_storage()._cdata for p in unet.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        found[storage._cdata] = (storage.nbytes(), storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run_unet(unet, z, t, text)
    assert out.requires_grad
    return sum(size for key, (size, _) in found.items() if key not in kept)


def test_what_a_pass_keeps_is_predicted_within_15_percent_of_what_it_keeps(pipeline):
    real, blank = open_pipeline(pipeline).unet.requires_grad_(True), blank_model(pipeline)
    z, t = torch.randn(4, 4, 8, 8), torch.zeros(4, dtype=torch.int64)
    seen = saved_bytes(real, z, t, torch.randn(4, 16, 32))
    blank.unet.requires_grad_(True)
    with metered() as (meter, _):
        before = meter.note_all(blank.unet)
        out = run_unet(blank.unet, z.to("meta"), t.to("meta"), blank_text(blank, 4, 16))
        predicted = meter.now - before
        del out
    assert predicted == pytest.approx(seen, rel=0.15)


def test_memory_grows_with_the_batch_and_shrinks_by_every_means(pipeline):
    plain, twice = cost(pipeline), cost(pipeline, size=8)
    assert twice.activations == pytest.approx(2 * plain.activations, rel=0.35) and twice.flops == pytest.approx(2 * plain.flops, rel=0.05)
    assert (plain.networks, plain.moments) == (twice.networks, twice.moments)
    assert plain.moments == 8 * plain.trained["student"] and plain.peak == pytest.approx(
        plain.networks + plain.moments + plain.gradients + plain.activations)
    checkpointed = cost(pipeline, gradient_checkpointing=True)
    assert checkpointed.peak < plain.peak and checkpointed.flops > 1.1 * plain.flops
    small = cost(pipeline, mixed="bf16", optimizer="adamw8bit", average=0.9, offload=True, frozen="half")
    assert small.moments < 0.5 * plain.moments and small.average == 4 * plain.trained["student"]
    blank = blank_model(pipeline)
    teacher, idle = bytes_of(blank.unet), bytes_of(blank.vae, blank.text_encoder)
    assert plain.networks - small.networks == idle + teacher // 2


@pytest.mark.parametrize("trainer, options", [("scott", LORA), ("cd", LORA)])
def test_every_variant_of_the_recipes_is_counted(pipeline, trainer, options):
    found = cost(pipeline, trainer, mixed="bf16", options=options, gradient_checkpointing=True, frozen="half")
    assert found.flops > 0 and found.peak >= found.networks + found.moments
    assert set(found.trained) == ({"student", "discriminator"} if trainer == "scott" else {"student"})


def test_a_trainer_that_needs_real_data_is_not_predicted_and_says_why(pipeline):
    with pytest.raises(NotPredicted, match="needs the context's data"):
        cost(pipeline, "instaflow", options={})


# --- command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def without_weights(cli, files):
    """The tiny plug-in whose weights are not here, but whose configs are."""
    def absent(device, dtype):
        raise MissingAsset("model 'tiny' cannot be used:\n  missing unet/weights (3.4 GB)\n  fetch 4.3 GB: get it")

    plugins = with_cd(files)
    import tiny_plugin

    plugins.nouns["model"]["tiny"] = tiny_plugin.registered("model", Model("tiny", "", absent, configs=lambda: files / "model"))
    dataset = plugins.nouns["dataset"]["dots"]
    plugins.nouns["dataset"]["dots"] = dataclasses.replace(
        dataset, noun=dataclasses.replace(dataset.noun, sizes={"train": 12, "evaluation": 12}))
    cli.plugins = plugins
    return cli


def test_a_dry_run_without_weights_says_what_is_missing_and_what_it_will_cost(without_weights, tmp_path):
    code, out, err = without_weights("train", "cd", "-p", "tiny", "-b", "4", "--max-steps", "6", "-O", "w_max=4", "--dry-run")
    assert code == 0, err
    assert "missing  unet/weights (3.4 GB)" in out and "missing  fetch 4.3 GB: get it" in out
    assert "data     dots: 12 items; about " in out and "memory   predicted peak " in out and "TFLOP an update" in out
    assert "one pass of the U-Net with made-up weights" in out and "disk     the encoded split" in out and "about 6 steps in" in out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_without_weights_counts_evaluations_and_says_what_is_missing(without_weights):
    code, out, err = without_weights("plan", "-p", "tiny", "-m", "ode,hop", "-s", "1,2", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [(cell["id"], cell["nfe"]) for cell in found["cells"]] == [
        ("ode__s1__seed0", 2), ("ode__s2__seed0", 4), ("hop__s1__seed0", 1), ("hop__s2__seed0", 2)]
    assert found["prompts"] == 12 and found["seconds"] > 0 and "unet/weights (3.4 GB)" in found["missing"]
    assert found["flops"] / found["speed"] == pytest.approx(found["seconds"])


def test_a_model_whose_configs_nobody_knows_is_missing_as_ever(without_weights):
    model = without_weights.plugins.nouns["model"]["tiny"]
    without_weights.plugins.nouns["model"]["tiny"] = dataclasses.replace(model, noun=dataclasses.replace(model.noun, configs=None))
    for verb in (("plan",), ("train", "cd", "--dry-run", "-b", "4")):
        code, _, err = without_weights(*verb, "-p", "tiny")
        assert code == 3 and "unet/weights" in err
