"""Conformance checks for authors of plug-ins, on a teacher in closed form that opens in no time, and pytest fixtures.

    from scottbench.testing import check_method, check_metric

    def test_it_keeps_the_rules():
        check_method(MY_METHOD)

Each check raises `NotConforming` for the first rule that is broken. For the fixtures `analytic_teacher` and `feature_cells`, write
`pytest_plugins = ["scottbench.testing"]` into conftest.py.
"""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from scottbench.diffusion import Schedule, eps_from_x0
from scottbench.errors import ScottbenchError, UsageError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.noise import ItemNoise
from scottbench.registry.nouns import CellFeatures, Influence, Method, Metric
from scottbench.registry.options import make_options, options_of
from scottbench.text import counts_in_words, one_line

SHAPE = (4, 8, 8)
"""Latents of the teacher, (C, h, w)."""
TOKENS, WIDTH = 8, 16
"""Tokens of a prompt, and numbers of a token's embedding."""
IDS = tuple(f"item-{i}" for i in range(6))
PROMPTS = ("a red apple", "a blue pear", "a dark moon", "a small cat", "a flat star", "the sun on a tree")
CLOSE = 1e-4
"""Difference of two latents, or relative one of two values, that counts as none: sums in another order differ by less."""


class NotConforming(ScottbenchError):
    """A method or metric breaks a rule: the message says what was found, what is allowed and what to do. Exit code 1."""


def check_method(method: Method, steps: Sequence[int] = (1, 2, 4), student: dict[str, Any] | None = None) -> None:
    """Check that a sampler keeps the rules, on the analytic teacher, at those of `steps` that it can do.

    student: the student.json that its sampler reads, for a method with a trainer. Checked are the options; time steps, as declared and as
    evaluated; shape, type and finiteness of the latents; NFE; no use of global random state; that an image depends on its own item, the
    seed and nothing else: neither on batch size, order and company, nor on earlier calls. Raises NotConforming.
    """
    who, model = f"method '{method.name}'", analytic_model({} if student is None and method.trainer is not None else student)
    options = _check_options(who, method.options)
    counts = [n for n in steps if list(method.timesteps(model.schedule, n, options))]
    if not counts:
        raise NotConforming(f"{who}: timesteps gives [] for {counts_in_words(steps)} steps. It must give time steps for some of them: "
                            "name step counts that it can do with steps=(...).")
    for n in counts:
        run = _Runner(who, model, method, n, options)
        together = _check_latents(run)
        _check_company(run, together)
        other = run(range(len(IDS)), seed=1)
        if any(torch.equal(a, b) for a, b in zip(together, other)):
            raise NotConforming(f"{who}: at {n} steps two seeds give an item the same latents. They must not: start from run.noise(0).")


def check_metric(metric: Metric, cells: Sequence[CellFeatures] | None = None) -> None:
    """Check that a metric keeps the rules, on made features; cells: other ones, two or more for a metric over seeds.

    Checked are the options; that the value is a finite number inside the bounds, that it depends neither on the items' order nor on
    earlier calls, that no input is changed and no global random state used; that `influence` is (n,), finite and of mean 0, and that
    `items` is (n,), finite and its mean the value. Raises NotConforming.
    """
    who, given = f"metric '{metric.name}'", list(made_cells(roles=metric.roles) if cells is None else cells)
    options = _check_options(who, metric.options)
    ask = lambda function, order=None: function(_argument(metric, given, order), options)  # noqa: E731
    before = [array.copy() for array in _arrays(given)]
    value = _unmoved(who, lambda: ask(metric.compute))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise NotConforming(f"{who}: compute returned {one_line(repr(value))}. It must return a finite float.")
    low, high = metric.bounds
    if (low is not None and value < low) or (high is not None and value > high):
        raise NotConforming(f"{who}: the value {value:g} is outside its bounds {metric.bounds}. Correct the bounds or the value.")
    order = np.random.default_rng(0).permutation(given[0].n)
    changes = {"when it was computed again": None, "with the items in another order": order}
    for what, again in ((what, ask(metric.compute, places)) for what, places in changes.items()):
        if not np.isclose(again, value, rtol=CLOSE, atol=1e-9):
            raise NotConforming(f"{who}: {value:.9g} became {again:.9g} {what}. A value may depend on the set of items only.")
    if metric.influence is not None:
        _check_influence(who, given, lambda: ask(metric.influence))
    if metric.items is not None:
        _check_mean(who, given[0].n, np.asarray(ask(metric.items)), value)
    if not all(np.array_equal(now, then) for now, then in zip(_arrays(given), before)):
        raise NotConforming(f"{who}: it changed the arrays that it was given. They are shared by all metrics: copy before you write.")


