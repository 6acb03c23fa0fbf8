"""The records of what plugs in (models, datasets, methods, trainers, extractors, metrics), and of what their functions are given.

A plug-in registers instances of `Model`, `Dataset`, `Method`, `Trainer`, `Extractor`, `Metric` (and paths of preset TOML files).
Registering must be cheap: give heavy functions as `lazy("package.module:function")`, so that `scottbench list` imports
neither torch nor any weights.

Conventions: t is an integer time step 0..T-1 (noise grows with t); guidance scale s is in the pipelines' form
eps = eps_uncond + s (eps_cond - eps_uncond), s = 1 unguided; inside losses w = s - 1 (methods.md 1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from scottbench.registry.lazy import lazy as lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from scottbench.diffusion import Schedule
    from scottbench.registry.condition import TextCondition


@dataclass(frozen=True)
class NoOptions:
    """The options of a method, trainer or metric that has nothing to set."""


# --- Model -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A named text-to-image diffusion model in the Stable Diffusion shape."""

    name: str
    summary: str
    open: Callable[..., Any]
    """(device: str, dtype: str) -> `scottbench.models.diffusion_model.DiffusionModel`; raises MissingAsset or DamagedAsset."""
    folder: Callable[[], Path] | None = None
    """() -> its diffusers pipeline folder, there or not, for `scottbench show`."""
    configs: Callable[[], Path] | None = None
    """() -> a folder with the pipeline's configs and no weights, by which plans and dry runs tell costs before anything is fetched. None:
    `folder`, where it is there."""


# --- Dataset ---------------------------------------------------------------------------------------------------------


class Items(Protocol):
    """One split of a Dataset: n (image, prompt, id) items in a fixed order."""

    ids: Sequence[str]
    """n unique, file-name-safe ids."""
    prompts: Sequence[str]
    """n prompts, never empty."""
    digest: str
    """sha256 hex over ids, prompts and image bytes: equal digests mean equal items."""

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Return n reference images, one for each of n indices: (n,H,W,3) uint8 0..255, RGB, all of one size. Optional beside it:
        `metadata`, {column: n texts}, such as {"category": ["face", ...]}; means per item are then told by the values of each column."""


class StreamedItems(Items, Protocol):
    """A training split in shards, which may be larger than a disk cache of it should be: a training reads it from shard to shard."""

    shards: Sequence[int]
    """Number of items of each shard, in the order of the items."""
    buffer: int
    """Items that are shuffled among each other, beside the order of the shards."""
    broken: float
    """Share of the items, 0 to 1, that may turn out to be unreadable: others take their places."""

    def readable(self, indices: Sequence[int]) -> Sequence[np.ndarray | None]:
        """Return the picture of each index, (H,W,3) uint8 0..255, RGB, all of one size; None for one that cannot be read. Optional beside
        it: `reasons`, {name of an item: why}, of the first such ones."""


@dataclass(frozen=True)
class Dataset:
    """Named text-image pairs with one fixed evaluation split and, where it has one, a training split."""

    name: str
    summary: str
    open: Callable[..., Items]
    """(split: "evaluation" | "train") -> Items; raises MissingAsset, DamagedAsset, or UsageError for an unknown split. A dataset with
    options of its own: (split, options) -> Items."""
    licence: str = ""
    options: type = NoOptions
    """Frozen dataclass, as of a method; set in a preset's table [dataset], or with --dataset NAME@key=value."""
    path_option: str = ""
    """Name of the option that is the place of the data: such a dataset opens what --dataset FOLDER names. "" for one that has its own."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Split -> its number of items, where that is known without the files: for what a plan tells of costs."""
    reference: str | None = ""
    """Dataset, NAME or NAME@key=value, whose images are the reference; "" for its own, one a prompt; None where it has no images."""


