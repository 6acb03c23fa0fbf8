"""The tiny plug-in with consistency distillation beside its own, and what tests of the command line look at."""

import dataclasses

import tiny_plugin
import torch
from scottbench_cd import register_methods, register_trainers
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation

from scottbench.registry.nouns import Trainer

PRESET = tiny_plugin.PRESET + '\n[train]\nbatch_size = 4\nmetrics = ["gap"]\n'


class Failing(ConsistencyDistillation):
    """CD whose loss is no number in the step `fails_at`."""

    fails_at = 2

    def step(self, batch):
        for role, losses, facts in super().step(batch):
            bad = torch.nan if batch["step"] == self.fails_at else 1.0
            yield role, {term: loss * bad for term, loss in losses.items()}, facts


def with_cd(files, methods=()):
    """The tiny plug-in with CD's method and trainer beside its own, and a trainer "failing"."""
    found = tiny_plugin.tiny_plugins(files, methods=methods, preset=PRESET)
    trainers = [*register_trainers(), Trainer("failing", "CD that diverges", build=Failing, options=CDOptions)]
    sampled = dataclasses.replace(register_methods()[0], name="failing", trainer="failing")
    for kind, nouns in (("method", [*register_methods(), sampled]), ("trainer", trainers)):
        found.nouns[kind] |= {noun.name: tiny_plugin.registered(kind, noun) for noun in nouns}
    found.nouns["preset"]["tiny"].noun.guidance.update(cd=2.5, failing=2.5)
    return found


def refused(found, code, *words):
    """One line of error, and it holds the words."""
    assert (found[0], found[1]) == (code, ""), found
    assert found[2].startswith("error: ") and found[2].count("\n") == 1
    for word in words:
        assert word in found[2]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
