"""Checks of a trainer, on a tiny random teacher by the host's own loop: what it trains, what it draws, what it keeps, what it leaves."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scottbench.errors import ScottbenchError, TrainingDiverged
from scottbench.models.sampling import Sampler
from scottbench.models.student import check_facts, sampler_defaults
from scottbench.registry.guard import PluginFailed, cause_of
from scottbench.registry.nouns import Trainer
from scottbench.registry.options import make_options, options_of
from scottbench.store.files import as_read
from scottbench.testing.common import checked_options
from scottbench.testing.finding import Check, Doubt, NotConforming, Subject, raise_first
from scottbench.testing.randomness import random_state
from scottbench.testing.same_draws import SameDraws
from scottbench.testing.small import Trained, exported, small_loop
from scottbench.testing.tiny import encoded, tiny_model
from scottbench.testing.where import shown
from scottbench.text import one_line
from scottbench.training.contract import BrokenTrainer, check_gradient, checked_step, checked_yield, frozen_networks, place_of_yield
from scottbench.training.loop import CLIP, Loop

STEPS, KILLED = 4, 3
"""Steps of a training, and after how many of them it is killed."""
FRACTIONS = (0.0, 0.5, 0.95, 0.98)
"""Parts of the budget spent at the steps, so that a trainer with stages comes to all of them, and to the last before it is killed."""
APART = 0.05
"""Relative difference of the gradients of one batch of 16 and of twice 8 that counts as none: terms may be scaled by the batch's own."""
SMALL = {"lora_rank": 2, "disc_rank": 2}
"""Options that many trainers have, made small for speed; the rest are defaults."""


def check_trainer(trainer: Trainer, plugins: Any = None) -> None:
    """Check that a trainer keeps the rules, on a tiny random teacher: four steps, gradients by role, micro-batches, resuming, seeds,
    placement on a GPU, export and a sample of the student, guidance. plugins: to find the method that samples the student. Raises
    NotConforming for the first rule that is broken."""
    raise_first(TRAINER_CHECKS, Subject("trainer", trainer, plugins))


def options_for(subject: Subject) -> dict[str, Any]:
    """Return the options to train with: the defaults, but for sizes of adapters. Raises NotConforming as `checked_options`."""
    checked_options(subject.who, subject.noun.options)
    return {option.name: SMALL[option.name] for option in options_of(subject.noun.options) if option.name in SMALL}


def folder_of(subject: Subject) -> Path:
    """Return a folder for the trainings of a trainer, which goes with it."""
    return Path(subject.once("folder", tempfile.TemporaryDirectory).name)


def loop_of(subject: Subject, name: str, more: Mapping[str, object] | None = None, **settings: Any) -> Loop:
    """Build the trainer and its loop in a folder of its own. more: options beside `options_for`; settings: of `TrainSettings`."""
    loop = small_loop(subject.noun, {**options_for(subject), **(more or {})}, folder_of(subject) / name, subject.plugins, **settings)
    subject.seen["step"] = getattr(inner(loop.distillation), "step", "build")
    return loop


def step_of(subject: Subject) -> Any:
    """Return the `step` of what was built, to name its place; the field "build" before anything was."""
    return subject.seen.get("step", "build")


def inner(distillation: Any) -> Any:
    """Return what a trainer built, without the guard around it."""
    return vars(distillation).get("_inner", distillation)


def numbers(loop: Loop) -> Tensor:
    """Copy every trained number and the EMA's into one row, of any shape before."""
    return torch.cat([tensor.flatten() for group in loop.tensors().values() for tensor in group.values()]).clone()


def steps_of(loop: Loop, first: int, last: int) -> list[dict[str, float]]:
    """Train from step `first` up to `last`, not included, at the fractions of `FRACTIONS`."""
    logged = []
    for step in range(first, last):
        loop.counted_step(FRACTIONS[step])
        logged.append(dict(loop.ledger.last))
    return logged


