"""Small runs and trainings by the real host: a tiny random teacher, a few made items, an extractor without weights."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scottbench.errors import UsageError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.pipeline import load_unet
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.loader import Plugins, Registered
from scottbench.registry.nouns import Dataset, Metric, Model, Trainer
from scottbench.registry.options import make_options
from scottbench.registry.presets import Preset
from scottbench.store.files import read_json
from scottbench.testing.made import MadeItems
from scottbench.testing.sources import as_plugins
from scottbench.testing.tiny import PIXELS, encoded, tiny_extractor, tiny_model
from scottbench.training.context import Context
from scottbench.training.contract import built
from scottbench.training.data import Data
from scottbench.training.export import export
from scottbench.training.loop import Loop
from scottbench.training.settings import TrainSettings
from scottbench.training.train import prepare

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scottbench.run.notebook import Run

NAME = "sb-tiny"
"""The preset, model and dataset of small runs."""
ITEMS = 24
"""Items of a small training."""


# --- training --------------------------------------------------------------------------------------------------------


def accelerator() -> Accelerator:
    """Set up accelerate for one process on the CPU."""
    from accelerate import Accelerator

    return Accelerator(cpu=True)


def small_loop(
    trainer: Trainer,
    options: Mapping[str, object],
    out: Path,
    plugins: Plugins | None = None,
    model: DiffusionModel | None = None,
    **settings: Any,
) -> Loop:
    """Build a trainer's networks over a tiny teacher, and the host's loop over made items. settings: fields of `TrainSettings`. Raises as
    the trainer, and UsageError for options that it cannot have."""
    teacher = tiny_model() if model is None else model
    made = make_options(trainer.options, options, f"trainer '{trainer.name}'")
    out.mkdir(parents=True, exist_ok=True)
    data = copy.deepcopy(_made_data()) if model is None else encoded(teacher, MadeItems(ITEMS))
    return loop_around(trainer, made, context_for(teacher, data, out, plugins), out, **settings)


@functools.lru_cache(1)
def _made_data() -> Data:
    """Encode the made items by the tiny teacher, once a process; to be copied."""
    return encoded(tiny_model(), MadeItems(ITEMS))


def context_for(teacher: DiffusionModel, data: Data, out: Path, plugins: Plugins | None = None) -> Context:
    """Give a trainer what it may use: the teacher, encoded data, a folder, methods by name, an extractor without weights for any role.
    Its find_method raises UsageError without plug-ins."""

    def find(name: str) -> Any:
        if plugins is None:
            raise UsageError(f"unknown method '{name}': no plug-ins are at hand. Give them: plugins=sb_plugins(...)")
        return plugins.find("method", name).noun

    return Context(teacher, teacher.device, out, data, find_method=find, open_extractor=tiny_extractor)


def loop_around(trainer: Trainer, options: Any, context: Context, out: Path, **settings: Any) -> Loop:
    """Build a trainer's networks, and the host's loop around them. options: an instance of its Options; settings: of `TrainSettings`."""
    given: dict[str, Any] = {"batch_size": 4, "lr_schedule": "none", **settings}
    chosen = TrainSettings(**given)
    torch.manual_seed(chosen.seed)  # LoRA's random A matrices are drawn from the global generator, as in a training
    distillation = built(trainer, context, options)
    prepare(distillation, context.teacher, chosen, 1)
    assert context.data is not None
    return Loop(distillation, context.data, accelerator(), out, chosen, context.teacher)


@dataclass
class Trained:
    """A small training and the student that it left."""

    loop: Loop
    logged: list[dict[str, float]]
    """The values that each step logged: "student/TERM", "student/grad_norm", ..."""
    folder: Path
    """The student folder."""
    student: DiffusionModel
    """The exported student, opened."""

    @property
    def facts(self) -> dict[str, Any]:
        """Return the contents of student.json."""
        return dict(self.student.student or {})


def small_training(
    trainer: Trainer,
    out: Path,
    steps: int = 3,
    options: Mapping[str, object] | None = None,
    plugins: Plugins | None = None,
    **settings: Any,
) -> Trained:
    """Train a few steps, export the student and open it. options: of the trainer; settings: fields of `TrainSettings`."""
    loop = small_loop(trainer, {} if options is None else options, out, plugins, **settings)
    return exported(loop, trainer, [loop.counted_step(step / steps) for step in range(steps)])


def exported(loop: Loop, trainer: Trainer, logged: list[dict[str, float]]) -> Trained:
    """Export the student of a loop and open it as a run does."""

    export(loop, {"trainer": trainer.name, "teacher_digest": loop.model.digest, "preset": NAME}, loop.out)
    loop.feed.close()
    facts = read_json(loop.out / "student.json") or {}
    teacher = tiny_model()
    return Trained(loop, logged, loop.out, teacher.with_unet(load_unet(loop.out / "unet", torch.float32), facts))


# --- runs ------------------------------------------------------------------------------------------------------------


def mean_colour(cell: Any, options: Any) -> float:
    """Compute the distance of the mean features of generated and reference images, >= 0."""
    import numpy as np

    generated, reference = (table["image"].mean(0, dtype=np.float64) for table in (cell.generated, cell.reference))
    return float(np.linalg.norm(generated - reference))


MEAN_COLOUR = Metric("sb-colour", "distance of mean colours", mean_colour, higher_is_better=False, bounds=(0.0, None))
"""A metric for runs of tests."""


@dataclass(frozen=True)
class Small:
    """The parts of a small run that a test may exchange."""

    methods: Sequence[str]
    """Names of the methods, each also as NAME@key=value."""
    metrics: Sequence[str] = ("sb-colour",)
    """Names of the metrics."""
    steps: Sequence[int] = (2,)
    """Numbers of sampling steps."""
    n: int = 6
    """Items."""
    students: Mapping[str, Path] = field(default_factory=dict)
    """Trainer -> student folder, as `sb_train` leaves one."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `scottbench.plan.request.RunRequest`."""