def analytic_model(student: dict[str, Any] | None = None) -> DiffusionModel:
    """Open a teacher in closed form: data of each prompt are Gaussian around its own mean, so its best prediction is known exactly.

    It has Stable Diffusion's schedule, latents (4,8,8) and images of 16x16 pixels. Its numbers never depend on what else is in a batch.
    student: its student.json, for a U-Net that takes the guidance scale as an input, as students do.
    """
    schedule = Schedule.scaled_linear()
    unet = _Network(schedule, takes_guidance=student is not None)
    return DiffusionModel("0" * 64, schedule, "epsilon", _Tokens(), _Text(), unet, _Decoder(), student=student)


def made_cells(n: int = 64, width: int = 8, side: int = 192, seeds: int = 2, roles: Sequence[str] = ()) -> list[CellFeatures]:
    """Make features (n, width) of generated images, reference images and prompts, one cell a seed; images are (n,side,side,3).

    Roles "image" and "clip" are both there, and those of `roles`; the numbers are normal, and the images smooth. There are ids, prompts, a
    column "category" and a teacher's features too.
    """
    generator = np.random.default_rng(0)
    draw = lambda rows, shift: (generator.normal(size=(rows, width)) + shift).astype(np.float32)  # noqa: E731
    names = tuple(dict.fromkeys(("image", "clip", *roles)))
    reference, text = {role: draw(n, 0.0) for role in names}, {"clip": draw(n, 0.2), "image": draw(n, 0.2)}
    teacher = {role: draw(n, 0.1) for role in names}
    ids, prompts = tuple(f"item-{i}" for i in range(n)), tuple(f"a thing of kind {i % 5}" for i in range(n))
    columns = {"category": tuple("ab"[i % 2] for i in range(n))}
    ramp = np.zeros((1, side, side, 3), np.float32) + np.linspace(0, 155, side, dtype=np.float32)[None, :, None, None]

    def images_of(seed: int) -> Callable[[Sequence[int]], np.ndarray]:
        return lambda indices: (ramp + (np.asarray(indices, np.float32) % 50 + 10 * seed)[:, None, None, None]).astype(np.uint8)

    cells = []
    for images in map(images_of, range(seeds)):
        generated = {role: draw(n, 0.3) for role in names}
        cells.append(CellFeatures(
            n, generated, reference, text, images=images, reference_images=images_of(0), ids=ids, prompts=prompts, metadata=columns,
            teacher=lambda method, steps, seed: teacher))  # fmt: skip
    return cells


