"""Other values of options: a trainer or sampler is tried once with every choice that it offers, since a run takes the defaults alone."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

import torch

from scottbench.errors import ScottbenchError, TrainingDiverged
from scottbench.registry.guard import PluginFailed, cause_of
from scottbench.registry.options import make_options, options_of
from scottbench.registry.times import in_order, in_succession, stepwise
from scottbench.testing.analytic import analytic_model
from scottbench.testing.finding import Check, NotConforming, Subject
from scottbench.testing.method import Runner, counts_of, look_at_latents, look_at_times
from scottbench.testing.trainer import FRACTIONS, loop_of, numbers
from scottbench.text import counts_in_words, one_line
from scottbench.training.contract import BrokenTrainer

Choice = tuple[str, object]


def choices_of(options: type) -> Iterator[Choice]:
    """Give (name, value) of every value that an option lists, Literal or bool, other than its default."""
    for option in options_of(options):
        for kind in (option.kind, *typing.get_args(option.kind)):  # Literal[...] | None
            values = (False, True) if kind is bool else typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
            yield from ((option.name, value) for value in values if value != option.default)


def check_method_choices(subject: Subject) -> str:
    """With every other choice of an option the latents are float32, finite and shaped, and the network is asked at the time steps that
    are declared. Raises NotConforming."""

    def sample(choice: Choice, said: str) -> None:
        options = make_options(subject.noun.options, dict([choice]), subject.who)
        steps = next((n for n in counts_of(subject) if list(subject.noun.timesteps(analytic_model().schedule, n, options))), None)
        if steps is None:
            return
        run = Runner(subject, steps, options)
        look_at_latents(said, run([0, 3]), 2)
        look_at_times(said, run, in_succession(in_order(stepwise(subject.noun.timesteps(run.model.schedule, steps, options)))))

    return _each(subject, list(choices_of(subject.noun.options)), sample)


def check_trainer_choices(subject: Subject) -> str:
    """With every other choice of an option it is built, and steps up to the student's first update leave finite numbers. Raises
    NotConforming."""

    def train(choice: Choice, said: str) -> None:
        name, value = choice
        loop = loop_of(subject, f"choice-{name}-{value}".replace("/", "-"), more={name: value})
        try:
            for fraction in FRACTIONS:
                loop.counted_step(fraction)
                if loop.state.updates:
                    break
        finally:
            loop.feed.close()
        if not torch.isfinite(numbers(loop)).all():
            raise NotConforming(f"{said} an update leaves weights that are NaN or infinite.", "Look for a root at 0.", subject.seen["step"])

    return _each(subject, list(choices_of(subject.noun.options)), train)


def _each(subject: Subject, choices: list[Choice], attempt: Callable[[Choice, str], None]) -> str:
    """Try every choice; say how many were well and which ask for another option beside them. Raises NotConforming, with the choice."""
    refused = []
    for name, value in choices:
        said = f"{subject.who} with {name}={value}:"
        try:
            attempt((name, value), said)
        except NotConforming:
            raise
        except (BrokenTrainer, TrainingDiverged, PluginFailed) as error:
            cause = cause_of(error)
            raise NotConforming(
                f"{said} {type(cause).__name__}: {one_line(cause)[:200]}",
                error.cure if isinstance(error, BrokenTrainer) else "Mend that line, or refuse the value in __post_init__.",
                subject.code.place_of_error(cause) or subject.seen.get("step"),
            ) from None
        except ScottbenchError:  # a clear refusal: this value needs another option beside it
            refused.append(f"{name}={value}")
    if not choices:
        return "no option lists its values"
    alone = f"; refused by themselves: {', '.join(refused)}" if refused else ""
    return f"{counts_in_words([len(choices)])} other choices of options tried once{alone}"


METHOD_CHOICES = Check("other choices", check_method_choices, full=True)
TRAINER_CHOICES = Check("other choices", check_trainer_choices, full=True)
"""The checks of this file, after all others of their nouns."""
