"""Checks of a method, on teachers in closed form: the same image whatever the batch, and the numbers that the formula gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from scottbench.diffusion import add_noise
from scottbench.errors import ScottbenchError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.noise import ItemNoise
from scottbench.models.sampling import watched
from scottbench.registry.guard import PluginFailed
from scottbench.registry.nouns import Method
from scottbench.registry.times import falls, in_order, in_succession, repeats, stepwise
from scottbench.testing.analytic import FORMS, SHAPE, Form, Network, analytic_model, mean_of
from scottbench.testing.common import made_options as options_of
from scottbench.testing.finding import Check, Doubt, NotConforming, Subject, raise_first
from scottbench.testing.randomness import unmoved
from scottbench.text import counts_in_words, one_line

IDS = tuple(f"item-{i}" for i in range(16))
PROMPTS = tuple(f"a {colour} {thing}" for colour in ("red", "blue", "dark", "small") for thing in ("apple", "pear", "moon", "cat"))
CLOSE = 1e-4
"""Difference of two latents that counts as none: sums in another order differ by less."""
MOST = 50
"""Numbers of steps whose time steps are looked at: 1 to 50."""
ASKED = (*range(1, 9), 16, 25, 50)
"""Numbers of steps at which the network is asked, too."""
EXACT, NOISE = 0.01, 1.5
"""Share by which a point mass may be missed, and the noise that may be left, as a multiple of sigma at time 0."""


def check_method(method: Method, steps: Sequence[int] = (1, 2, 4), student: dict[str, Any] | None = None) -> None:
    """Check that a sampler keeps the rules, on analytic teachers, at those of `steps` that it can do.

    student: the student.json that its sampler reads, for a method with a trainer. Checked are the options; time steps for 1 to 50 steps,
    as declared and as evaluated; shape, type and finiteness of the latents; NFE; no use of global random state; that it is exact on a
    point mass; that an image depends on its own item, the seed and nothing else: neither on batch size, order and company, nor on earlier
    calls. Raises NotConforming for the first rule that is broken.
    """
    raise_first(METHOD_CHECKS, Subject("method", method, settings={"steps": tuple(steps), "student": student}))


class Runner:
    """A method at one number of steps: called with places in `IDS`, it samples them together."""

    def __init__(self, subject: Subject, steps: int, options: Any, model: DiffusionModel | None = None):
        self.method, self.steps, self.options = subject.noun, steps, options
        self.model = analytic_model(student_of(subject)) if model is None else model
        self.network = cast(Network, self.model.unet)
        self.text, self.uncond = self.model.encode_prompts(list(PROMPTS)), self.model.encode_prompts([""])
        self.calls: list[float] = []
        """Time steps at which the sampler asked through `denoise` or `predict` in the last call."""
        self.raw = False
        """The sampler asked through `predict`."""
        self.start: tuple[float, Tensor] | None = None
        """Time step and mean (N,C,h,w) of a point mass of which run.noise(0) is to be a noised sample."""
        self.drawn: list[tuple[Tensor, Tensor]] = []
        """Noise that the sampler was given, (N,C,h,w), and a copy of it."""

    @torch.inference_mode()
    def __call__(self, places: Sequence[int], seed: int = 0) -> Any:
        noise = ItemNoise(seed, [IDS[i] for i in places], SHAPE)
        self.model.evaluations, self.network.times, self.calls, self.drawn = 0, [], [], []
        given = (self.text[list(places)], self.uncond, self.method.guidance)

        def draw(k: int) -> Tensor:
            made = noise(k)
            if self.start is not None and k == 0:
                t, mean = self.start
                made = add_noise(self.model.schedule, mean.float(), min(int(t), len(self.model.schedule) - 1), made)
            self.drawn.append((made, made.clone()))
            return made

        sampling = self.model.sampling(*given, draw, self.steps, self.options)
        predict = sampling.predict

        def raw(*asked: Any) -> Tensor:
            self.raw = True
            assert predict is not None
            return predict(*asked)

        return self.method.sample(watched(replace(sampling, predict=raw), self.calls))

    def written(self) -> int:
        """Count the tensors of noise that are not as they were given."""
        return sum(not torch.equal(given, kept) for given, kept in self.drawn)


def student_of(subject: Subject) -> dict[str, Any] | None:
    """Return the student.json of a method: the one given, {} where it has a trainer and none is given, None for the teacher's own."""
    given = subject.settings.get("student")
    if given is not None or subject.noun.trainer is None:
        return given
    return subject.once("student", lambda: _facts(subject))


