"""Public files that a preset, or anything else that a user names, needs: by the tables of the plug-ins. Nothing heavy is imported."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scottbench.errors import UsageError
from scottbench.registry.loader import Plugins
from scottbench.registry.nouns import Dataset, Extractor, Metric, Model
from scottbench.registry.presets import Preset
from scottbench.store.fetch.table import TABLE, Asset, File, inside, of_hub, read_assets
from scottbench.text import did_you_mean, one_line

PURPOSES = {"run": ("evaluation",), "train": ("evaluation", "train")}
"""What --for names -> the splits of the data that it needs. A training measures on the evaluation split."""


@dataclass
class Needs:
    """The files to fetch, and notes for the user beside them."""

    assets: list[Asset] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, asset: Asset) -> None:
        """Add an asset, once."""
        if asset not in self.assets:
            self.assets.append(asset)


def known_assets(plugins: Plugins) -> dict[str, Asset]:
    """Return every asset of the plug-ins that were loaded, by name. Raises UsageError for a table that is none, or a name given twice."""
    found: dict[str, Asset] = {}
    for plugin in plugins.plugins:
        for path in _tables(plugin.target) if plugin.status == "ok" else ():
            for asset in read_assets(path):
                if asset.name in found:
                    raise UsageError(f"{path}: the name '{asset.name}' is taken by another plug-in's table.")
                found[asset.name] = asset
    return found


def _tables(target: str) -> Iterator[Path]:
    """The assets.toml beside the `__init__.py` of a plug-in's package, where there is one."""
    try:
        spec = importlib.util.find_spec(target.partition(":")[0])
    except (ImportError, ValueError, AttributeError):
        return  # a module that was made in memory
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (path := Path(folder) / TABLE).is_file():
            yield path


def needs_of(plugins: Plugins, words: Sequence[str], purpose: str) -> Needs:
    """Find what is to be fetched for names of presets, assets, nouns, or files of the hub. purpose: a key of `PURPOSES`.

    Raises UsageError for a name that is none of these, or that no table says anything of.
    """
    known, needs = known_assets(plugins), Needs()
    for word in words:
        if word in plugins.nouns["preset"]:
            _of_preset(plugins, known, plugins.find("preset", word).noun, purpose, needs)
        elif word in known:
            needs.add(known[word])
        elif (named := of_hub(word)) is not None:
            needs.add(named)
        else:
            _of_noun(plugins, known, word, purpose, needs)
    return needs


def _of_noun(plugins: Plugins, known: Mapping[str, Asset], word: str, purpose: str, needs: Needs) -> None:
    found = {kind: plugins.nouns[kind][word].noun for kind in ("model", "dataset", "extractor", "metric") if word in plugins.nouns[kind]}
    if not found:
        presets = plugins.nouns["preset"]
        raise UsageError(
            f"'{one_line(word)}' is neither a preset nor a public file that a plug-in knows, nor OWNER/NAME/FILE[@REVISION] of the hub."
            f"{did_you_mean(word, [*presets, *known])} Presets: {', '.join(presets)}. Files: {', '.join(known)}."
        )
    before = len(needs.assets)
    if "model" in found:
        _of_model(known, found["model"], needs)
    if "dataset" in found:
        _of_dataset(known, found["dataset"], purpose, needs)
        _of_reference(plugins, known, found["dataset"].reference, purpose, needs)
    if "extractor" in found:
        _of_extractor(known, found["extractor"], {}, needs)
    if "metric" in found:
        _of_metric(plugins, known, found["metric"], {}, needs)
    if len(needs.assets) == before:
        needs.notes.append(f"'{word}' needs no public file that a table names; `scottbench plan` names what is missing.")


