"""The teacher's own images of the same prompts, which some metrics compare with: named by digest, in the run itself, kept of another, or
brought by the preset.

Features of a teacher's cell are the same in every run of one model, dataset and code, because noise is drawn per item. So they are
computed once, in any run that has the cell, and kept in the cache of large files; the first n serve a run of n items. A preset may bring
features that a published run made. They are named by what the images are, not by the code that made them, so that they outlive changes of
the code, and a run that does not make its own takes them before those of the cache: it then compares with the same on every machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import MissingAsset, UsageError
from scottbench.plan import code, device
from scottbench.plan.cells import PlannedCell, PlannedMetric, TeacherImages, checked_timesteps
from scottbench.plan.choices import roles as find_roles
from scottbench.registry.options import make_options
from scottbench.store.assets import cache_dir, file_digest
from scottbench.store.files import canonical
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.models.extractors import Source
    from scottbench.plan.choices import Choices, MetricChoice
    from scottbench.plan.inputs import Inputs
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Metric
    from scottbench.registry.presets import Preset


def teacher_images(plugins: Plugins, choices: Choices, inputs: Inputs, choice: MetricChoice) -> TeacherImages | None:
    """Return the teacher's cell that a metric compares with; None for one that asks for none. Raises UsageError for a method that samples a
    student, or cannot do the number of steps."""
    if choice.metric.teacher is None:
        return None
    model = inputs.model
    if model is None:
        raise UsageError(f"metric '{choice.label}' compares with the teacher's images, and scored pictures have no teacher. Put them "
                         "beside methods: scottbench run --method NAME=DIR")  # fmt: skip
    name, steps, seed = choice.metric.teacher(choice.options)
    found = plugins.find("method", name)
    method, preset = found.noun, choices.preset
    if method.trainer is not None:
        raise UsageError(f"metric '{choice.label}' compares with the teacher's images, and method '{name}' samples a student.")
    options = make_options(method.options, {}, f"method '{name}'")
    guidance = float(preset.guidance.get(name, method.guidance))
    used = [found, plugins.of("dataset", choices.dataset.dataset)]
    used += [teacher] if (teacher := plugins.named("model", inputs.model_name)) is not None else []
    networks = [choices.extractors[choices.roles[role]].extractor for role in choice.metric.roles]
    features = code.part_code("features", plugins, [plugins.of("extractor", network) for network in networks])
    place = choices.device
    what = {
        "model": model.digest, "dataset": inputs.items.digest, "dtype": choices.dtype,
        "method": name, "version": method.version, "steps": steps, "seed": seed, "guidance_scale": guidance,
        "options": dataclasses.asdict(options), "timesteps": checked_timesteps(method, options, model.schedule, steps),
    }  # fmt: skip
    made = {
        "device": place.partition(":")[0], "micro_batch": device.choose_micro_batch(place, model.latent_shape),
        "code": code.part_code("images", plugins, used) | features,
    }  # fmt: skip
    whole, bare = (hashlib.sha256(canonical(record)).hexdigest() for record in (what | made, what))
    return TeacherImages(name, steps, seed, guidance, whole, bare)


def default_metrics(
    plugins: Plugins, choices: Choices, inputs: Inputs, cells: Sequence[PlannedCell]
) -> tuple[Choices, Inputs, list[str]]:
    """Leave out metrics that nobody named and that compare with teacher's images which neither the run makes nor the preset brings, as of
    another model or other prompts. Return choices and inputs without them, and a line for the user about each.

    The cache does not count here: whether a run measures them must not depend on what ran before it.
    """
    if choices.request.metrics is not None:
        return choices, inputs, []
    left = [choice for choice in choices.metrics if not _at_hand(plugins, choices, inputs, choice, cells)]
    if not left:
        return choices, inputs, []
    metrics = [choice for choice in choices.metrics if choice not in left]
    roles, extractors = find_roles(plugins, choices.preset, metrics)
    sources = {role: source for role, source in inputs.sources.items() if role in extractors}
    lines = [
        f"{choice.label} is left out: preset '{choices.preset.name}' brings no teacher's images of this model and these prompts. "
        f"Named by --metrics, it says how they are made" for choice in left
    ]  # fmt: skip
    kept = dataclasses.replace(choices, metrics=metrics, roles=roles, extractors=extractors)
    return kept, dataclasses.replace(inputs, sources=sources), lines


def _at_hand(plugins: Plugins, choices: Choices, inputs: Inputs, choice: MetricChoice, cells: Sequence[PlannedCell]) -> bool:
    """Say whether a metric compares with no teacher's images, or with such as the run makes or the preset brings."""
    if choice.metric.teacher is None:
        return True
    images = None if inputs.model is None else teacher_images(plugins, choices, inputs, choice)
    if images is None or images.cell_in(cells) is not None:
        return images is not None
    return None not in brought_files(images, choice.metric, choices, inputs)