def _facts(subject: Subject) -> dict[str, Any]:
    """{} where the sampler is content with that, else what the trainer of its student says of it."""
    plugins, trainer = subject.plugins, None
    if plugins is not None:
        trainer = plugins.named("trainer", subject.noun.trainer)
    if trainer is None or "steps" in subject.settings:
        return {}
    try:
        schedule = analytic_model({}).schedule
        steps = next(n for n in range(1, MOST) if list(subject.noun.timesteps(schedule, n, options_of(subject))))
        Runner(subject, steps, options_of(subject), analytic_model({}))([0])
        return {}
    except Exception:  # what is wrong otherwise is told by the checks
        from scottbench.testing.trainer import facts_of

        return facts_of(trainer.noun, plugins)


def runner(subject: Subject, steps: int) -> Runner:
    """Give the method's runner at a number of steps, made once."""
    return cast(Runner, subject.once(f"runner {steps}", lambda: Runner(subject, steps, options_of(subject))))


def counts_of(subject: Subject) -> list[int]:
    """List those of the asked numbers of steps that the method can do. Raises NotConforming where it can do none of them."""
    asked = subject.settings.get("steps", (1, 2, 4))
    schedule = analytic_model().schedule
    found = [n for n in asked if list(subject.noun.timesteps(schedule, n, options_of(subject)))]
    if not found and "steps" not in subject.settings:
        found = [n for n in range(1, MOST + 1) if list(subject.noun.timesteps(schedule, n, options_of(subject)))][:2]
    if not found:
        raise NotConforming(
            f"{subject.who}: timesteps gives [] for {counts_in_words(list(asked))} steps.",
            "It must give time steps for some of them: name step counts that it can do with steps=(...).",
            "timesteps",
        )
    return found


def check_timesteps(subject: Subject) -> str:
    """Time steps for 1 to 50 steps fall, are distinct, as many as asked for, and those at which the network is asked. Raises
    NotConforming."""
    who, schedule, options = subject.who, analytic_model().schedule, options_of(subject)
    counts_of(subject)
    able = []
    for n in range(1, MOST + 1):
        steps = stepwise(subject.noun.timesteps(schedule, n, options))
        if not steps or (len(steps) <= n and repeats(steps)):
            continue  # a number of steps that it cannot do: [], or a time step twice
        if len(steps) != n or not falls(steps, len(schedule)):
            shown = [step[0] if len(step) == 1 else step for step in steps]
            raise NotConforming(
                f"{who}: for {n} steps timesteps gives {_listed(shown)}.",
                f"Give {n} time steps that fall, from noise to data, inside 0..{len(schedule)}; a tuple where a step asks several times.",
                "timesteps",
            )
        declared = in_succession(in_order(steps))
        able.append(n)
        if n not in ASKED:
            continue
        run = runner(subject, n)
        run([0])
        look_at_times(f"{who}: at {n} steps", run, declared)
    return f"{counts_in_words(able)} steps: they fall, and are those at which the network is asked"


def look_at_times(who: str, run: Runner, declared: Sequence[float]) -> None:
    """Compare the time steps at which the network was asked with those declared, in succession. Raises NotConforming."""
    seen = in_succession(run.network.times)
    if len(seen) != len(declared) or not np.allclose(seen, declared, atol=1e-3):
        raise NotConforming(
            f"{who} the network was evaluated at {_listed(seen)}, and timesteps gives {_listed(declared)}.",
            "Both must be the same, in order: call timesteps from sample. Where a step asks several times, give their tuple.",
            "sample",
        )


def _listed(times: Sequence[Any]) -> str:
    return f"[{', '.join(str(t) for t in times[:8])}{', ...' if len(times) > 8 else ''}]"


def check_random(subject: Subject) -> str:
    """The global generators of torch, numpy and Python stay as they were. Raises NotConforming."""
    for n in counts_of(subject):
        run = runner(subject, n)
        unmoved(subject, partial(run, range(4)), "sample", "Randomness must come from run.noise(k).")
    return "global generators of torch, numpy and Python stay as they were"