def trained(subject: Subject) -> tuple[Loop, list[dict[str, float]], dict[int, Tensor]]:
    """Train four steps, once: the loop, what was logged, and all numbers, (n,), after so many steps."""

    def train() -> tuple[Loop, list[dict[str, float]], dict[int, Tensor]]:
        loop = loop_of(subject, "whole")
        logged, kept = [], {0: numbers(loop)}
        for step in range(STEPS):
            logged += steps_of(loop, step, step + 1)
            kept[step + 1] = numbers(loop)
        return loop, logged, kept

    return subject.once("trained", train)


def facts_of(trainer: Trainer, plugins: Any) -> dict[str, Any]:
    """Return what a trainer says of its students in student.json; {} where it cannot be built."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            loop = small_loop(trainer, {}, Path(folder), plugins)
            return dict(as_read(loop.distillation.student_config()))
    except Exception:  # checks of the trainer tell why
        return {}


# --- the checks ------------------------------------------------------------------------------------------------------


def check_form(subject: Subject) -> str:
    """The networks have roles, one of them "student", each with a learning rate and something to train; no two share a weight; the EMA has
    the student's form and is frozen. Raises NotConforming."""
    loop = subject.once("fresh", lambda: loop_form(subject))
    made = inner(loop.distillation)
    owners: dict[int, str] = {}
    for role, network in made.networks.items():
        for p in (p for p in network.parameters() if p.requires_grad):
            if owners.setdefault(id(p), role) != role:
                raise NotConforming(
                    f"{subject.who}: roles '{owners[id(p)]}' and '{role}' train the same weights.",
                    "Give each role weights of its own: copy, or add adapters under names of their own.",
                    "build",
                )
    if made.ema is not None:
        shapes = [[p.shape for p in network.parameters()] for network in (made.ema, made.networks["student"])]
        own = [p for p, q in zip(made.ema.parameters(), made.networks["student"].parameters()) if p is not q]
        if shapes[0] != shapes[1] or any(p.requires_grad for p in own):
            raise NotConforming(
                f"{subject.who}: the EMA network is of another form than the student, or is not frozen.",
                "Make it by copy.deepcopy(student).requires_grad_(False), or set ema = None.",
                "build",
            )
    return f"roles {', '.join(made.networks)}, each with weights of its own"


def loop_form(subject: Subject) -> Loop:
    """Build the trainer. Raises NotConforming for what is no distillation."""
    try:
        return loop_of(subject, "form")
    except BrokenTrainer as error:
        raise NotConforming(f"{subject.who}: {error.what}", error.cure, "build") from None
    except AttributeError as error:
        raise NotConforming(
            f"{subject.who}: what it builds is no distillation ({one_line(error)}).",
            "See Distillation.",
            subject.code.place_of_error(error),
        ) from None


def check_gradients(subject: Subject) -> str:
    """Each role's gradients stay its own: another role's loss does not reach the student, no weight changes between two yields, nobody but
    the host goes backward. Raises NotConforming."""
    loop = subject.once("fresh", lambda: loop_form(subject))
    made = inner(loop.distillation)
    seen: list[str] = []
    for step, fraction in enumerate(FRACTIONS):
        loop.state.step = step
        seen += list(_yields(subject, loop, made, fraction))
        if {"student"} | set(made.networks) <= set(seen):
            break
    loop.feed.close()
    if "student" not in seen:
        raise NotConforming(
            f"{subject.who}: in {STEPS} steps no loss of the student was yielded.",
            'Yield ("student", {term: loss}, facts).',
            step_of(subject),
        )
    return f"losses of {', '.join(dict.fromkeys(seen))} reach their own networks"


