"""Does it fit? Recipes, frozen networks in half precision, moments of 8 bits, checkpoints beside the training, sizes, no memory."""

import dataclasses
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from tiny_cd import with_cd
from tiny_training import Registry, batch_of, train
from toy import Toy, toy_loop, weights

from scottbench.errors import EXIT_CODES, Incomplete, MissingAsset, OutOfMemory, UsageError, lack_of_memory
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.registry.nouns import Method
from scottbench.registry.presets import Preset, read_preset
from scottbench.training import checkpoint
from scottbench.training.choices import choose, in_words
from scottbench.training.distillation import update_ema
from scottbench.training.folder import kept_step
from scottbench.training.frozen import halve
from scottbench.training.optimizers import bytes_of_moments, make_optimizer, moments
from scottbench.training.request import TrainRequest
from scottbench.training.settings import Budget, TrainSettings
from scottbench.training.sizes import rows_at_once, weighted_means

HERE = Path(__file__).parents[2] / "plugins" / "scottbench_sd15"
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny.tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def sd15() -> Preset:
    return read_preset(HERE / "sd15.toml")


@pytest.fixture
def registry(pipeline, sd15):
    """Tiny networks under the recipes of the Stable Diffusion preset."""
    made = Registry(pipeline)
    preset = made.nouns["preset"]["tiny"].noun
    made.add("preset", dataclasses.replace(preset, recipes=sd15.recipes))
    return made


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe, trainer, baked", [
    ("24gb", "scott", True), ("24gb", "cd", False), ("24gb-lora", "cd", True), ("4x80gb", "scott", False)])  # fmt: skip
@pytest.mark.filterwarnings("ignore:recipe '4x80gb' is for 4 processes")
def test_tiny_networks_train_by_every_recipe_and_their_students_open(registry, pipeline, tmp_path, recipe, trainer, baked):
    try:
        import bitsandbytes  # noqa: F401

        less = {}
    except ImportError:
        less = {"optimizer": "adamw"}
    out = train(registry, "tiny", trainer, tmp_path / "s", recipe=recipe, batch_size=4, max_steps=3, **less)
    facts = dict(open_student(open_pipeline(pipeline), out, trainer).student)
    assert (facts["steps"], facts["batch_size"]) == (3, 4) and (facts.get("guidance") == "baked") == baked
    assert facts["options"]["lr"] == registry.find("preset", "tiny").noun.recipes[recipe].get("options", {}).get(trainer, {}).get(
        "lr", {"scott": 8e-6, "cd": 1e-6}[trainer])


def test_a_recipe_stands_over_train_and_below_flags_and_says_so(registry):
    found = choose(registry, TrainRequest("scott", "tiny", {"lr": "0.5"}, recipe="24gb", batch_size=2, device="cpu"))
    rows = {name: (value, origin) for name, value, origin in in_words(found)}
    assert rows["batch_size"] == (2, "call") and rows["optimizer"] == ("adamw8bit", "recipe 24gb")
    assert rows["fsdp"] == (False, "recipe 24gb"), "also where it says what is the default anyway"
    assert (rows["options.variant"], rows["options.lr"]) == (("lora", "recipe 24gb"), (0.5, "call"))
    paper = choose(registry, TrainRequest("scott", "tiny", recipe="4x80gb", device="cpu"))
    assert (paper.processes, paper.settings.batch_size, paper.budget.max_steps, paper.budget.minutes) == (4, 40, 40_000, None)
    assert paper.settings.lr_schedule == "constant" and paper.settings.micro_batch_size(4) == 10
    assert choose(registry, TrainRequest("scott", "tiny", recipe="4x80gb", minutes=2.0, device="cpu")).budget.max_steps is None