def check_latents(subject: Subject) -> str:
    """Latents are finite, float32 and shaped as the noise. Raises NotConforming."""
    for n in counts_of(subject):
        look_at_latents(f"{subject.who}: at {n} steps", together(subject, n), len(IDS))
    return f"{(len(IDS), *SHAPE)} float32, finite"


def look_at_latents(who: str, latents: Any, items: int) -> None:
    """Look at what a sampler returned for so many items. Raises NotConforming."""
    wanted = (items, *SHAPE)
    if not isinstance(latents, Tensor) or tuple(latents.shape) != wanted or latents.dtype != torch.float32:
        found = f"{tuple(latents.shape)} {latents.dtype}" if isinstance(latents, Tensor) else one_line(repr(latents))
        raise NotConforming(f"{who} it returned {found}.", f"It must return latents {wanted} torch.float32, as run.noise(0) is.", "sample")
    if not torch.isfinite(latents).all():
        raise NotConforming(
            f"{who} the latents are NaN or infinite.", "Look for a division by sigma or alpha at the last time step.", "sample"
        )


def together(subject: Subject, steps: int) -> Any:
    """Sample all items together, once: latents (16,C,h,w), and whatever else a method may return."""
    return subject.once(f"together {steps}", lambda: runner(subject, steps)(range(len(IDS))))


def check_repeat(subject: Subject) -> str:
    """A second call gives the same bytes. Raises NotConforming."""
    for n in counts_of(subject):
        if not torch.equal(together(subject, n), runner(subject, n)(range(len(IDS)))):
            raise NotConforming(
                f"{subject.who}: at {n} steps a second call gives other latents.",
                "They must be equal to the byte: keep no state between calls, and draw nothing but run.noise(k).",
                "sample",
            )
    return "two calls give equal bytes"


def check_batch(subject: Subject) -> str:
    """An item's latents are the same alone, in 7, in 16, permuted and in other company. Raises NotConforming."""
    everyone = len(IDS)
    order = np.random.default_rng(0).permutation(everyone).tolist()
    groups = [[3], list(range(7)), order, [4, 11, 0, 4, 9, 15, 8], [2, 2, 2, 0]]
    for n in counts_of(subject):
        whole, run = together(subject, n), runner(subject, n)
        for places in groups:
            latents = run(places)
            if not torch.allclose(latents, whole[places], rtol=CLOSE, atol=CLOSE):
                worst = float((latents - whole[places]).abs().max())
                raise NotConforming(
                    f"{subject.who}: at {n} steps the latents of an item change with batch size, order or company, by {worst:.2g} from a "
                    f"batch of {everyone} to one of {len(places)}.",
                    "They must depend on the item alone: no sums over the batch, no state between calls, no noise but run.noise(k).",
                    "sample",
                )
    return "batch 1, 7 and 16, permuted and with other companions agree"


def check_seed(subject: Subject) -> str:
    """Two seeds give every item other latents. Raises NotConforming."""
    for n in counts_of(subject):
        other = runner(subject, n)(range(len(IDS)), seed=1)
        if any(torch.equal(a, b) for a, b in zip(together(subject, n), other)):
            raise NotConforming(
                f"{subject.who}: at {n} steps two seeds give an item the same latents.", "They must not: start from run.noise(0).", "sample"
            )
    return "another seed gives other latents"


def check_noise(subject: Subject) -> str:
    """The tensors that run.noise(k) gave are as they were. Raises NotConforming."""
    for n in counts_of(subject):
        run = runner(subject, n)
        run(range(4))
        if run.written():
            line = subject.code.line_that_changes(partial(run, range(4)), run.written)
            raise NotConforming(
                f"{subject.who}: at {n} steps it writes into a tensor that run.noise(k) gave.",
                "Write z = z + x, not z += x, or clone it first.",
                line or "sample",
            )
    return "nothing is written into run.noise's tensors"