def kept_file(images: TeacherImages, source: Source) -> Path:
    """Return the file in the cache that the features of a teacher's images by one extractor are kept in, there or not."""
    words = {"images": images.digest, "extractor": source.papers, "digest": source.digest}
    return cache_dir() / "teachers" / f"{images.method}-{images.steps}-{hashlib.sha256(canonical(words)).hexdigest()[:32]}.safetensors"


def brought_file(images: TeacherImages, source: Source, preset: Preset) -> Path | None:
    """Return the file in which a preset brings the features of a teacher's images by one extractor, there or not; None for a preset that
    brings none."""
    if preset.teachers is None:
        return None
    words = {"images": images.what, "extractor": source.papers, "digest": source.digest}
    name = f"{images.method}-{images.steps}-{hashlib.sha256(canonical(words)).hexdigest()[:16]}.safetensors"
    return preset.path(preset.teachers) / name


def brought_files(images: TeacherImages, metric: Metric, choices: Choices, inputs: Inputs) -> list[Path | None]:
    """Return, for each network of a metric, the file of the preset with features of all the run's items; None where it brings none."""
    places = [brought_file(images, inputs.sources[choices.roles[role]], choices.preset) for role in metric.roles]
    return [path if path is not None and kept_rows(path) >= inputs.n else None for path in places]


def found_file(images: TeacherImages, source: Source, preset: Preset, n: int) -> Path | None:
    """Return the file with features of the first n items: of the preset, else of the cache; None where neither has them."""
    files = (brought_file(images, source, preset), kept_file(images, source))
    return next((path for path in files if path is not None and kept_rows(path) >= n), None)


def brought_digests(metric: PlannedMetric, cells: Sequence[PlannedCell], choices: Choices, inputs: Inputs) -> list[str]:
    """Return the sha256 hex of each file of features that the preset brings and a metric compares with, which is part of what the metric
    is of; [] where the run makes its own."""
    images = metric.teacher
    if images is None or images.cell_in(cells) is not None:
        return []
    return [file_digest(path) for path in brought_files(images, metric.noun, choices, inputs) if path is not None]


def kept_rows(path: Path) -> int:
    """Count the items in a file of the cache; 0 where it is not there or cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as stored:
            return int(stored.get_slice("features").get_shape()[0])
    except (OSError, SafetensorError, IndexError):
        return 0


def require_teachers(
    metrics: Sequence[PlannedMetric], cells: Sequence[PlannedCell], sources: Mapping[str, Source], roles: Mapping[str, str],
    preset: Preset, n: int,
) -> None:  # fmt: skip
    """Raise MissingAsset, with the line that makes them, where a metric compares with images that neither run nor cache nor preset has."""
    for metric in metrics:
        images = metric.teacher
        if images is None or images.cell_in(cells) is not None:
            continue
        needed = [sources[roles[role]] for role in metric.noun.roles]
        short = [source for source in needed if found_file(images, source, preset, n) is None]
        if short:
            label, place = one_line(metric.label), kept_file(images, short[0]).parent
            made = f"{images.method} at {images.steps} steps, guidance {images.guidance:g}, seed {images.seed}"
            raise MissingAsset(
                f"metric '{label}' compares with the teacher's images ({made}), and {place} has no features of {n:,} of them. Make them "
                f"once: scottbench run -p {preset.name} -m {images.method} -s {images.steps} --seeds {images.seed} -n {n} -k {label}; "
                f"or add them to this run: -m {images.method}@steps={images.steps}")