# --- Method ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling:
    """All that a method's sampler may use for one micro-batch of N items. Nothing else may be random or stateful."""

    denoise: Callable[..., tuple[Tensor, Tensor]]
    """(z (N,C,h,w), t int) -> (x0, eps), both (N,C,h,w): the network's guided prediction. Every call is counted as NFE:
    a teacher with s != 1 costs two evaluations per image, a student whose guidance is an input costs one."""
    noise: Callable[[int], Tensor]
    """noise(k) -> (N,C,h,w) float32 standard normal, a function of (seed, item id, k) only; k = 0 is z_T."""
    schedule: Schedule
    """alpha_t, sigma_t, lambda_t in float64."""
    steps: int
    """Number of sampling steps asked for."""
    options: Any
    """An instance of the method's Options."""
    predict: Callable[..., Tensor] | None = None
    """(z, t int or float) -> (N,C,h,w): the network's raw output, guided and counted as `denoise` is, for students whose network
    predicts something else than their teacher's (a velocity). (z, t, second number): of a student whose conditional input
    (time_cond_proj_dim) holds something else than the guidance scale, such as a second time; embedded as a guidance w would be."""
    student: dict | None = None
    """student.json, with what the trainer's `student_config` put into it; None for a teacher."""


@dataclass(frozen=True)
class Method:
    """A named few-step recipe: whose weights it wants, its time steps for n steps, one update rule."""

    name: str
    summary: str
    sample: Callable[[Sampling], Tensor]
    """Sampling -> clean latents (N,C,h,w)."""
    timesteps: Callable[..., Sequence[float | tuple[float, ...]]]
    """(schedule, steps, options) -> the time steps 0..T at which the network is evaluated, from noise to data: falling, one a step,
    and those that `sample` asks at; [] (or two steps that begin at one time) for a number of steps that it cannot do. A step
    that asks several times (a midpoint, a restart) is a tuple of its time steps in the order of its calls; the first of each falls from
    step to step, and one step may end where the next begins."""
    version: str = "1"
    """Changes whenever the images change; part of the identity of a cell."""
    trainer: str | None = None
    """Name of the trainer whose student it samples from; None = the teacher itself."""
    made_for: tuple[int, ...] = ()
    """Step counts that it was made for; `run` warns at others that `timesteps` can do. () for any. A student's own `made_for`
    (student.json) goes before this."""
    paper: str = ""
    guidance: float = 1.0
    """Guidance scale s used when neither the preset nor the user names one."""
    options: type = NoOptions
    """Frozen dataclass; the docstring under each field is shown by `scottbench show method NAME`."""


# --- Trainer ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trainer:
    """Makes a student from a teacher and a Dataset: losses and networks only, the host owns the loop."""

    name: str
    summary: str
    build: Callable[..., Any]
    """(context: `scottbench.training.context.Context`, options) -> a `Distillation`."""
    options: type = NoOptions
    """Frozen dataclass, as of a method; set with `scottbench train NAME -O key=value`."""
    paper: str = ""


class Batch(TypedDict):
    """One micro-batch of a training, as a trainer's `step` and `evaluate` get it."""

    latents: Tensor
    """(N,C,h,w) float32."""
    text: TextCondition
    """(N,L,D) float32 embeddings of the prompts; where they are hidden states alone, torch takes it for a tensor."""
    uncond: TextCondition
    """(1,L,D) float32: the condition of the unconditional pass, of the empty prompt."""
    indices: Tensor
    """(N,) int64 into `Context.data`."""
    generator: torch.Generator
    """The only randomness that a trainer may use."""
    step: int
    """Steps so far."""
    fraction: float
    """Part of the budget that is spent, 0 to 1, for stages."""


class Distillation(Protocol):
    """Networks and losses of one training: this is what a trainer's `build` returns."""

    networks: dict[str, Any]
    """role -> torch.nn.Module to be optimised; must have "student". Only parameters with requires_grad are trained."""
    learning_rates: dict[str, float]
    """AdamW learning rate by role."""
    betas: dict[str, tuple[float, float]]
    """AdamW betas by role; a role that is absent uses (0.9, 0.999)."""
    ema: Any
    """Frozen module of the student's form: theta_minus, updated by the host, exported as the student. None: the student is."""
    ema_decay: float
    """theta_minus <- ema_decay * theta_minus + (1 - ema_decay) * theta after every update of the student."""

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], Mapping[str, float | Tensor]]]:
        """Yield (role, {term: 0-d loss, already weighted}, {name: scalar to log, a number or 0-d}) once per role, in the order of the
        updates. The host minimises the sum of the terms for that role's network before it resumes; no terms, no update (a step that
        makes data). Several of these generators stand side by side at their yields, one per micro-batch: keep no graph over a yield,
        or all of them are in memory at once. Optional beside `step`: `evaluate(batch) -> {name: a number or 0-d}`, called now and then
        on held-out items; `memory`, a JSON-able dict that is kept in checkpoints and put back by a resumed training before its first
        step; `check_memory(memory)`, which raises ValueError where what comes back cannot be; `frozen`, {name: module} of networks
        that no loss trains (features, the teacher of a stage): the host counts, halves and compiles them like others, and keeps one that
        the trainer changed, by load_state_dict, in checkpoints."""

    def student_config(self) -> dict[str, Any]:
        """Return JSON-able facts for student.json. w_min, w_max: range of the guidance w = s - 1 where it is an input of the network;
        guidance = "baked": sampled with s = 1 only; made_for: step counts, in place of the method's own."""


