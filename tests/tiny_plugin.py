"""A plug-in for tests, made in memory: model, dataset of 12 items, two methods, trainer, two metrics, preset; loaded as plug-ins are."""

from __future__ import annotations

import hashlib
import types
from pathlib import Path

import numpy as np
import scottbench_extractors
import tiny

from scottbench.diffusion import consistency_function, skipping_grid, spread, update
from scottbench.models.pipeline import open_pipeline
from scottbench.registry.hookspecs import hookimpl
from scottbench.registry.loader import Plugins, Registered, load_plugins
from scottbench.registry.nouns import Dataset, Method, Metric, Model, Trainer
from scottbench.store.weights import weights_digest

SIZES, COLOURS, THINGS = ["small", "large", "round"], ["red", "green", "blue", "dark"], ["apple", "pear", "cat", "dog", "tree", "moon"]
PROMPTS = [f"a {SIZES[i % 3]} {COLOURS[i % 4]} {THINGS[i % 6]}" for i in range(12)]

PRESET = """
name = "tiny"
summary = "random networks for tests"
model = "tiny"
dataset = "dots"
methods = ["ode", "hop"]
steps = [2]
metrics = ["gap", "agreement"]
sample_items = 4
limits = ["Random weights: the numbers mean nothing."]
[students]
hop = "student"
[guidance]
ode = 3.0
[extractors.image]
kind = "open_clip"
folder = "evaluator"
label = "tiny features"
[extractors.clip]
same_as = "image"
"""


class Dots:
    """12 items: noise pictures of one hue each."""

    ids = tuple(f"dot-{number:02d}" for number in range(12))
    prompts = PROMPTS
    digest = hashlib.sha256(b"dots").hexdigest()

    def images(self, indices):
        pictures = [np.random.default_rng(index).integers(0, 256, (tiny.SIDE, tiny.SIDE, 3), dtype=np.uint8) for index in indices]
        return np.stack(pictures)


def sample_ode(run):
    """DDIM with eta = 0."""
    z, times = run.noise(0), timesteps(run.schedule, run.steps, run.options)
    for t, t_next in zip(times, [*times[1:], 0], strict=True):
        x0, eps = run.denoise(z, t)
        z = update(run.schedule, x0, eps, t_next, rho=1, noise=None)
    return z


def sample_hop(run):
    """Multistep consistency sampling: fresh noise at every step."""
    z, times = run.noise(0), timesteps(run.schedule, run.steps, run.options)
    for k, t in enumerate(times):
        x0, eps = run.denoise(z, t)
        x = consistency_function(z, t, x0)
        if k + 1 < len(times):
            z = update(run.schedule, x, eps, times[k + 1], rho=0, noise=run.noise(k + 1))
    return x


def timesteps(schedule, steps, options):
    return spread(skipping_grid(schedule, 20), steps)


def gap(cell, options):
    """Distance of the mean features: a stand-in for a Frechet distance that needs no covariance."""
    return float(np.linalg.norm(cell.generated["image"].mean(0, dtype=np.float64) - cell.reference["image"].mean(0, dtype=np.float64)))


def agreement(cell, options):
    return float(np.mean(np.sum(cell.generated["clip"].astype(np.float64) * cell.text["clip"], axis=1)))


METRICS = [
    Metric("gap", "distance of mean features", gap, higher_is_better=False),
    Metric("agreement", "inner product of image and text", agreement, higher_is_better=True, features="clip"),
]
METHODS = [
    Method("ode", "teacher's ODE", sample_ode, timesteps, guidance=2.0),
    Method("hop", "student's hops", sample_hop, timesteps, trainer="hop", guidance=2.5),
]


def registered(kind: str, noun) -> Registered:
    """A noun as if the tiny plug-in had registered it."""
    return Registered(noun, kind, "tiny", "scottbench", "0", "?")


SHARED: list[Path] = []


def shared_files(factory) -> Path:
    """The folder of `make_files`, made once a session (factory: pytest's tmp_path_factory); tests must not write there."""
    if not SHARED:
        SHARED.append(make_files(factory.mktemp("tiny")))
    return SHARED[0]


def make_files(folder: Path) -> Path:
    """Pipeline, evaluator, student and preset.toml in `folder`; returns it."""
    tiny.tiny_pipeline(folder / "model")
    tiny.tiny_evaluator(folder / "evaluator")
    tiny.tiny_student(folder / "student", "hop", weights_digest(folder / "model"))
    (folder / "preset.toml").write_text(PRESET)
    return folder


def tiny_plugins(folder: Path, methods=(), metrics=(), items=Dots, preset: str | None = None, extractors=()) -> Plugins:
    """Plugins over the files of `make_files`; further methods and metrics, another dataset or preset text if given."""
    path = folder / "preset.toml"
    if preset is not None:
        path = folder / "other.toml"
        path.write_text(preset)
    module = types.ModuleType("tiny_plugin_in_memory")
    model = Model("tiny", "random", lambda device, dtype: open_pipeline(folder / "model", device, dtype))
    module.register_models = hookimpl(lambda: [model])
    module.register_datasets = hookimpl(lambda: [Dataset("dots", "noise", lambda split: items())])
    module.register_methods = hookimpl(lambda: [*METHODS, *methods])
    module.register_trainers = hookimpl(lambda: [Trainer("hop", "none", build=lambda context, options: None)])
    module.register_metrics = hookimpl(lambda: [*METRICS, *metrics])
    module.register_extractors = hookimpl(lambda: [*scottbench_extractors.register_extractors(), *extractors])
    module.register_presets = hookimpl(lambda: [path])
    for name in [name for name in vars(module) if name.startswith("register_")]:
        getattr(module, name).__name__ = name
    plugins = load_plugins([types.SimpleNamespace(name="tiny", value="tiny_plugin_in_memory", load=lambda: module, dist=None)])
    assert not plugins.broken, plugins.plugins
    return plugins