def with_small(plugins: Plugins, n: int, metrics: Sequence[str]) -> Plugins:
    """Return plug-ins with the preset, model, dataset, extractor and metric of small runs beside them."""
    roles: list[str] = ["image", "clip"]
    for name in metrics:
        found = plugins.nouns["metric"].get(name.partition("@")[0])
        roles += [] if found is None else list(found.noun.roles)
    preset = Preset(
        NAME,
        "random networks for tests",
        NAME,
        NAME,
        ["sb-colour"],
        [],
        [2],
        extractors={"image": {"kind": PIXELS.name}, **{role: {"same_as": "image"} for role in dict.fromkeys(roles) if role != "image"}},
    )
    items: Any = MadeItems(n)  # its digest is a property, which the protocol of Items takes for a variable
    nouns: dict[str, Any] = {
        "preset": preset,
        "extractor": PIXELS,
        "metric": MEAN_COLOUR,
        "model": Model(NAME, "random networks for tests", lambda device, dtype: tiny_model()),
        "dataset": Dataset(NAME, "made pictures", lambda split: items),
    }
    tables = {kind: dict(names) for kind, names in plugins.nouns.items()}
    for kind, noun in nouns.items():
        tables[kind][noun.name] = Registered(noun, kind, NAME, "scottbench", "0", "?")
    return dataclasses.replace(plugins, nouns=tables)


def small_run(source: Any, asked: Small, out: Path) -> Run:
    """Run the real host on a few made items with a tiny teacher, and return the run as `scottbench.benchmark` does. source: plug-ins, or
    what `as_plugins` takes. Raises whatever the run does; a cell that fails raises its ScottbenchError."""
    from scottbench.run.execute import execute
    from scottbench.run.notebook import Run

    plugins = with_small(as_plugins(source), asked.n, asked.metrics)
    students = {trainer: str(folder) for trainer, folder in asked.students.items()}
    request = RunRequest(
        NAME,
        methods=list(asked.methods),
        metrics=list(asked.metrics),
        steps=list(asked.steps),
        students=students,
        device="cpu",
        **dict(asked.more),
    )
    return Run(execute(make_plan(plugins, request), plugins, out, None, lambda event: None))


def names(given: str | Iterable[str]) -> list[str]:
    """Return a list of names of one or several."""
    return [given] if isinstance(given, str) else list(given)