def _of_preset(plugins: Plugins, known: Mapping[str, Asset], preset: Preset, purpose: str, needs: Needs) -> None:
    """Add what a preset's model, data and metrics need."""
    if preset.model in plugins.nouns["model"]:
        _of_model(known, plugins.nouns["model"][preset.model].noun, needs)
    if preset.dataset in plugins.nouns["dataset"]:
        data = plugins.nouns["dataset"][preset.dataset].noun
        _of_dataset(known, data, purpose, needs)
        _of_reference(plugins, known, data.reference if preset.reference is None else preset.reference, purpose, needs)
    metrics = dict.fromkeys([*preset.metrics, *(preset.train.get("metrics", []) if purpose == "train" else [])])
    for name in metrics:
        if name in plugins.nouns["metric"]:
            _of_metric(plugins, known, plugins.nouns["metric"][name].noun, preset.extractors, needs, preset)
    for name, one in preset.published.items():
        if not (folder := preset.path(one.folder)).is_dir():
            then = f"{one.line(name)} --out {shlex.quote(str(folder))}".replace("{", "{{").replace("}", "}}")
            files = tuple(File(inside(file)) for file in one.files)
            needs.add(Asset(name, f"published student {name}, to be adopted", one.licence, files, one.hub, then=then))
    made = [name for name, folder in preset.students.items() if not preset.path(folder).is_dir()]
    if made:
        needs.notes.append(f"students {', '.join(made)} of preset {preset.name} are made by `scottbench train`, not fetched")


def _of_model(known: Mapping[str, Asset], model: Model, needs: Needs) -> None:
    _add(needs, (asset for asset in known.values() if model.name in asset.models))


def _of_dataset(known: Mapping[str, Asset], dataset: Dataset, purpose: str, needs: Needs) -> None:
    _add(needs, (asset for asset in known.values() if dataset.name in asset.datasets and {*asset.splits} & {*PURPOSES[purpose]}))


def _of_reference(plugins: Plugins, known: Mapping[str, Asset], reference: str | None, purpose: str, needs: Needs) -> None:
    """Add what a reference set of its own needs. reference: NAME or NAME@key=value; "" or None where there is none."""
    name = (reference or "").partition("@")[0]
    if name in plugins.nouns["dataset"]:
        _of_dataset(known, plugins.nouns["dataset"][name].noun, purpose, needs)


def _of_metric(plugins: Plugins, known: Mapping[str, Asset], metric: Metric, extractors: Mapping[str, dict], needs: Needs,
               preset: Preset | None = None) -> None:  # fmt: skip
    """Add the files of a metric's own and of its extractors. extractors: the preset's tables by role."""
    _add(needs, (asset for asset in known.values() if metric.name in asset.metrics))
    for role in metric.roles:
        spec: dict[str, Any] = dict(extractors.get(role, {}))
        if "same_as" in spec:
            spec = dict(extractors.get(str(spec["same_as"]), {}))
        kind = spec.get("kind", role)
        if kind in plugins.nouns["extractor"]:
            _of_extractor(known, plugins.nouns["extractor"][kind].noun, spec, needs, preset)


def _of_extractor(
    known: Mapping[str, Asset], extractor: Extractor, spec: dict[str, Any], needs: Needs, preset: Preset | None = None
) -> None:
    """Add the files of an extractor. spec: the preset's [extractors.ROLE], with which it is opened."""
    if "folder" in spec:
        folder = Path(str(spec["folder"])) if preset is None else preset.path(str(spec["folder"]))
        if not folder.is_dir():
            needs.notes.append(f"extractor {extractor.name}: a preset names {folder}, which is not there; no table says what belongs there")
        return
    asked = {**extractor.defaults, **spec}
    fits = [asset for asset in known.values() if extractor.name in asset.extractors]
    found = [asset.at(asked) for asset in fits if all(asked.get(key) == value for key, value in asset.match.items())]
    if fits and not found and spec:
        told = ", ".join(f"{key} = {value}" for key, value in spec.items() if key != "label")
        needs.notes.append(f"extractor {extractor.name} with {told}: no table has its files; `scottbench plan` names them")
    _add(needs, found)


def _add(needs: Needs, assets: Iterable[Asset]) -> None:
    for asset in assets:
        needs.add(asset)
