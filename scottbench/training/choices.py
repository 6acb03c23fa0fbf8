"""From what the user wrote to what is meant: names looked up, text to options, numbers checked. No file is touched."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import ScottbenchWarning, UsageError
from scottbench.plan.data import DataChoice, choose_data
from scottbench.plan.device import choose_device
from scottbench.plan.request import recorded
from scottbench.registry.nouns import Trainer
from scottbench.registry.options import make_options
from scottbench.registry.presets import Preset
from scottbench.text import did_you_mean, one_line
from scottbench.training.request import TrainRequest
from scottbench.training.settings import MINUTES, SETTINGS, Budget, TrainSettings, make_settings

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins

HEADLINE = ("trainer", "out", "resume")
"""Fields of a request that are no settings."""
BUDGET = ("minutes", "max_steps", "passes")
OF_RECIPE = ("summary", "trainers", "processes", "options")
"""Keys of a recipe that are no settings."""


@dataclass(frozen=True)
class TrainChoices:
    """A training that is ready to be opened."""

    request: TrainRequest
    preset: Preset
    """As the recipe has changed its [train]."""
    trainer: Trainer
    options: Any
    """An instance of the trainer's options."""
    settings: TrainSettings
    budget: Budget
    device: str
    out: Path
    data: DataChoice
    processes: int = 1
    """Processes that the recipe is for."""


def choose(plugins: Plugins, request: TrainRequest) -> TrainChoices:
    """Look up the names of a request and fill in the preset's values and the defaults. Raises UsageError."""
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"--seed must be a whole number from 0 to {2**63 - 1}, found '{request.seed}'")
    trainer = plugins.find("trainer", request.trainer).noun
    preset, recipe = plugins.find("preset", request.preset).noun, {}
    if request.recipe is not None:
        recipe = find_recipe(preset, request.recipe, trainer.name)
        preset = replace(preset, train=merged(preset.train, recipe))
    if request.metrics is not None:
        preset = replace(preset, train={**preset.train, "metrics": request.metrics})
    device = choose_device(request.device, preset)
    options = make_options(trainer.options, preset_options(preset, trainer) | request.options, f"trainer '{trainer.name}'")
    settings = make_settings(preset.train, {name: getattr(request, name) for name in SETTINGS})
    out = Path("students") / f"{preset.name}-{trainer.name}" if request.out is None else Path(request.out)
    data = choose_data(plugins, preset, request)
    budget = choose_budget(request, preset)
    return TrainChoices(request, preset, trainer, options, settings, budget, device, out, data, recipe.get("processes", 1))


def find_recipe(preset: Preset, name: str, trainer: str) -> dict[str, Any]:
    """Return a recipe of a preset. Raises UsageError for a name that it has not, and for one that is for other trainers."""
    if name not in preset.recipes:
        has = f"Recipes of preset '{preset.name}': {', '.join(preset.recipes)}" if preset.recipes else f"Preset '{preset.name}' has none"
        raise UsageError(f"unknown recipe '{one_line(name)}'.{did_you_mean(name, preset.recipes)} {has}.")
    recipe = preset.recipes[name]
    made_for = recipe.get("trainers", [trainer])
    if trainer not in made_for:
        others = [other for other, one in preset.recipes.items() if trainer in one.get("trainers", [trainer])]
        hint = f" Recipes for '{trainer}': {', '.join(others)}." if others else ""
        raise UsageError(f"recipe '{one_line(name)}' of preset '{preset.name}' is for {', '.join(made_for)}, not for '{trainer}'.{hint}")
    return recipe


def merged(train: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """Lay a recipe over a preset's [train]: its budget takes the place of the other, options of trainers go one by one."""
    found = {key: value for key, value in train.items() if key not in BUDGET or not set(BUDGET) & set(recipe)}
    found |= {key: value for key, value in recipe.items() if key not in OF_RECIPE}
    options = {name: dict(values) for name, values in train.get("options", {}).items()}
    for name, values in recipe.get("options", {}).items():
        options[name] = options.get(name, {}) | values
    return found | {"options": options}


def check_processes(choices: TrainChoices, found: int) -> None:
    """Warn where a recipe is for another number of processes than there are: memory and batch of each are others then."""
    if choices.processes != found:
        warnings.warn(ScottbenchWarning(
            f"recipe '{choices.request.recipe}' is for {choices.processes} processes, and this is {found}: accelerate launch --multi_gpu "
            f"--num_processes {choices.processes} $(which scottbench) train ... It trains the same batch, with "
            f"{choices.settings.batch_size // found} items on each in place of {choices.settings.batch_size // choices.processes}."),
            stacklevel=2)


def choose_budget(request: TrainRequest, preset: Preset) -> Budget:
    """Take the budget that was asked for, else the preset's minutes. Raises UsageError for one that is spent before it begins."""
    if request.minutes is not None and not request.minutes > 0:
        raise UsageError("--minutes must be above 0")
    if request.max_steps is not None and request.max_steps < 1:
        raise UsageError(f"--max-steps must be a whole number of at least 1, found '{request.max_steps}'")
    if request.passes is not None and request.passes < 1:
        raise UsageError(f"--passes must be a whole number of at least 1, found '{request.passes}'")
    if request.minutes is None and request.max_steps is None and request.passes is None:
        steps, passes = preset.train.get("max_steps"), preset.train.get("passes")
        return Budget(preset.train.get("minutes", MINUTES if steps is None and passes is None else None), steps, passes)
    return Budget(request.minutes, request.max_steps, request.passes)


def preset_options(preset: Preset, trainer: Trainer) -> dict[str, Any]:
    """Return a preset's values for the options of a trainer."""
    return preset.train.get("options", {}).get(trainer.name, {})


def in_words(choices: TrainChoices) -> list[tuple[str, Any, str]]:
    """List (setting, value, origin) of everything that a training uses; options of the trainer are named "options.NAME"."""
    request, preset = choices.request, choices.preset
    filled = {name: preset.train[name] for name in (*SETTINGS, "metrics") if name in preset.train} | {
        "model": preset.model, "device": preset.device, "dataset": preset.dataset}
    if request.minutes is None and request.max_steps is None and request.passes is None:
        filled |= {name: preset.train.get(name) for name in BUDGET}
    found = recorded(request, preset, filled)
    recipe = {} if request.recipe is None else preset.recipes[request.recipe]
    for name, entry in found.items():
        if entry["origin"] in ("default", f"preset {preset.name}") and name in recipe and name not in OF_RECIPE:
            entry["value"] = recipe[name] if name in BUDGET else entry["value"]
            entry["origin"] = f"recipe {request.recipe}"
    defaults = asdict(choices.settings) | asdict(choices.budget)
    rows = []
    for name, entry in found.items():
        if name not in (*HEADLINE, "options"):
            filled_in = entry["origin"] == "default" or entry["value"] is None
            value = defaults.get(name, entry["value"]) if filled_in else entry["value"]
            rows.append((name, value, entry["origin"]))
    given, of_preset = request.origins.get("options", "call"), preset_options(preset, choices.trainer)
    of_recipe = recipe.get("options", {}).get(choices.trainer.name, {})
    for name, value in asdict(choices.options).items():
        origin = f"preset {preset.name}" if name in of_preset else "default"
        origin = given if name in request.options else f"recipe {request.recipe}" if name in of_recipe else origin
        rows.append((f"options.{name}", value, origin))
    return rows
