"""A training on a tiny pipeline: 20 items of noise, every bundled trainer, and the teacher's samplers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import scottbench_cd
import scottbench_dmd2
import scottbench_extractors
import scottbench_flash
import scottbench_instaflow
import scottbench_pcm
import scottbench_scott
import scottbench_solvers
import scottbench_ufogen
import tiny_plugin

from scottbench.errors import UsageError
from scottbench.models.pipeline import open_pipeline
from scottbench.registry.nouns import Dataset, Model
from scottbench.registry.presets import Preset
from scottbench.training.request import TrainRequest

PLUGINS = (
    scottbench_cd, scottbench_dmd2, scottbench_flash, scottbench_instaflow, scottbench_pcm, scottbench_scott, scottbench_ufogen,
    scottbench_solvers)


class Items:
    ids = [f"item-{i}" for i in range(20)]
    prompts = [f"a {c} {n}" for c in ("red", "green", "blue", "dark") for n in ("apple", "dog", "house", "star", "moon")]
    digest = "0" * 64

    def images(self, indices):
        return np.stack([np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8) for i in indices])


class Registry:
    """The part of the plug-in registry that `train` uses. evaluator: an open_clip folder for the preset's "image" extractor."""

    def __init__(self, pipeline, evaluator=None):
        extractors = {} if evaluator is None else {"image": {"kind": "open_clip", "folder": str(evaluator), "label": "tiny features"}}
        preset = Preset("tiny", "", "tiny", "items", [], [], [1], extractors=extractors, train={"batch_size": 4})
        self.plugins = []  # entry points: it has none
        self.nouns = {kind: {} for kind in ("preset", "model", "dataset", "method", "trainer", "extractor", "metric")}
        self.add("preset", preset)
        self.add("model", Model("tiny", "", lambda device, dtype: open_pipeline(pipeline, device, dtype)))
        self.add("dataset", Dataset("items", "", lambda split: Items()))
        for extractor in scottbench_extractors.register_extractors():
            self.add("extractor", extractor)
        for plugin in PLUGINS:
            for kind in ("method", "trainer"):
                for noun in getattr(plugin, f"register_{kind}s", list)():
                    self.add(kind, noun)

    def add(self, kind, noun):
        self.nouns[kind][noun.name] = tiny_plugin.registered(kind, noun)

    def named(self, kind, name):
        return self.nouns[kind].get(name)

    def of(self, kind, noun):
        return self.find(kind, noun.name)

    def find(self, kind, name):
        if name not in self.nouns[kind]:
            raise UsageError(f"unknown {kind} '{name}'.")
        return self.nouns[kind][name]


def train(plugins, preset: str, trainer: str, out: Path, *, progress=None, **asked) -> Path:
    """`scottbench.training.train.train` by keywords: fields of TrainRequest, on a CPU unless they say otherwise."""
    from scottbench.training import train as training

    return training.train(plugins, TrainRequest(trainer, preset, out=out, **{"device": "cpu", **asked}), progress)


def batch_of(teacher, n=4, seed=0, **more):
    """A batch as the loop makes it, of random latents."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    prompts = [Items.prompts[i % 20] for i in range(n)]
    facts = {"indices": torch.arange(n), "generator": generator, "step": 0, "fraction": 0.0}
    latents = torch.randn(n, 4, 8, 8, generator=generator)
    return facts | {"latents": latents, "text": teacher.embed(prompts), "uncond": teacher.embed([""])} | more


def whole_and_cut(pipeline, name, folder, options, steps, at):
    """Digests of the weights of two trainings: one of `steps`, and the same, cut by Ctrl-C after step `at` and gone on with."""
    given = {"max_steps": steps, "options": options}

    def interrupt(event, step, *rest):
        if event == "train" and step == at:
            os.kill(os.getpid(), signal.SIGINT)

    whole = train(Registry(pipeline), "tiny", name, folder / "whole", **given)
    with pytest.raises(KeyboardInterrupt):
        train(Registry(pipeline), "tiny", name, folder / "cut", progress=interrupt, **given)
    assert not (folder / "cut" / "student.json").exists()
    cut = train(Registry(pipeline), "tiny", name, folder / "cut", resume=True, **given)
    return [json.loads((out / "student.json").read_text())["weights_digest"] for out in (whole, cut)]