@pytest.mark.parametrize("trainer, recipe, message", [
    ("scott", "24g", r"unknown recipe '24g'. Did you mean '24gb' or '24gb-lora'\? Recipes of preset 'tiny': 24gb, 24gb-lora, 4x80gb."),
    ("ufogen", "24gb", "recipe '24gb' of preset 'tiny' is for scott, cd, not for 'ufogen'."),
])
def test_a_recipe_that_cannot_be_is_one_line(registry, trainer, recipe, message):
    with pytest.raises(UsageError, match=message) as caught:
        choose(registry, TrainRequest(trainer, "tiny", recipe=recipe, device="cpu"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines, message", [
    ("batch = 4", r"'batch' in .recipes.a.*Did you mean 'batch_size'"), ("processes = 0", "processes in .recipes.a. must be at least 1"),
    ('trainers = "scott"', "'trainers' in .recipes.a. must be a list of strings"),
])  # fmt: skip
def test_a_recipe_of_a_preset_file_is_checked_when_it_is_read(tmp_path, lines, message):
    text = (HERE / "sd15.toml").read_text()
    (tmp_path / "p.toml").write_text(text + f"\n[recipes.a]\n{lines}\n")
    with pytest.raises(UsageError, match=message):
        read_preset(tmp_path / "p.toml")


def test_every_setting_of_every_recipe_is_one_that_a_training_takes(sd15):
    from scottbench.training.choices import merged
    from scottbench.training.settings import make_settings

    for recipe in sd15.recipes.values():
        make_settings(merged(sd15.train, recipe), {})
    assert sd15.recipes.keys() == {"24gb", "24gb-lora", "4x80gb"}


# --- frozen networks, LoRA students ----------------------------------------------------------------------------------


def test_a_lora_student_its_target_and_its_teacher_share_one_base_in_half_precision(registry, pipeline):
    from scottbench.training.context import Context

    teacher = open_pipeline(pipeline)
    trainer = registry.find("trainer", "scott").noun
    made = trainer.build(Context(teacher, "cpu"), trainer.options(variant="lora", lora_rank=4, disc_rank=4, w_max=4.0))
    halve(teacher, made, torch.bfloat16)
    student, target = made.networks["student"], made.ema
    base = {id(p): p for p in teacher.unet.parameters() if p.dtype == torch.bfloat16}
    assert base and {id(p) for p in student.parameters() if not p.requires_grad} == base.keys() <= {id(p) for p in target.parameters()}
    own = [p for p in student.parameters() if p.requires_grad]
    averaged = {p.dtype for name, p in target.named_parameters() if "lora_" in name}
    assert {p.dtype for p in own} == averaged == {torch.float32} and not any(p.requires_grad for p in target.parameters())
    assert {p.dtype for name, p in made.networks["discriminator"].named_parameters() if "lora_" in name} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        losses = {role: sum(terms.values()) for role, terms, _ in made.step(batch_of(teacher, step=0))}
    assert losses.keys() == {"student", "discriminator"} and all(bool(torch.isfinite(loss)) for loss in losses.values())
    with torch.no_grad():
        own[1].add_(1.0)
    before = {name: p.clone() for name, p in target.named_parameters()}
    update_ema(target, student, 0.75)
    moved = [name for name, p in target.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) == 1 and "lora_" in moved[0]
    assert float((dict(target.named_parameters())[moved[0]] - before[moved[0]]).mean()) == pytest.approx(0.25)


# --- 8 bits ----------------------------------------------------------------------------------------------------------


def test_a_package_that_is_not_here_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(MissingAsset, match=r"bitsandbytes, which is not installed.*pip install 'scottbench\[8bit\]'.*--optimizer adamw"):
        make_optimizer("adamw8bit", [torch.nn.Parameter(torch.zeros(3))], 1e-3, (0.9, 0.999))