# --- Extractor -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extractor:
    """A kind of network that turns images, prompts, or each image with its prompt, into numbers that metrics are made of.

    A preset names it as `kind` of a role, [extractors.ROLE]. A metric may also name one as its role: where the preset says nothing of that
    role, the extractor of that name is taken, with its `defaults`.
    """

    name: str
    summary: str
    find: Callable[..., Any]
    """(spec: the keys of [extractors.ROLE] over `defaults`, path: a relative path of the preset -> Path) ->
    `scottbench.models.extractors.Source`: located and digested, not opened. Raises MissingAsset or DamagedAsset in lines that say what is
    missing and how to fetch it, UsageError for keys that it cannot use."""
    open: Callable[..., Any]
    """(Source, device: str) -> `scottbench.models.extractors.OpenExtractor` in float32; raises DamagedAsset for files of another form."""
    reads: str = "images"
    """"images", or "images+prompts": it has a text tower too or, where it gives a score, reads each image with its prompt."""
    gives: str = "features"
    """"features", (n, d) of images and, with a text tower, of prompts; or "score", one number for each generated image."""
    rules: tuple[str, ...] = ("clean", "gigagan256", "tf1", "tm-aa")
    """Resize rules (`scottbench.models.images.RULES`) that a preset may name; the first one holds where it names none."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Keys of [extractors.ROLE] that hold where no preset says otherwise."""
    weights: str = ""
    """Files of weights and their size, for `scottbench show`."""
    licence: str = ""
    source: str = ""
    """Place that the weights come from."""
    paper: str = ""


# --- Metric ----------------------------------------------------------------------------------------------------------


@dataclass
class CellFeatures:
    """One (method, steps, seed) cell as a metric sees it, in item order; generated first, real second. Nothing in it can be written."""

    n: int
    """Number of generated images."""
    generated: dict[str, np.ndarray]
    """extractor role -> (n, d) float32 of the generated images; (n, 1), the scores, of an extractor that gives a score."""
    reference: dict[str, np.ndarray]
    """extractor role -> (m, d) float32 of the reference images; not of extractors that give a score."""
    text: dict[str, np.ndarray]
    """extractor role -> (n, d) float32 of the prompts, where the extractor has a text tower."""
    memo: dict = field(default_factory=dict)
    """Shared by the metrics of one cell, so that precision and recall search neighbours once. Where a metric gets several cells, the first
    one's is shared by all metrics that get the same ones."""
    reference_memo: dict = field(default_factory=dict)
    """Shared by all cells that have the same `reference`, so that the reference is factored and searched once per run. Only what
    depends on `reference` alone may go in."""
    images: Callable[[Sequence[int]], np.ndarray] | None = None
    """Generated images by item index, (len(indices), H, W, 3) uint8 0..255, as `Items.images` gives the reference's; None where
    only features are at hand."""
    reference_images: Callable[[Sequence[int]], np.ndarray] | None = None
    """Reference images by item index, as `images`; None where there are none."""
    ids: tuple[str, ...] = ()
    """n item ids; () where none are known."""
    prompts: tuple[str, ...] = ()
    """n prompts; () where none are known."""
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column, such as "category" -> its n values, where the dataset has columns."""
    teacher: Callable[[str, int, int], dict[str, np.ndarray]] | None = None
    """(method, steps, seed) -> extractor role -> (n, d) float32 of the images that a method made of the same prompts from the teacher, at
    the preset's guidance: a cell of the same run, or kept of an earlier one. Raises MissingAsset, which says how to make them."""
    apart: bool = False
    """The reference is a set of its own, not one image for each prompt, however many it has."""
    part_of: tuple[CellFeatures, np.ndarray] | None = None
    """The cell of which these are some images, beside its whole reference, as intervals draw them, and their (n,) indices in it: one search
    can serve all such parts. None: these are all."""