def _yields(subject: Subject, loop: Loop, made: Any, fraction: float) -> Iterator[str]:
    """Run one step by hand and look at each of its yields; give the roles. Raises NotConforming."""
    weights = {f"network '{role}'": list(network.parameters()) for role, network in made.networks.items()}
    weights |= {"the teacher": list(loop.model.unet.parameters())} | ({} if made.ema is None else {"the EMA": list(made.ema.parameters())})
    learned = {role: [p for p in network.parameters() if p.requires_grad] for role, network in made.networks.items()}
    asked = {f"frozen network '{name}'": list(network.parameters()) for name, network in frozen_networks(made).items()}
    before = {name: [p.detach().clone() for p in group] for name, group in weights.items()}
    try:
        running = checked_step(made, made.step(next(iter(loop.batches(fraction)))))
    except BrokenTrainer as error:
        raise NotConforming(f"{subject.who}: {error.what}", error.cure, step_of(subject)) from None
    while (reached := _next(running)) is not None:
        place = place_of_yield(running)
        at = "" if place is None else f"{shown(place[0])}:{place[1]}"
        try:
            role, losses, _ = checked_yield(made, reached, running)
            check_gradient(made, role, losses, running)
        except BrokenTrainer as error:
            raise NotConforming(f"{subject.who}: {error.what}", error.cure, at) from None
        for name, group in (weights | asked).items():
            if name in before and any(not torch.equal(p.detach(), kept) for p, kept in zip(group, before[name])):
                raise NotConforming(
                    f"{subject.who}: before its loss of '{role}' the weights of {name} were changed.",
                    "The host updates networks and EMA: yield the loss, change no weight.",
                    at,
                )
            if any(p.grad is not None for p in group):
                raise NotConforming(
                    f"{subject.who}: before its loss of '{role}' gradients lie on {name}.",
                    "Let the host call backward; take gradients of your own with torch.autograd.grad.",
                    at,
                )
        if losses:
            _look_at(subject, (role, losses), learned, at)
            yield str(role)


def _next(running: Any) -> Any:
    return next(running, None)


def _look_at(subject: Subject, reached: tuple[str, dict[str, Tensor]], learned: dict[str, list[Tensor]], at: str) -> None:
    """Look at the losses of one yield. Raises NotConforming."""
    role, losses = reached
    for term, loss in losses.items():
        if not torch.isfinite(loss):
            raise NotConforming(
                f"{subject.who}: the {role}'s term '{term}' is {one_line(repr(loss))[:60]}.",
                "A loss is finite: look for a division by alpha or sigma, or a root at 0.",
                at,
            )
    total: Any = sum(losses.values())
    for other, parameters in learned.items():
        grads = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        found = any(grad is not None for grad in grads)
        if other == role and not found:
            raise NotConforming(
                f"{subject.who}: the loss of '{role}' does not reach its own network.", "Make it of that network's output.", at
            )
        if other == "student" != role and found:
            raise NotConforming(
                f"{subject.who}: the loss of '{role}' reaches the student's weights.",
                "Detach what the student made: only its own loss may go back through it.",
                at,
            )


def check_steps(subject: Subject) -> str:
    """Four steps of the host's loop give finite losses and gradients, and change the student. Raises NotConforming."""
    try:
        loop, logged, kept = trained(subject)
    except TrainingDiverged as error:
        raise NotConforming(
            f"{subject.who}: {one_line(error).partition('. ')[0]}.",
            "Look for a division by alpha or sigma, or a root at 0.",
            step_of(subject),
        ) from None
    if torch.equal(kept[0], kept[STEPS]) or not loop.state.updates:
        raise NotConforming(
            f"{subject.who}: {STEPS} steps change nothing.", "Yield losses of the student, with a learning rate above 0.", step_of(subject)
        )
    bad = [f"{key} = {value}" for step in logged for key, value in step.items() if not math.isfinite(value)]
    if bad:
        raise NotConforming(f"{subject.who}: it logs {bad[0]}.", "Log finite numbers.", step_of(subject))
    return f"{loop.state.updates} updates of the student; {', '.join(sorted(logged[-1]))}"


