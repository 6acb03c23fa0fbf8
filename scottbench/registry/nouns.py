"""The records of what plugs in (models, datasets, methods, trainers, metrics), and of what their functions are given.

A plug-in registers instances of `Model`, `Dataset`, `Method`, `Trainer`, `Metric` (and paths of preset TOML files).
Registering must be cheap: give heavy functions as `lazy("package.module:function")`, so that `scottbench list` imports
neither torch nor any weights.

Conventions: t is an integer time step 0..T-1 (noise grows with t); guidance scale s is in the pipelines' form
eps = eps_uncond + s (eps_cond - eps_uncond), s = 1 unguided; inside losses w = s - 1 (methods.md 1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
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
        """Return n reference images, one for each of n indices: (n,H,W,3) uint8 0..255, RGB, all of one size."""


@dataclass(frozen=True)
class Dataset:
    """Named text-image pairs with one fixed evaluation split and, where it has one, a training split."""

    name: str
    summary: str
    open: Callable[..., Items]
    """(split: "evaluation" | "train") -> Items; raises MissingAsset, DamagedAsset, or UsageError for an unknown split."""
    licence: str = ""


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
    predicts something else than their teacher's (a velocity)."""
    student: dict | None = None
    """student.json, with what the trainer's `student_config` put into it; None for a teacher."""


@dataclass(frozen=True)
class Method:
    """A named few-step recipe: whose weights it wants, its time steps for n steps, one update rule."""

    name: str
    summary: str
    sample: Callable[[Sampling], Tensor]
    """Sampling -> clean latents (N,C,h,w)."""
    timesteps: Callable[..., list[float]]
    """(schedule, steps, options) -> the time steps 0..T at which the network is evaluated, from noise to data: falling, one a step,
    and those that `sample` asks at; [] (or a time step twice) for a number of steps that it cannot do."""
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

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, float]]]:
        """Yield (role, {term: 0-d loss, already weighted}, {name: scalar to log}) once per role, in the order of the updates.
        The host minimises the sum of the terms for that role's network before it resumes; no terms, no update (a step that makes
        data). Several of these generators may run side by side, one per micro-batch. Optional beside `step`:
        `evaluate(batch) -> {name: float}`, called now and then on held-out items; `memory`, a JSON-able dict that is kept
        in checkpoints and put back by a resumed training before its first step; `check_memory(memory)`, which raises ValueError
        where what comes back cannot be."""

    def student_config(self) -> dict[str, Any]:
        """Return JSON-able facts for student.json. w_min, w_max: range of the guidance w = s - 1 where it is an input of the network;
        guidance = "baked": sampled with s = 1 only; made_for: step counts, in place of the method's own."""


# --- Metric ----------------------------------------------------------------------------------------------------------


@dataclass
class CellFeatures:
    """Features of one (method, steps, seed) cell, in item order; generated first, real second."""

    n: int
    """Number of generated images."""
    generated: dict[str, np.ndarray]
    """extractor role -> (n, d) float32 of the generated images."""
    reference: dict[str, np.ndarray]
    """extractor role -> (m, d) float32 of the reference images."""
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


def read_only(given: Any) -> Any:
    """Return a CellFeatures, or a list of them, as one metric gets it: the same arrays and memories, in which nothing can be written.

    A metric that writes into its arrays, or puts others in their place, would change the value of the next one.
    """
    if isinstance(given, list):
        return [read_only(cell) for cell in given]
    tables: dict[str, Any] = {}
    for name in ("generated", "reference", "text"):
        tables[name] = {role: rows.view() for role, rows in getattr(given, name).items()}
        for rows in tables[name].values():
            rows.flags.writeable = False
    return replace(given, **tables)


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
    features: str = "image"
    """Extractor role it needs: "image" (FID, coverage) or "clip" (CLIP score); "" for none (it reads `CellFeatures.images`)."""
    scope: str = "cell"
    """Its functions get: "cell", one CellFeatures; "seeds", a list of two or more, one per seed of a method at a number of steps."""
    label: str = ""
    """Column title of reports; defaults to the name."""
    digits: int = 3
    """Decimals in tables."""
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


KINDS: dict[str, type[Any]] = {"method": Method, "metric": Metric, "model": Model, "dataset": Dataset, "trainer": Trainer}
"""Everything a plug-in registers as an instance; presets are TOML files."""