def read_only(given: Any) -> Any:
    """Return a CellFeatures, or a list of them, as one metric gets it: the same arrays and memories, in which nothing can be written.

    A metric that writes into its arrays, or puts others in their place, would change the value of the next one. Images are read-only
    too, each time that they are asked for.
    """
    if isinstance(given, list):
        return [read_only(cell) for cell in given]
    tables: dict[str, Any] = {name: locked_rows(getattr(given, name)) for name in ("generated", "reference", "text")}
    tables |= {name: _locked_reader(getattr(given, name)) for name in ("images", "reference_images")}
    teacher = given.teacher
    tables["teacher"] = None if teacher is None else lambda method, steps, seed: locked_rows(teacher(method, steps, seed))
    return replace(given, **tables, metadata=MappingProxyType(dict(given.metadata)))


def locked_rows(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the same arrays by role, (n,d) each, as views in which nothing can be written."""
    found = {role: rows.view() for role, rows in table.items()}
    for rows in found.values():
        rows.flags.writeable = False
    return found


def _locked_reader(images: Callable[[Sequence[int]], np.ndarray] | None) -> Callable[[Sequence[int]], np.ndarray] | None:
    """Images by index whose pixels cannot be written."""
    if images is None:
        return None
    read = images

    def reader(indices: Sequence[int]) -> np.ndarray:
        found = read(indices)
        if hasattr(found, "flags"):
            found = found.view()
            found.flags.writeable = False
        return found

    return reader


@dataclass(frozen=True)
class Influence:
    """First-order influence of every item on a metric's value; each array has mean 0 (Hampel 1974)."""

    generated: np.ndarray
    """(n,) float64."""
    reference: np.ndarray | None
    """(m,) float64; None where the reference does not enter the value."""


@dataclass(frozen=True)
class Metric:
    """Features of a cell to one number."""

    name: str
    summary: str
    compute: Callable[[Any, Any], float]
    """(CellFeatures, options) -> value."""
    higher_is_better: bool
    unit: str = ""
    """Unit of the value; "" for a pure number."""
    features: str | tuple[str, ...] = "image"
    """Extractor roles it needs: one, "image" (FID, coverage) or "clip" (CLIP score), or several, ("image", "dinov2"); a role that the
    preset lacks is taken for the name of an extractor. "" for none (it reads `CellFeatures.images`)."""
    scope: str = "cell"
    """Its functions get: "cell", one CellFeatures; "seeds", a list of two or more, one per seed of a method at a number of steps."""
    label: str = ""
    """Column title of reports; defaults to the name."""
    digits: int = 3
    """Decimals in tables."""
    reference: bool = True
    """The value is a comparison with reference images; false: generated images, and prompts, are enough."""
    options: type = NoOptions
    """Frozen dataclass, as of a method; part of the metric's fingerprint."""
    paper: str = ""
    influence: Callable[[Any, Any], Influence] | None = None
    """(CellFeatures, options) -> Influence, for intervals and paired tests; of a mean of independent items
    `scottbench.stats.intervals.of_mean(items)`. None, or where it raises a ScottbenchError because there is none: half-sampling, 32 calls
    of `compute` on half of the prompts."""
    items: Callable[[Any, Any], np.ndarray] | None = None
    """(CellFeatures, options) -> (n,) values per item whose mean is the metric's value; kept in items.parquet."""
    bounds: tuple[float | None, float | None] = (None, None)
    """Least and greatest value possible, None = no limit; intervals stay inside."""
    teacher: Callable[[Any], tuple[str, int, int]] | None = None
    """(options) -> (method, steps, seed) of the teacher's images of the same prompts that it compares with, `CellFeatures.teacher`; part of
    its fingerprint. None: it needs none."""

    @property
    def roles(self) -> tuple[str, ...]:
        """List the extractor roles that it needs."""
        return tuple(filter(None, (self.features,) if isinstance(self.features, str) else self.features))


KINDS: dict[str, type[Any]] = {
    "method": Method, "metric": Metric, "model": Model, "dataset": Dataset, "trainer": Trainer, "extractor": Extractor,
}  # fmt: skip
"""Everything a plug-in registers as an instance; presets are TOML files."""
