"""The metric curve of a training: a few fixed held-out items, sampled and measured as `scottbench run` would.

The items are of the training split and never trained on: choosing a student by the evaluation split would flatter it.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import numpy as np

from scottbench.errors import ScottbenchWarning, UsageError
from scottbench.models.diffusion_model import DiffusionModel, UNet
from scottbench.models.extractors import open_extractor
from scottbench.models.sampling import Sampler, embed_prompts
from scottbench.models.student import sampler_defaults
from scottbench.plan.cells import checked_timesteps, unusual
from scottbench.plan.choices import find_metrics, in_range, roles
from scottbench.plan.device import choose_micro_batch
from scottbench.plan.inputs import find_source
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import CellFeatures, Method, Trainer
from scottbench.registry.options import make_options, options_of
from scottbench.registry.presets import Preset
from scottbench.store.folder import CHUNK
from scottbench.training.choices import TrainChoices
from scottbench.training.export import plain_unet
from scottbench.training.frozen import fetched
from scottbench.training.sizes import rows_at_once

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Items
    from scottbench.training.loop import Loop

class Validation:
    """The metric curve: `validation()` -> {label: value} of the weights that will be exported, as they are now.

    `label` names the metric that decides. With weights "both", theta's values stand beside the average's as "student/label".
    """

    offload = False
    """Text encoder and VAE wait in the CPU's memory between two points."""

    def __init__(self, plugins: Plugins, choices: TrainChoices, model: DiffusionModel, items: Items, loop: Loop):
        self.model, self.loop, self.items = model, loop, items
        self.distillation = loop.distillation
        self.offload = loop.settings.offload
        self.opened: dict[str, DiffusionModel] = {}
        self.index = loop.data.held_out.tolist()
        self.choose_method(plugins, choices)
        self.choose_metrics(plugins, choices.preset)
        self.open_features(plugins, choices.preset)

    def choose_method(self, plugins: Plugins, choices: TrainChoices) -> None:
        """Find the method that samples the student, its guidance and number of steps. Raises UsageError for those that cannot be."""
        self.method = find_method(plugins, choices.trainer)
        self.guidance = self.find_guidance(choices.preset, self.distillation.student_config())
        asked = choices.settings.evaluate_steps
        self.steps = choices.preset.steps[0] if asked is None else asked
        facts = {"options": dataclasses.asdict(choices.options), **self.distillation.student_config()}
        known = [option.name for option in options_of(self.method.options)]
        self.options = make_options(self.method.options, sampler_defaults(facts, known), f"method '{self.method.name}'")
        checked_timesteps(self.method, self.options, self.model.schedule, self.steps, "--evaluate-steps")
        for line in unusual(f"method '{self.method.name}'", self.method.made_for, self.steps):
            warnings.warn(ScottbenchWarning(f"--evaluate-steps: {line}"), stacklevel=2)

    def choose_metrics(self, plugins: Plugins, preset: Preset) -> None:
        """Find the metrics of the curve, of which the first decides. Raises UsageError for one over several seeds."""
        named = preset.train.get("metrics", preset.metrics[:1])
        self.metrics = find_metrics(plugins, preset, RunRequest(preset.name, metrics=named))
        over_seeds = [choice.label for choice in self.metrics if choice.metric.scope == "seeds"]
        if over_seeds:
            raise UsageError(f"metric '{over_seeds[0]}' compares several seeds of a method; a training is watched at one. Leave out "
                             f"--evaluate-every, or name other metrics under [train] of preset '{preset.name}'.")
        self.label = str(self.metrics[0].label)
        self.higher_is_better = self.metrics[0].metric.higher_is_better

    def open_features(self, plugins: Plugins, preset: Preset) -> None:
        """Open the extractors that the metrics need, and make the features of the held-out images and prompts."""
        self.roles, chosen = roles(plugins, preset, self.metrics)
        sources = {role: find_source(preset, choice) for role, choice in chosen.items()}
        self.extractors = {role: open_extractor(source, self.model.device) for role, source in sources.items()}
        images, prompts = self.items.images(self.index), [self.items.prompts[i] for i in self.index]
        self.prompts = prompts
        real = {role: e.features(images) for role, e in self.extractors.items() if not e.source.gives_score}
        self.real = self.by_role({role: self.extractors[role].source.by_crop(rows) for role, rows in real.items()})
        self.text = self.by_role({r: e.text_features(prompts) for r, e in self.extractors.items() if e.text_tower is not None})

    def find_guidance(self, preset: Preset, facts: dict) -> float:
        """Take the guidance that `scottbench run` would. Raises UsageError, before the first step, where the student will not know it."""
        guidance = 1.0 if facts.get("guidance") == "baked" else preset.guidance.get(self.method.name, self.method.guidance)
        if not in_range(guidance, facts):
            raise UsageError(
                f"the metric curve samples method '{self.method.name}' at guidance scale {guidance:g}, outside the range to be trained: "
                f"{1 + facts['w_min']:g} to {1 + facts['w_max']:g}. Widen w_min to w_max (-O), or leave out the curve: --evaluate-every 0.")
        return guidance

    def by_role(self, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name features, (n, d) each, by the role that a metric asks for instead of the one that holds the network."""
        return {role: features[target] for role, target in self.roles.items() if target in features}

    def better(self, value: float, than: float) -> bool:
        """Compare two values of the metric that decides."""
        return value > than if self.higher_is_better else value < than

    def __call__(self) -> dict[str, float]:
        """Compute the metrics of the weights that an export would write now."""
        values: dict[str, float] = {}
        for number, name in enumerate(self.loop.kept()):
            with self.loop.weights(name) as network:
                found = self.measure(name, network)
            values |= found if number == 0 else {f"{name}/{label}": value for label, value in found.items()}
        return values

    def measure(self, which: str, network: UNet) -> dict[str, float]:
        """Compute the metrics of one set of weights at fixed noise (seed 0). Its evaluations are no part of the training's."""
        facts, unet = self.distillation.student_config(), plain_unet(network)
        if which not in self.opened or self.opened[which].unet is not unet:
            self.opened[which] = self.model.with_unet(unet, facts | {"weights_digest": ""})
        with self.model.uncounted():
            images = self.sample(self.opened[which])
        features = self.by_role({role: e.source.by_crop(e.features(images, self.prompts)) for role, e in self.extractors.items()})
        cell = CellFeatures(
            len(self.index), features, self.real, self.text, images=lambda indices: images[list(indices)],
            reference_images=lambda indices: self.items.images([self.index[i] for i in indices]),
            ids=tuple(self.items.ids[i] for i in self.index), prompts=tuple(self.prompts))
        return {str(choice.label): float(choice.metric.compute(cell, choice.options)) for choice in self.metrics}

    def sample(self, student: DiffusionModel) -> np.ndarray:
        """Make (n,H,W,3) uint8 images of the held-out prompts: the bytes that `scottbench run` makes of these weights, items and seed."""
        ids, prompts = ([texts[i] for i in self.index] for texts in (self.items.ids, self.items.prompts))
        fixed = choose_micro_batch(student.device, student.latent_shape)
        with fetched(student, self.offload):
            text, uncond = embed_prompts(student, prompts, fixed, CHUNK), student.empty_prompt()
            sampler = Sampler(student, self.method, self.method.name, self.options, uncond, self.guidance, self.steps, seed=0)
            return sampler.images(text, ids, fixed, rows_at_once(student.latent_shape[1:], CHUNK))


def find_method(plugins: Plugins, trainer: Trainer) -> Method:
    """Find the first method that samples a student of this trainer, of its own plug-in if there is one. Raises UsageError if there is
    none."""
    own = plugins.of("trainer", trainer).plugin
    for registered in sorted(plugins.nouns["method"].values(), key=lambda found: found.plugin != own):
        if registered.noun.trainer == trainer.name:
            return registered.noun
    raise UsageError(f"no method samples a student of trainer '{trainer.name}', so it has no metric curve. Leave out --evaluate-every.")