def check_micro_batches(subject: Subject) -> str:
    """A batch of 16 and twice 8 give the same gradient, with the same draws for every item. Raises NotConforming."""
    one, two = (first_gradients(loop_of(subject, f"parts-{parts}", batch_size=16, accumulate=parts)) for parts in (1, 2))
    said = []
    for role, gradient in one.items():
        if role not in two:
            continue
        apart = float((gradient - two[role]).norm() / gradient.norm().clamp_min(1e-12))
        if apart > APART and float(gradient.norm()) > 1e-9:
            size = float(two[role].norm() / gradient.norm())
            raise NotConforming(
                f"{subject.who}: the {role}'s gradient of twice 8 items is {size:.2f} times that of 16, and differs by {apart:.0%}.",
                "A loss is a mean over the items of its batch, and each item's part depends on that item.",
                step_of(subject),
            )
        said.append(f"{role} {apart:.1e}")
    return f"1 x 16 and 2 x 8 agree: {', '.join(said)} apart" if said else "no role has a gradient to compare"


def first_gradients(loop: Loop) -> dict[str, Tensor]:
    """Return each role's first gradient before clipping, in one row, (n,), under draws that are the same for every item."""
    found: dict[str, Tensor] = {}

    def keep(role: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*words: Any, **more: Any) -> Any:
            if role not in found:
                found[role] = torch.cat(
                    [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in loop.parameters[role]]
                )
            return step(*words, **more)

        return stepped

    for role, optimizer in loop.optimizers.items():
        optimizer.step = keep(role, optimizer.step)
    scales: dict[str, float] = {}
    for step, fraction in enumerate(FRACTIONS):
        loop.state.step = step
        with SameDraws():
            logged = loop.one_step(fraction)
        for role in found:
            scales.setdefault(role, max(1.0, logged.get(f"{role}/grad_norm", 1.0) / CLIP))
        if set(found) == set(loop.roles):
            break
    loop.feed.close()
    return {role: gradient * scales[role] for role, gradient in found.items()}


def killed(subject: Subject) -> tuple[Tensor, Tensor]:
    """Train three steps, save, build anew, resume and train the fourth: the numbers, (n,), after three steps and after four."""

    def train() -> tuple[Tensor, Tensor]:
        loop = loop_of(subject, "killed")
        steps_of(loop, 0, KILLED)
        loop.save()
        loop.feed.close()
        after = numbers(loop)
        again = loop_of(subject, "killed")
        again.resume()
        steps_of(again, KILLED, STEPS)
        again.feed.close()
        return after, numbers(again)

    return subject.once("killed", train)


def check_seed(subject: Subject) -> str:
    """A training of the same seed gives the same bytes. Raises NotConforming."""
    _, _, kept = trained(subject)
    if not torch.equal(killed(subject)[0], kept[KILLED]):
        raise NotConforming(
            f"{subject.who}: two trainings of one seed differ after {KILLED} steps.",
            'Draw from batch["generator"] alone, and keep nothing outside the object that is built.',
            _drawn_at(subject) or step_of(subject),
        )
    return "two trainings of one seed are equal to the byte"


def _drawn_at(subject: Subject) -> str:
    """The line of the plug-in that draws from a global generator of numpy or Python, which the host does not seed."""
    loop = loop_of(subject, "drawn")
    line = subject.code.line_that_changes(lambda: steps_of(loop, 0, 1), lambda: random_state()[1:])
    loop.feed.close()
    return line or ""


def check_resume(subject: Subject) -> str:
    """A training that was killed and resumed gives the bytes of one that was not. Raises NotConforming."""
    _, _, kept = trained(subject)
    after, resumed = killed(subject)
    if torch.equal(after, kept[KILLED]) and not torch.equal(resumed, kept[STEPS]):
        raise NotConforming(
            f"{subject.who}: killed after {KILLED} steps and resumed, it goes on differently.",
            'Keep numbers that the next step needs in `memory`, a JSON-able dict, or make them of batch["step"]; a network that it changes '
            "in `frozen`.",
            step_of(subject),
        )
    return (
        "killed and resumed, it goes on to the same bytes"
        if torch.equal(after, kept[KILLED])
        else "not tried: two trainings differ already"
    )