def check_nfe(subject: Subject) -> str:
    """NFE are whole, equal for every image, and what the calls of denoise and predict cost: 2 for a guided teacher, else 1; and those of a
    table, where one is given. Raises NotConforming."""
    told: dict[int, int] = subject.settings.get("nfe", {})
    guided = subject.noun.guidance != 1 and not analytic_model(student_of(subject)).takes_guidance
    table = []
    for n in counts_of(subject):
        run = runner(subject, n)
        found = []
        for places in (list(range(len(IDS))), [0], [5], [4, 1, 7]):
            run(places)
            found.append(run.model.evaluations / len(places))
        calls, each = len(run.calls), 2 if guided else 1
        if len(set(found)) > 1 or found[0] != int(found[0]) or not found[0]:
            raise NotConforming(
                f"{subject.who}: at {n} steps NFE is {found[0]:g} for {len(IDS)} images and {', '.join(f'{x:g}' for x in found[1:])} for "
                "others.",
                "It must be the same whole number for every image, whatever its company: call the network with all items of the batch.",
                "sample",
            )
        if found[0] != calls * each:
            raise NotConforming(
                f"{subject.who}: at {n} steps {found[0]:g} network evaluations an image are counted, and {calls} calls of run.denoise "
                f"and run.predict cost {calls * each}.",
                "Ask the network through these two alone.",
                "sample",
            )
        if n in told and told[n] != found[0]:
            raise NotConforming(
                f"{subject.who}: at {n} steps {found[0]:g} network evaluations an image are counted, and the table says {told[n]}.",
                "Correct the table or the sampler.",
                "sample",
            )
        table.append(f"{n} steps {found[0]:g}")
    return f"NFE an image: {', '.join(table)}"


def check_point_mass(subject: Subject) -> str:
    """On data that are one point a prompt, the point comes out, at every number of steps. Raises NotConforming, or Doubt for a network
    whose raw output nobody knows."""
    raw, worst = False, (0.0, 0.0)
    for n in counts_of(subject):
        found = []
        for form in FORMS:
            try:
                found.append(_missed(subject, n, form))
            except (ScottbenchError, ArithmeticError) as error:
                if not found and not isinstance(error, (PluginFailed, ArithmeticError)):
                    raise
                continue
            raw = raw or found[-1][2]
            if not raw:
                break  # `denoise` is the same for every form
        share, left, _ = min(found)
        if share > EXACT or left > NOISE:
            _refuse(subject, n, (share, left), raw)
        worst = max(worst, (share, left))
    return f"a point mass comes out, missed by {worst[0]:.2%} at most"


def _refuse(subject: Subject, n: int, missed: tuple[float, float], raw: bool) -> None:
    if raw:
        raise Doubt(
            f"{subject.who}: at {n} steps a point mass does not come out for any form of the network's raw output that is known.",
            "Nothing, if your network predicts something else; say in a test of your own what it gives on a point mass.",
            "sample",
        )
    share, left = missed
    raise NotConforming(
        f"{subject.who}: at {n} steps, on data that are one point, it misses the point by {share:.1%}, and leaves {left:.1f} times the "
        "noise of time 0.",
        "Go on to time 0, and use x0 and eps of one and the same time step in the update.",
        "sample",
    )


def _missed(subject: Subject, n: int, form: Form) -> tuple[float, float, bool]:
    """How far a point mass is missed, as a share of it and in noise left over, and whether the raw output was asked for."""
    run = Runner(subject, n, options_of(subject), analytic_model(student_of(subject), 0.0, form))
    mean, empty = (mean_of(text.hidden).double() for text in (run.text, run.uncond))
    if not run.model.takes_guidance:
        mean = empty + subject.noun.guidance * (mean - empty)
    # a schedule that begins late, as "leading" spacing at one step does, must not be blamed for it
    run.start = stepwise(subject.noun.timesteps(run.model.schedule, n, run.options))[0][0], mean
    z = run(range(len(IDS))).double()
    slope = float((z * mean).sum() / (mean * mean).sum())
    rest = float((z - slope * mean).square().mean().sqrt()) / float(run.model.schedule.sigma(0))
    return abs(slope - 1), rest, run.raw


METHOD_CHECKS = (
    Check("options", lambda subject: f"{len(vars(options_of(subject)))} options, written and read alike"),
    Check("global randomness", check_random),
    Check("latents", check_latents),
    Check("time steps", check_timesteps),
    Check("repeated call", check_repeat),
    Check("batch", check_batch),
    Check("nfe", check_nfe),
    Check("seed", check_seed),
    Check("noise unwritten", check_noise),
    Check("point mass", check_point_mass),
)
"""The checks of a method, in the order in which they make sense."""