class _Network(torch.nn.Module):
    """A U-Net in closed form: the noise of Gaussian data around a mean that the text gives; `times` are those it was asked at."""

    spread = 0.5
    """Standard deviation of the data."""

    def __init__(self, schedule: Schedule, takes_guidance: bool):
        super().__init__()
        self.schedule, self.dtype = schedule, torch.float32
        dim = 256 if takes_guidance else None
        self.config = SimpleNamespace(sample_size=SHAPE[1], in_channels=SHAPE[0], time_cond_proj_dim=dim)
        self.times: list[float] = []

    def forward(
        self, z: Tensor, t: Any, encoder_hidden_states: Tensor, timestep_cond: Tensor | None = None, return_dict: bool = False
    ) -> tuple[Tensor]:
        """Predict the noise of z (N,C,h,w) at one time step t, a number; text (N,L,D)."""
        self.times.append(float(t))
        at = min(int(t), len(self.schedule) - 1)  # a flow may ask at T itself
        mean = encoder_hidden_states.mean(1)
        if timestep_cond is not None:
            mean = mean + 0.1 * timestep_cond[:, :WIDTH]
        mean = mean.view(-1, SHAPE[0], 2, 2).repeat(1, 1, SHAPE[1] // 2, SHAPE[2] // 2)
        pull = self.spread**2 / (self.spread**2 + float(self.schedule.lam(at)) ** 2)
        x0 = mean + pull * (z / float(self.schedule.alpha(at)) - mean)
        return (eps_from_x0(self.schedule, z, at, x0),)


class _Tokens:
    """A tokenizer: each word has a number."""

    model_max_length = TOKENS

    def __call__(self, prompts: list[str], **form: Any) -> SimpleNamespace:
        rows = [[zlib.crc32(word.encode()) % 997 + 1 for word in prompt.split()[:TOKENS]] for prompt in prompts]
        return SimpleNamespace(input_ids=torch.tensor([row + [0] * (TOKENS - len(row)) for row in rows]))


class _Text(torch.nn.Module):
    """A text encoder: token numbers (N,L) to embeddings (N,L,D)."""

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        return (torch.cos(tokens[..., None] * torch.arange(1, WIDTH + 1)),)


class _Decoder(torch.nn.Module):
    """A VAE's decoder: latents (N,4,h,w) to images (N,3,2h,2w)."""

    dtype, config = torch.float32, SimpleNamespace(scaling_factor=1.0, block_out_channels=(1, 1))

    def decode(self, z: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        return ((z[:, :3] + 0.1 * z[:, 3:]).repeat_interleave(2, 2).repeat_interleave(2, 3),)


class _Runner:
    """A method at one number of steps: called with places in `IDS`, it samples them together."""

    def __init__(self, who: str, model: DiffusionModel, method: Method, steps: int, options: Any):
        self.who, self.model, self.method, self.steps, self.options = who, model, method, steps, options
        self.network = cast(_Network, model.unet)
        self.text, self.uncond = model.encode_prompts(list(PROMPTS)), model.encode_prompts([""])

    @torch.inference_mode()
    def __call__(self, places: Sequence[int], seed: int = 0) -> Tensor:
        noise = ItemNoise(seed, [IDS[i] for i in places], SHAPE)
        self.model.evaluations, self.network.times = 0, []
        given = (self.text[list(places)], self.uncond, self.method.guidance)
        return self.method.sample(self.model.sampling(*given, noise, self.steps, self.options))


def _check_latents(run: _Runner) -> Tensor:
    """The latents (N,C,h,w) of all items, sampled together: of the right form, from the declared time steps, without global randomness."""
    n, who = len(IDS), f"{run.who}: at {run.steps} steps"
    latents = _unmoved(run.who, lambda: run(range(n)))
    if not isinstance(latents, Tensor) or tuple(latents.shape) != (n, *SHAPE) or latents.dtype != torch.float32:
        found = f"{tuple(latents.shape)} {latents.dtype}" if isinstance(latents, Tensor) else one_line(repr(latents))
        raise NotConforming(f"{who} it returned {found}. It must return latents {(n, *SHAPE)} torch.float32, as run.noise(0) is.")
    if not torch.isfinite(latents).all():
        raise NotConforming(f"{who} the latents are NaN or infinite. Look for a division by sigma or alpha at the last time step.")
    declared = [float(t) for t in run.method.timesteps(run.model.schedule, run.steps, run.options)]
    seen = list(dict.fromkeys(run.network.times))
    if len(seen) != len(declared) or not np.allclose(seen, declared, atol=1e-3):
        raise NotConforming(f"{who} the network was evaluated at {seen}, and timesteps gives {declared}. Both must be the same, in order.")
    return latents


def _check_company(run: _Runner, together: Tensor) -> None:
    """NFE and latents of each item alone, reversed and in pairs are those of all together."""
    n, who = len(IDS), f"{run.who}: at {run.steps} steps"
    nfe, rest = divmod(run.model.evaluations, n)
    if rest or not nfe:
        raise NotConforming(f"{who} {run.model.evaluations} network evaluations were counted for {n} images. "
                            "NFE must be the same whole number for every image: call the network with all items of the batch.")
    groups = [[i] for i in range(n)] + [list(reversed(range(n))), [4, 1], [2, 2, 2, 0]]
    for places in groups:
        latents = run(places)
        if run.model.evaluations != nfe * len(places):
            raise NotConforming(f"{who} NFE is {nfe} for {n} images together and {run.model.evaluations / len(places):g} for "
                                f"{len(places)}. It must be the same for every image, whatever its company.")
        if not torch.allclose(latents, together[places], rtol=CLOSE, atol=CLOSE):
            raise NotConforming(f"{who} the latents of an item change with batch size, order or company. They must depend on the item "
                                "alone: no sums over the batch, no state between calls, no noise but run.noise(k).")


def _check_options(who: str, options: type) -> Any:
    """The default options, after: a frozen dataclass whose defaults are written as text and read as the same, and no other key."""
    if not dataclasses.is_dataclass(options) or not getattr(options, "__dataclass_params__").frozen:  # noqa: B009
        raise NotConforming(f"{who}: options is {one_line(options)}. It must be a frozen dataclass: write @dataclass(frozen=True).")
    try:
        made = make_options(options, {}, who)
        again = make_options(options, {option.name: str(getattr(made, option.name)) for option in options_of(options)}, who)
    except (UsageError, TypeError) as error:
        raise NotConforming(f"{who}: its options cannot be made from their defaults ({error}). Every field needs a default that is a value "
                            "of its type: int, float, bool, str, Literal, or one of them | None.") from None
    if again != made:
        raise NotConforming(f"{who}: its options {made} are read back as {again}. Written as text and read again they must be equal.")
    unknown = "no-such-option"
    try:
        options(**{unknown: 1})
    except TypeError:
        return made
    raise NotConforming(f"{who}: its options take the unknown key '{unknown}'. Let the dataclass make __init__.")


def _check_influence(who: str, cells: list[CellFeatures], influence: Callable[[], Influence]) -> None:
    try:
        found = influence()
    except ScottbenchError:
        return  # there is none for these options: the host halves the items instead
    sizes = {"generated": cells[0].n, "reference": len(next(iter(cells[0].reference.values())))}
    for part in sizes if found.reference is not None else ("generated",):
        array = np.asarray(getattr(found, part))
        if array.shape != (sizes[part],) or not np.isfinite(array).all():
            raise NotConforming(f"{who}: influence.{part} has shape {array.shape}, or is not finite. "
                                f"It must be ({sizes[part]},) and finite: one number an item.")
        if abs(array.mean()) > CLOSE * (np.abs(array).max() + 1e-12):
            raise NotConforming(f"{who}: influence.{part} has mean {array.mean():.3g}. The mean must be 0: subtract it.")


def _check_mean(who: str, n: int, items: np.ndarray, value: float) -> None:
    """Per-item values are (n,), and their mean is the metric's value."""
    if items.shape != (n,) or not np.isfinite(items).all():
        raise NotConforming(f"{who}: items has shape {items.shape}, or is not finite. It must be ({n},) and finite: one number an item.")
    if not np.isclose(items.mean(), value, rtol=CLOSE, atol=1e-9):
        raise NotConforming(f"{who}: the mean of items is {items.mean():.9g} and the value {value:.9g}. They must be equal; "
                            "where the value is no mean, leave items out.")


def _unmoved(who: str, call: Callable[[], Any]) -> Any:
    """What `call` returns; the global generators of torch, numpy and Python must stand where they stood."""
    before = _random_state()
    found = call()
    if _random_state() != before:
        raise NotConforming(f"{who}: it draws from, or seeds, a global random generator. Randomness must come from run.noise(k), or from a "
                            "generator of its own with a fixed seed.")
    return found


def _random_state() -> tuple[Any, ...]:
    _, key, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), np.asarray(key).tobytes(), rest, random.getstate()


def _argument(metric: Metric, cells: list[CellFeatures], order: np.ndarray | None) -> Any:
    """What the metric's functions get: fresh memos; the items in another order if one is given."""
    places = np.arange(cells[0].n) if order is None else order
    given = []
    for cell in cells:
        images = None if cell.images is None else lambda indices, read=cell.images: read([int(places[i]) for i in indices])
        moved = lambda table: {role: rows if order is None else rows[order] for role, rows in table.items()}  # noqa: E731
        ids, prompts = (tuple(texts[i] for i in places) if texts else () for texts in (cell.ids, cell.prompts))
        columns = {column: tuple(values[i] for i in places) for column, values in cell.metadata.items()}
        teacher = None if cell.teacher is None else lambda *which, read=cell.teacher, moved=moved: moved(read(*which))
        given.append(CellFeatures(
            cell.n, moved(cell.generated), cell.reference, moved(cell.text), images=images, reference_images=cell.reference_images, ids=ids,
            prompts=prompts, metadata=columns, teacher=teacher))  # fmt: skip
    return given if metric.scope == "seeds" else given[0]


def _arrays(cells: list[CellFeatures]) -> list[np.ndarray]:
    return [rows for cell in cells for table in (cell.generated, cell.reference, cell.text) for rows in table.values()]


try:
    import pytest
except ImportError:  # the checks need no pytest
    pass
else:

    @pytest.fixture
    def analytic_teacher() -> DiffusionModel:
        """Give a test the analytic teacher."""
        return analytic_model()

    @pytest.fixture
    def feature_cells() -> list[CellFeatures]:
        """Give a test made features, a cell each of two seeds."""
        return made_cells()
