"""The eight hooks of a plug-in. One form: each returns a list. Registering is cheap: no torch, no files opened."""

from __future__ import annotations

from pathlib import Path

import pluggy

from scottbench.registry.nouns import Dataset, Extractor, Method, Metric, Model, Trainer

PROJECT = "scottbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_models() -> list[Model]:
    """Text-to-image models that can be teacher: diffusers pipeline folders, opened by `Model.open`."""
    return []


@hookspec
def register_datasets() -> list[Dataset]:
    """Named (image, prompt, id) sets with a fixed evaluation split."""
    return []


@hookspec
def register_methods() -> list[Method]:
    """Few-step recipes (samplers), named as the user types them after `--methods`."""
    return []


@hookspec
def register_trainers() -> list[Trainer]:
    """Recipes that make a student, named as the user types them after `scottbench train`."""
    return []


@hookspec
def register_extractors() -> list[Extractor]:
    """Networks that turn images and prompts into features or scores, named as `kind` in a preset's [extractors.ROLE] or by a metric."""
    return []


@hookspec
def register_metrics() -> list[Metric]:
    """Numbers made of features, named as the user types them after `--metrics`."""
    return []


@hookspec
def register_presets() -> list[Path]:
    """Paths of TOML files, each a named bundle of model, dataset, metrics, students and protocol."""
    return []


@hookspec
def register_claims() -> list[Path]:
    """Paths of TOML files, each one statement of a paper that `scottbench claims` holds against a run."""
    return []
