"""What the loop asks of a trainer's `Distillation`, told in one line where it is not so: the author's mistake, not the user's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor, nn

from scottbench.errors import ScottbenchError
from scottbench.registry.guard import named_owner, unguarded
from scottbench.registry.nouns import Distillation, Trainer
from scottbench.text import one_line

Losses = dict[str, Tensor]
Facts = Mapping[str, float | Tensor]
NEEDED = ("networks", "learning_rates", "betas", "ema", "ema_decay", "step", "student_config")
FORM = 'Yield (role, {term: loss}, {name: number to log}), such as ("student", {"eps": loss}, {}).'


class BrokenTrainer(ScottbenchError):
    """A trainer built or yielded what the loop cannot use. Exit code 1; the message says what, and what its author can do."""

    def __init__(self, distillation: Distillation, what: str, cure: str, at: tuple[str, int] | None = None) -> None:
        line = "" if at is None else f" ({Path(at[0]).name}:{at[1]})"
        super().__init__(f"{named_owner(distillation, 'the trainer')} cannot be used: {what}{line} {cure}")
        self.what, self.cure, self.at = what, cure, at


def frozen_networks(distillation: Distillation) -> dict[str, nn.Module]:
    """Return the networks that a trainer asks without training them, by name; {} where it has none."""
    return dict(getattr(distillation, "frozen", None) or {})


def all_networks(distillation: Distillation) -> list[nn.Module]:
    """Return every network of a training beside its teacher: the EMA's, those that are trained, those that are frozen."""
    ema = [] if distillation.ema is None else [distillation.ema]
    return [*ema, *distillation.networks.values(), *frozen_networks(distillation).values()]


def built(trainer: Trainer, context: Any, options: Any) -> Distillation:
    """Return the networks and losses of a training. context: `scottbench.training.context.Context`. Raises as the trainer, BrokenTrainer
    where the loop cannot use what it gives."""
    distillation: Distillation = trainer.build(context, options)
    check_distillation(distillation)
    return distillation


def check_distillation(distillation: Distillation) -> None:
    """Check what a trainer's `build` returned. Raises BrokenTrainer."""

    def refuse(what: str, cure: str) -> NoReturn:
        raise BrokenTrainer(distillation, what, cure)

    absent = [name for name in NEEDED if not hasattr(distillation, name)]
    if absent:
        refuse(f"what it builds has no {', '.join(absent)}.", f"It needs {', '.join(NEEDED)}: see Distillation.")
    networks, rates, frozen = distillation.networks, distillation.learning_rates, frozen_networks(distillation)
    if not isinstance(networks, dict) or "student" not in networks:
        found = ", ".join(map(repr, networks)) if isinstance(networks, dict) else type(networks).__name__
        refuse(f'no role is called "student" (networks: {one_line(found)}).', "Name the network that is exported so.")
    for role, network in {**networks, **frozen}.items():
        if not isinstance(network, nn.Module):
            refuse(f"network '{role}' is {type(network).__name__}, no torch.nn.Module.", "Give a module.")
    for role, network in networks.items():
        if not isinstance(rates, dict) or not is_rate(rates.get(role)):
            refuse(f"role '{role}' has no learning rate.", "Give learning_rates a number for each role of networks.")
        if not any(p.requires_grad for p in network.parameters()):
            cure = "Set requires_grad of what is to learn; a network that no loss trains belongs into `frozen`, not into `networks`."
            refuse(f"role '{role}' has nothing to train.", cure)
    for name, network in frozen.items():
        if any(p.requires_grad for p in network.parameters()):
            refuse(f"frozen network '{name}' has weights that require a gradient.", "Call requires_grad_(False) on it.")
    if distillation.ema is not None and not isinstance(distillation.ema, nn.Module):
        refuse(f"ema is {type(distillation.ema).__name__}.", "Give a frozen copy of the student, or None.")


def is_rate(value: object) -> bool:
    """Tell whether a value may be a learning rate."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def checked_step(distillation: Distillation, running: Any) -> Any:
    """Return what a trainer's `step` gave. Raises BrokenTrainer where it is no generator."""
    if not hasattr(running, "__next__"):
        raise BrokenTrainer(distillation, f"its step returned {described(running)}, and yields nothing.", FORM)
    return running


def checked_yield(distillation: Distillation, reached: Any, running: Any) -> tuple[str, Losses, Facts]:
    """Return what a trainer's step yielded: role, its losses, what to log. running: the generator that stands at the yield. Raises
    BrokenTrainer, with the line of the yield, for another form, a role that the networks lack, or a loss that is no 0-d tensor."""
    networks = distillation.networks

    def refuse(what: str, cure: str) -> NoReturn:
        raise BrokenTrainer(distillation, what, cure, place_of_yield(running))

    if not isinstance(reached, tuple) or len(reached) != 3:
        refuse(f"its step yielded {described(reached)}.", FORM)
    role, losses, facts = reached
    if not isinstance(role, str) or role not in networks:
        refuse(f"its step yielded a loss of role {one_line(repr(role))[:60]}, and networks has {', '.join(map(repr, networks))}.", FORM)
    if not isinstance(losses, dict) or not isinstance(facts, Mapping):
        refuse(f"its step yielded ('{role}', {described(losses)}, {described(facts)}).", FORM)
    for term, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.dim():
            refuse(f"the {role}'s loss '{term}' is {described(loss)}.", "A loss is a 0-d tensor: take its mean.")
    return role, losses, facts


def check_gradient(distillation: Distillation, role: str, losses: Losses, running: Any) -> None:
    """Raise BrokenTrainer for losses of which none has a gradient, so that they could train nothing."""
    if losses and not any(loss.requires_grad for loss in losses.values()):
        cure = "Do not detach them, nor make them under no_grad."
        raise BrokenTrainer(distillation, f"the losses of '{role}' have no gradient.", cure, place_of_yield(running))


def described(value: Any) -> str:
    """Say what a value is, in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)} ({', '.join(type(part).__name__ for part in value[:4])})"
    return f"{type(value).__name__} {one_line(repr(value))[:40]}"


def place_of_yield(running: Any) -> tuple[str, int] | None:
    """Return file and line that a generator stands at, or the generator that it hands on from; None where it is not known."""
    running = unguarded(running)
    while getattr(running, "gi_yieldfrom", None) is not None:
        running = running.gi_yieldfrom
    frame = getattr(running, "gi_frame", None)
    return None if frame is None else (frame.f_code.co_filename, frame.f_lineno)
