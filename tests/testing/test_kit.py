"""The kit for authors: its fixtures, small runs and trainings by the real host, and that our own plug-ins have no finding."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scottbench_metrics import register_metrics

from scottbench import Method, Trainer
from scottbench.errors import UsageError
from scottbench.models.noise import ItemNoise
from scottbench.registry.loader import load_plugins
from scottbench.testing import Doubt, MadeItems, NotConforming, check_dataset, check_extractor, check_trainer
from scottbench.testing.analytic import mean_of
from scottbench.testing.finding import FAIL, OK, WARN, Check, Subject, found_by
from scottbench.testing.isolated import PLUGIN_CHECKS
from scottbench.testing.package import BY_KIND, checks, of_plugin
from scottbench.testing.same_draws import SameDraws
from scottbench.testing.sources import as_plugins
from scottbench.testing.where import Code

PLUGINS = load_plugins()
OWN = [plugin for plugin in PLUGINS.plugins if plugin.distribution == "scottbench"]
ELSEWHERE = {"placement", "import"}
"""tests/training/test_on_a_gpu.py does it with every trainer and more options; test_architecture.py looks at the import of all at once."""


@pytest.mark.parametrize("name", [plugin.name for plugin in OWN])
def test_own_plug_ins_keep_every_rule(name):
    """All checks of `plugin check --full`; a warning is of weights and data that are not here, or that only an option names, as of streams
    (tests/plugins/streams gives them shards), and nothing else."""
    (plugin,) = [one for one in OWN if one.name == name]
    bounds = [bound for bound in of_plugin(PLUGINS, plugin, full=True) if bound.check.name not in ELSEWHERE]
    found = [bound.find() for bound in bounds]
    assert [one.line for one in found if one.status == FAIL] == []
    absent = (
        "files are missing here",
        "is not here",
        "so no byte",
        "so no pixel",
        "has no default, so its options are not tried",
        "needs option 'path'",
    )
    assert [one.line for one in found if one.status == WARN and not any(words in one.found for words in absent)] == []
    assert {bound.subject.noun.name for bound in bounds if bound.subject.noun is not None} == {noun for _, noun in plugin.names}
    assert sum(one.status == OK for one in found) >= 5


def test_every_kind_of_noun_has_checks():
    assert set(BY_KIND) == set(PLUGINS.nouns)
    for kind, found in BY_KIND.items():
        assert found and max(Counter(check.name for check in found).values()) == 1, kind


def test_the_page_names_every_check():
    page = (Path(__file__).parents[2] / "docs" / "plugin-check.md").read_text()
    rows = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    named = {check.name for found in BY_KIND.values() for check in found} | {check.name for check in PLUGIN_CHECKS}
    assert [name for name in sorted(named) if name not in rows] == []


# --- fixtures --------------------------------------------------------------------------------------------------------


def test_teachers_in_closed_form(sb_point_teacher, sb_gaussian_teacher, sb_tiny_model):
    ddim = PLUGINS.find("method", "ddim").noun
    for teacher, spread in ((sb_point_teacher, 0.0), (sb_gaussian_teacher, 0.5)):
        text, noise = teacher.encode_prompts(["a red apple"] * 16), ItemNoise(0, [str(i) for i in range(16)], (4, 8, 8))
        latents = ddim.sample(teacher.sampling(text, teacher.encode_prompts([""]), 1.0, noise, 50, ddim.options()))
        assert float((latents - mean_of(text.hidden)).std()) == pytest.approx(spread, abs=0.04)
    assert sb_tiny_model.latent_shape == (4, 8, 8)
    assert sb_tiny_model.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 64, 64, 3)


def test_made_items_have_the_faults_that_are_asked_for(sb_items):
    items = sb_items(5)
    assert items.images([0, 4]).shape == (2, 64, 64, 3) and len(set(items.ids)) == 5
    digest = items.digest
    items.changes[4] = 1
    assert items.digest != digest
    assert sb_items(5, digest=True).digest == sb_items(5, side=32, digest=True).digest
    assert len(sb_items(5, lost=True).images([0, 1])) == 1 and sb_items(5, float=True).images([0]).dtype == np.float32
    assert "" in sb_items(5, empty_prompt=True).prompts and len(set(sb_items(5, same_id=True).ids)) == 4
    with pytest.raises(UsageError, match="no fault 'colour'. Faults: same_id"):
        sb_items(5, colour=True)


@pytest.mark.parametrize("fault, words", [
    ("same_id", "stands twice"), ("empty_prompt", "has no prompt"), ("float", "must give"), ("sizes", "must give"), ("lost", "must give"),
    ("changing", "at a second look"),
])  # fmt: skip
def test_a_dataset_with_a_fault_is_refused(sb_plugins, sb_items, fault, words):
    from scottbench import Dataset

    def opened(split, items):
        if split != "evaluation":
            raise UsageError("evaluation only")
        return items

    check_dataset(Dataset("good", "made", lambda split: opened(split, sb_items(6, side=16))))
    with pytest.raises(NotConforming, match=words):
        check_dataset(Dataset("bad", "made", lambda split: opened(split, sb_items(6, side=16, **{fault: True}))))
    with pytest.raises(NotConforming, match="opens a split 'no-such-split'"):
        check_dataset(Dataset("bad", "made", lambda split: sb_items(6, side=16)))


def test_an_extractor_without_weights_keeps_the_rules():
    from scottbench.testing.tiny import PIXELS

    check_extractor(PIXELS)


def test_a_small_training_and_a_run_of_its_student(sb_train, sb_run, sb_plugins):
    """The real host, from the teacher to results: three steps of a bundled trainer, its student and the teacher's sampler."""
    plugins = sb_plugins()
    trained = sb_train("ufogen", steps=2, plugins=plugins)
    assert [set(one) >= {"student/reconstruction", "student/grad_norm"} for one in trained.logged] == [True, True]
    assert trained.facts["trainer"] == "ufogen" and trained.facts["updates"] == 2
    run = sb_run(plugins, ["ddim", "ufogen"], ["sb-colour", "clip_score"], steps=[1, 2], n=4, students={"ufogen": trained.folder})
    rows = run.results
    assert rows.shape[0] == 8 and rows["value"].is_finite().all() and set(rows["n"]) == {4}
    assert set(rows.filter(rows["method"] == "ddim")["steps"]) == {1, 2}