def test_moments_of_8_bits_are_as_small_as_counted_and_survive_a_checkpoint(tmp_path):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    nets = [torch.nn.Conv2d(32, 64, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    made = [make_optimizer("adamw8bit", list(net.parameters()), 1e-2, (0.9, 0.999)) for net in nets]

    def step(net, optimizer, seed):
        net(torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def tensors(net):
        return {"student": dict(enumerate(p.detach() for p in net.parameters()))}

    for seed in range(3):
        step(nets[0], made[0], seed)
    state = moments(made[0])
    held = sum(value.nbytes for one in state.values() for key, value in one.items() if torch.is_tensor(value) and "qmap" not in key)
    assert held == pytest.approx(bytes_of_moments("adamw8bit", list(nets[0].parameters())), rel=0.02)
    checkpoint.save(tmp_path / "checkpoint", checkpoint.flatten(tensors(nets[0]), {"student": made[0]}), {"step": 3})
    step(nets[1], made[1], 9)  # it has a state of its own, which is replaced
    checkpoint.load(tmp_path / "checkpoint", dataclasses.make_dataclass("Kept", [("step", int)]), tensors(nets[1]), {"student": made[1]})
    for net, optimizer in zip(nets, made, strict=True):
        step(net, optimizer, 5)
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


# --- checkpoints beside the training ---------------------------------------------------------------------------------


def test_a_checkpoint_is_written_while_the_training_goes_on_and_the_last_is_waited_for(tmp_path, monkeypatch):
    passed, threads, save = threading.Event(), [], checkpoint.save

    def slow(folder, flat, state):
        threads.append((state["step"], threading.current_thread().name))
        if state["step"] == 2:
            assert passed.wait(20), "the training waited for its checkpoint"
        save(folder, flat, state)

    monkeypatch.setattr(checkpoint, "save", slow)
    loop = toy_loop(tmp_path, checkpoint_steps=2, checkpoint_minutes=0.0)
    at_two = []

    def progress(event, step, *rest):
        if step == 2:
            at_two.append(weights(loop))
        if step == 3:
            passed.set()

    loop.run(Budget(None, 5), progress)
    assert threads == [(2, "checkpoint"), (4, "checkpoint"), (5, "checkpoint")] and kept_step(tmp_path) == 5
    assert not any(thread.name == "checkpoint" for thread in threading.enumerate())


def test_a_checkpoint_that_cannot_be_written_beside_the_training_stops_it(tmp_path, monkeypatch):
    good = toy_loop(tmp_path, checkpoint_steps=1)
    good.run(Budget(None, 1), lambda *event: None)

    def full(folder, flat, state):
        raise Incomplete("no space left")

    monkeypatch.setattr(checkpoint, "save", full)
    loop, steps = toy_loop(tmp_path, checkpoint_steps=2, checkpoint_minutes=0.0), []
    with pytest.raises(Incomplete, match="no space left"):
        loop.run(Budget(None, 500), lambda event, step, *rest: steps.append(step))
    assert max(steps) < 100 and kept_step(tmp_path) == 1


def test_only_the_main_process_copies_the_training(tmp_path):
    loop = toy_loop(tmp_path)
    loop.one_step(0.0)
    assert checkpoint.flatten(loop.tensors(), loop.optimizers, main=False) == {}
    assert len(checkpoint.flatten(loop.tensors(), loop.optimizers)) == 6 + 4 * 3


# --- no memory -------------------------------------------------------------------------------------------------------


class Hungry(Toy):
    """Has not enough memory at a step: before any update of it, or after the first."""

    def __init__(self, at: int, late: bool, error: Exception = FULL):
        super().__init__()
        self.at, self.late, self.error = at, late, error

    def step(self, batch):
        for number, one in enumerate(super().step(batch)):
            if batch["step"] == self.at and number == int(self.late):
                raise self.error
            yield one


@pytest.mark.parametrize("late, kept, error, told", [
    (False, 3, FULL, r"not enough memory on the GPU \(2.00 GiB more were asked for\) in step 3"),
    (True, 2, MemoryError(), "not enough memory in step 3"),
])  # fmt: skip
def test_a_lack_of_memory_in_a_training_is_one_line_and_loses_nothing(tmp_path, late, kept, error, told):
    """A step that has updated a network already is not saved: going on would update it twice."""
    plain = {"lr_schedule": "none"}
    before = toy_loop(tmp_path, **plain)
    before.run(Budget(None, 2), lambda *event: None)
    loop = toy_loop(tmp_path, Hungry(3, late, error), **plain)
    loop.resume()
    line = f"{told}. The checkpoint of step {kept} is kept.*--gradient-checkpointing.*--accumulate 2"
    with pytest.raises(OutOfMemory, match=line) as caught:
        loop.run(Budget(None, 9), lambda *event: None)
    assert kept_step(tmp_path) == kept and caught.value.exit_code == 4 in EXIT_CODES and "\n" not in str(caught.value)
    again = toy_loop(tmp_path, **plain)
    again.resume()
    again.run(Budget(None, 5), lambda *event: None)
    whole = toy_loop(tmp_path / "whole", **plain)
    whole.run(Budget(None, 5), lambda *event: None)
    assert torch.equal(weights(again), weights(whole))


def test_a_lack_of_memory_in_a_run_is_one_line_with_exit_code_4(cli, files, tmp_path):
    def hungry(run):
        raise FULL

    ode = next(one for one in with_cd(files).nouns["method"].values() if one.noun.name == "ode").noun
    cli.plugins = with_cd(files)
    import tiny_plugin

    cli.plugins.nouns["method"]["hungry"] = tiny_plugin.registered("method", Method("hungry", "", hungry, ode.timesteps, guidance=2.0))
    code, _, err = cli("run", "-p", "tiny", "-m", "ode,hungry", "-n", "2", "-s", "1", "-k", "gap", "-q", "-o", "r")
    assert code == 4 and "not enough memory on the GPU (2.00 GiB more were asked for)" in err and "--batch-size" in err
    assert "scottbench resume r" in err and "Traceback" not in err
    assert list((tmp_path / "r" / "images").rglob("*.zip")), "the other cell's chunk is kept"


def test_what_is_no_lack_of_memory():
    assert lack_of_memory(ValueError("out of memory")) is None and lack_of_memory(MemoryError()) == "not enough memory"
    assert lack_of_memory(torch.OutOfMemoryError("?")) == "not enough memory on the GPU"


def test_a_batch_of_one_cannot_be_cut_further_and_the_line_does_not_say_so():
    told = TrainSettings(batch_size=1, gradient_checkpointing=True, offload=True, optimizer="adamw8bit", frozen="half").what_to_lower()
    assert told == "What a new training can lower: --batch-size, or all of it by a recipe (--recipe)."


# --- sizes by pixels -------------------------------------------------------------------------------------------------


def test_latents_of_512x512_go_eight_at_a_time_where_those_of_64x64_all_go_together():
    assert rows_at_once((16, 16), 128) == 128 and rows_at_once((8, 8), 64) == 64
    assert rows_at_once((64, 64), 128) == 8 and rows_at_once((128, 128), 128) == 2 and rows_at_once((999, 999), 64) == 1


def test_means_over_parts_count_items_and_leave_out_what_a_part_lacks():
    nan = float("nan")
    found = weighted_means([(3, {"a": 1.0, "b": nan}), (1, {"a": 5.0, "b": 2.0, "c": 7.0})])
    assert found == {"a": 2.0, "b": 2.0, "c": 7.0} and weighted_means([(4, {"a": 0.1})])["a"] == 0.1


@pytest.mark.parametrize("side, dtype, calls", [
    (8, torch.float32, [64]), (64, torch.float32, [4, 4, 1]), (64, torch.float16, [8, 1]), (128, torch.float32, [1] * 9)])  # fmt: skip
def test_large_pictures_are_decoded_few_at_a_time(side, dtype, calls):
    seen = []

    class Vae:
        config = SimpleNamespace(block_out_channels=(1, 1, 1, 1), scaling_factor=1.0)

        def decode(self, z, return_dict):
            seen.append(len(z))
            return (torch.zeros(1, 3, 1, 1).expand(len(z), 3, 1, 1),)

    vae = Vae()
    vae.dtype = dtype
    model = SimpleNamespace(_pixels_of=DiffusionModel._pixels_of)
    found = DiffusionModel.by_part(model, vae, torch.zeros(1, 1, 1, 1).expand(64 if side == 8 else 9, 4, side, side))
    assert seen == calls and len(found) == sum(calls)