def student_of(subject: Subject) -> Trained:
    """Export the student of the four steps, once. Raises NotConforming where student.json cannot hold what is said of it."""

    def make() -> Trained:
        loop, logged, _ = trained(subject)
        try:
            facts = as_read(loop.distillation.student_config())
            check_facts({"teacher_digest": "0" * 64, "weights_digest": "0" * 64, **facts})
        except (TypeError, ValueError) as error:
            raise NotConforming(
                f"{subject.who}: student_config gives what student.json cannot hold ({one_line(error)}).",
                "Return a dict of JSON values, as Distillation.student_config says.",
                inner(loop.distillation).student_config,
            ) from None
        return exported(loop, subject.noun, logged)

    return subject.once("student", make)


def check_export(subject: Subject) -> str:
    """The student is exported, opened again, and sampled by the method of its trainer: finite images. Raises NotConforming, or Doubt where
    no method samples it."""
    student = student_of(subject)
    nouns = {} if subject.plugins is None else subject.plugins.nouns["method"]
    method = next((found.noun for found in nouns.values() if found.noun.trainer == subject.noun.name), None)
    if method is None:
        raise Doubt(
            f"{subject.who}: exported; no method samples its students.", f'Register a Method with trainer = "{subject.noun.name}".', "name"
        )
    facts, model = student.facts, student.student
    options = make_options(
        method.options, sampler_defaults(facts, [one.name for one in options_of(method.options)]), f"method '{method.name}'"
    )
    guidance = 1.0 if facts.get("guidance") == "baked" else method.guidance
    if "w_min" in facts:
        guidance = min(max(guidance, 1 + facts["w_min"]), 1 + facts["w_max"])
    counts = [n for n in (1, 2, 4) if list(method.timesteps(model.schedule, n, options))]
    for n in counts[:2]:
        sampler = Sampler(model, method, method.name, options, model.empty_prompt(), guidance, n, seed=0)
        sampler.images(model.encode_prompts(["a red apple", "a blue cat"]), ["a", "b"], None, 2)
    return f"exported, opened and sampled by {method.name} at {' and '.join(map(str, counts[:2]))} steps"


def check_guidance(subject: Subject) -> str:
    """student.json says of the guidance what the network is: a range where it takes the scale, "baked" where it does not; how far it
    follows is measured where the trainer has `f`. Raises NotConforming, or Doubt where it cannot be measured."""
    student = student_of(subject)
    facts, takes = student.facts, student.student.takes_guidance
    config = inner(student.loop.distillation).student_config
    if takes and not {"w_min", "second_input"} & facts.keys():  # the input may hold something else, such as a second time
        raise NotConforming(
            f"{subject.who}: the network takes the guidance scale, and student_config gives no w_min and w_max.",
            "Return them (guidance_facts does), or build the student without the input.",
            config,
        )
    if not takes and "w_min" in facts:
        raise NotConforming(
            f"{subject.who}: student_config gives w_min and w_max, and the network takes no guidance scale.",
            'Return guidance = "baked", or give the network the input.',
            config,
        )
    if not takes or "w_min" not in facts:
        return "the guidance is baked in" if facts.get("guidance") == "baked" else "the student is guided as its teacher is"
    slope = facts.get("guidance_slope")
    if slope is None:
        raise Doubt(
            f"{subject.who}: it takes the guidance scale and has no function f, so that nobody sees how far it follows.",
            "Add f(network, z, t, text, w) -> the student's clean latents.",
            "build",
        )
    if not all(math.isfinite(value) for value in slope.values()):
        raise NotConforming(
            f"{subject.who}: its guidance slope is {slope}.",
            "f must give finite latents at every time step.",
            inner(student.loop.distillation).f,
        )
    return "it takes the scale; slope " + ", ".join(f"{name} {value:.2f}" for name, value in slope.items())


DEVICES = re.compile(r"two devices|same device|different devices|Expected all tensors|is on cpu|device type|found at least")