def test_plug_ins_come_from_whatever_an_author_has(sb_plugins, tmp_path):
    ddim = PLUGINS.find("method", "ddim").noun
    mine = Method("mine", "a sampler", ddim.sample, ddim.timesteps, options=ddim.options)
    found = sb_plugins([mine, register_metrics()[0].__class__("my-metric", "a number", lambda cell, options: 1.0, True)])
    assert {"mine", "ddim"} <= set(found.nouns["method"]) and "my-metric" in found.nouns["metric"]
    assert sb_plugins(found) is found
    file = tmp_path / "one_file.py"
    file.write_text("from scottbench import hookimpl\n\n\n@hookimpl\ndef register_methods():\n    return []\n")
    assert "one_file" in [plugin.name for plugin in sb_plugins(file).plugins]
    with pytest.raises(UsageError, match="is no noun. Give a name"):
        as_plugins([3])
    assert [check.__name__ for check in checks([mine], full=False)][:2] == [
        "plug-in sb_plugin_in_memory: loads",
        "plug-in sb_plugin_in_memory: import",
    ]


# --- the parts -------------------------------------------------------------------------------------------------------


def test_a_finding_says_what_where_and_how_to_mend_it():
    def broken(subject):
        raise NotConforming("x is 3.", "Write 4.", "sample")

    def doubtful(subject):
        raise Doubt("nobody knows.", "Look.")

    def falls(subject):
        return 1 / 0

    code = Code(str(__file__).rpartition("/")[0], __file__)
    noun = Method("mine", "a sampler", broken, broken)
    found = [found_by(Check("rule", run), Subject("method", noun, code=code)) for run in (broken, doubtful, falls, lambda subject: "well")]
    assert [one.status for one in found] == ["FAIL", "warn", "FAIL", "ok"]
    assert found[0].where.endswith(f"test_kit.py:{broken.__code__.co_firstlineno}") and found[0].fix == "Write 4."
    assert "ZeroDivisionError" in found[2].found and found[2].where.endswith(f"test_kit.py:{falls.__code__.co_firstlineno + 1}")
    assert found[3].line == "ok method mine: rule: well"


def test_draws_are_the_same_for_every_item_whatever_the_batch():
    """So that a batch of 16 and two of 8 can be compared: by rows, and each number of a generator by its turn."""

    def drawn(n):
        generator = torch.Generator().manual_seed(n)
        with SameDraws():
            noise, more = (torch.randn(n, 3, generator=generator) for _ in range(2))
            places = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
            steps = torch.randint(0, 1000, (n,), generator=generator)
        return noise, more, places, steps

    for a, b in zip(drawn(16), drawn(8)):
        assert torch.equal(a[:8], b) and bool((a == a[0]).all())
    noise, more, _, steps = drawn(8)
    assert not torch.equal(noise, more) and steps[0] == 500
    assert not torch.equal(*(torch.randn(3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)))


class Wrong:
    """A distillation with a fault of choice."""

    def __init__(self, context, fault):
        self.context, self.fault = context, fault
        self.network = torch.nn.Conv2d(4, 4, 1)
        self.network.config = SimpleNamespace(time_cond_proj_dim=None)
        self.networks = {"student": self.network, **({"twin": self.network} if fault == "shared" else {})}
        self.learning_rates, self.betas, self.ema, self.ema_decay = dict.fromkeys(self.networks, 1e-3), {}, None, 0.0
        if fault == "frozen":
            self.network.requires_grad_(False)

    def step(self, batch):
        loss = self.network(batch["latents"]).square().mean()
        if self.fault == "backward":
            loss.backward(retain_graph=True)
        if self.fault == "updates":
            with torch.no_grad():
                self.network.weight.mul_(0.9)
        if self.fault == "vector":
            loss = loss[None]
        yield ("teacher" if self.fault == "role" else "student"), {"loss": loss.detach() if self.fault == "detached" else loss}, {}

    def student_config(self):
        return {}


@pytest.mark.parametrize("fault, words", [
    ("shared", "train the same weights"), ("frozen", "has nothing to train"), ("backward", "gradients lie on network 'student'"),
    ("updates", "the weights of network 'student' were changed"), ("vector", "A loss is a 0-d tensor: take its mean"),
    ("role", "a loss of role .teacher., and networks has .student."), ("detached", "have no gradient"),
])  # fmt: skip
def test_a_trainer_that_does_the_hosts_work_is_refused(fault, words):
    with pytest.raises(NotConforming, match=words):
        check_trainer(Trainer("wrong", "a training", lambda context, options: Wrong(context, fault)))


def test_the_kit_is_a_pytest_plug_in():
    """`pytest_plugins = "scottbench.testing"`: every fixture is an attribute of the module."""
    import scottbench.testing

    for name in ("plugins", "point_teacher", "gaussian_teacher", "tiny_model", "items", "cell", "run", "train"):
        assert hasattr(scottbench.testing, f"sb_{name}")
    assert importlib.metadata.version("pytest")
    assert MadeItems(1).ids == ["item-000"]