def check_placement(subject: Subject) -> str:
    """On a GPU (a fake one: shapes without numbers) all tensors meet on one device, and a step waits for nothing. Raises NotConforming, or
    Doubt where it waits, or where it cannot be told without a GPU."""
    try:
        waits = waits_on_gpu(subject)
    except Exception as error:
        cause = cause_of(error)
        if isinstance(cause, (ScottbenchError, MemoryError)) and not isinstance(cause, PluginFailed):
            raise
        place = subject.code.place_of_error(cause)
        if DEVICES.search(str(cause)):
            raise NotConforming(
                f"{subject.who}: on a GPU tensors of two devices meet ({one_line(cause)[:120]}).",
                "Send what you draw or make on the CPU: scottbench.models.transfer.sent(tensors, device).",
                place or "build",
            ) from None
        raise Doubt(
            f"{subject.who}: it cannot be tried without a GPU ({type(cause).__name__}: {one_line(cause)[:120]}).",
            "Try a step on a GPU.",
            place or "build",
        ) from None
    if waits:
        raise Doubt(
            f"{subject.who}: a step waits for the GPU in {len(waits)} places ({waits[0]}).",
            "Log tensors as they are, without float() or .item(), and choose rows without masks.",
            step_of(subject),
        )
    return "all tensors on one device, and a step waits for nothing"


def waits_on_gpu(subject: Subject) -> list[str]:
    """Run a step on the fake GPU, up to one that updates the student; list the lines at which that waits for the GPU."""
    from scottbench.testing.fake_gpu import Patches, backward, fake_gpu, weights_at_once

    patch = Patches()
    try:
        weights_at_once(patch)
        with fake_gpu(patch) as gpu:
            loop = loop_on_gpu(subject)
            loop.accelerator.backward = backward(lambda: [p for each in loop.parameters.values() for p in each])
            for step, fraction in enumerate(FRACTIONS):
                loop.state.step = step
                gpu.syncs.clear()
                loop.queue_step(fraction)
                if loop.state.updates:  # a step that makes data may look at it
                    break
            loop.feed.close()
            return list(dict.fromkeys(place for place in gpu.syncs if place))
    finally:
        patch.undo()


def loop_on_gpu(subject: Subject) -> Loop:
    """Build the trainer and its loop on the fake GPU."""
    from dataclasses import replace

    from scottbench.testing.made import MadeItems
    from scottbench.testing.small import context_for, loop_around

    model = tiny_model()
    data = subject.once("data", lambda: encoded(model, MadeItems(24)))
    # as few operations as there can be with attention to text, residual blocks and a decoder: each takes its time here
    config = {
        **model.unet.config,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "mid_block_type": None,
        "up_block_types": ("UpBlock2D",),
        "block_out_channels": (8,),
        "norm_num_groups": 2,
    }
    unet = type(model.unet).from_config({key: value for key, value in config.items() if key != "_use_default_values"})
    gpu = replace(model, unet=unet.requires_grad_(False).eval(), vae=model.vae.to("cuda"), device="cuda:0")
    made = make_options(subject.noun.options, options_for(subject), subject.who)
    out = folder_of(subject) / "gpu"
    out.mkdir()
    # no folder: what a trainer writes has no numbers here
    loop = loop_around(subject.noun, made, replace(context_for(gpu, data, out, subject.plugins), folder=None), out)
    loop.model.schedule.table(torch.device("cuda:0"))  # copies of a whole training, not of a step
    loop.data.on("cuda:0")
    return loop


TRAINER_CHECKS = (
    Check("form", check_form),
    Check("gradients by role", check_gradients),
    Check("four steps", check_steps),
    Check("seed", check_seed),
    Check("kill and resume", check_resume),
    Check("export and sample", check_export),
    Check("guidance", check_guidance),
    Check("micro-batches", check_micro_batches),
    Check("placement", check_placement, full=True),
)
"""The checks of a trainer."""
