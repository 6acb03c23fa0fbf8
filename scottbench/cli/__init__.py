"""The command line: one short file per verb. Nothing heavy is imported until a verb runs."""

from __future__ import annotations

import contextvars
import errno
import functools
import gc
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import click

from scottbench import __version__
from scottbench.cli import crash, streams
from scottbench.cli.adopt import adopt
from scottbench.cli.broken import of_the_system
from scottbench.cli.claims import claims
from scottbench.cli.compare import compare
from scottbench.cli.completing import complete
from scottbench.cli.completion import completion
from scottbench.cli.config import config
from scottbench.cli.doctor import doctor
from scottbench.cli.export import export
from scottbench.cli.fetch import fetch
from scottbench.cli.flags import adding, choosing, leaving_out, recorded
from scottbench.cli.leaderboard import leaderboard
from scottbench.cli.list import list_nouns
from scottbench.cli.merge import merge
from scottbench.cli.plugin import plugin
from scottbench.cli.printing import Interrupted, MakeRoom, Terminated, fail, stopped
from scottbench.cli.report import report
from scottbench.cli.run import plan, resume, run
from scottbench.cli.runs import runs
from scottbench.cli.sample import sample
from scottbench.cli.score import score
from scottbench.cli.show import show
from scottbench.cli.streams import CannotPrint
from scottbench.cli.train import train
from scottbench.cli.verify import verify
from scottbench.errors import ScottbenchError, ScottbenchWarning, UsageError
from scottbench.text import did_you_mean, one_line

QUICK_START = f"""\
scottbench {__version__}: few-step text-to-image samplers, measured and compared.

  scottbench sample "a red apple"       pictures of your own prompt, on one sheet
  scottbench run -n 256                 the embedded benchmark on 256 prompts, with an HTML report; without -n on all
  scottbench run -m NAME,NAME -s 1,2,4  your choice of methods and of sampling steps
  scottbench plan                       what a run would do and cost; scottbench resume RUN goes on with one
  scottbench list methods               likewise: metrics models datasets trainers presets claims plugins
  scottbench show method NAME           its options, defaults, paper and file
  scottbench train NAME                 distil a student of your own; scottbench adopt FILE takes a published one
  scottbench compare RUN A B            is NAME@2 better than NAME@4? scottbench claims RUN: what papers say, held against a run

Every verb explains itself: scottbench run --help. Does it work here? scottbench doctor
"""


class ReaderGone(Exception):
    """Nobody reads our stdout any more (`scottbench list methods | head -1`)."""


class Verbs(click.Group):
    """A group that suggests a verb where there is none of the name given."""

    def invoke(self, ctx: click.Context) -> None:
        """Run the verb. Raises ReaderGone where nobody reads its output any more."""
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except (BrokenPipeError, CannotPrint) as error:  # caught here because click would make the first exit code 1
            if isinstance(error, CannotPrint) and error.error.errno != errno.EPIPE:
                raise
            raise ReaderGone from None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb. Raises UsageError with the one that was probably meant."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            suggestion = did_you_mean(args[0], self.commands)
            raise UsageError(f"unknown command '{one_line(args[0])}'.{suggestion} Commands: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="scottbench", message="%(prog)s %(version)s")
@click.pass_context
def scottbench(context: click.Context) -> None:
    """Measure and compare few-step text-to-image samplers."""
    if context.invoked_subcommand is None:
        click.echo(QUICK_START, nl=False)


VERBS = (
    run, sample, plan, resume, merge, score, verify, runs, compare, claims, report, leaderboard, export, train, adopt, fetch, list_nouns,
    show, config, plugin, doctor, completion,
)  # fmt: skip
for verb in VERBS:
    scottbench.add_command(verb if verb in (report, leaderboard, export, runs, completion) else choosing(verb))
scottbench.params += [adding(), leaving_out()]
complete(scottbench)


def told_once(with_place: Callable[..., str]) -> Callable[..., str]:
    """Return how warnings are printed: ours in a line, each text once however many cells it is true of; others by `with_place`."""
    told: set[str] = set()

    def line(message: Warning | str, category: type[Warning], *place: Any) -> str:
        if not issubclass(category, ScottbenchWarning):
            return with_place(message, category, *place)
        text = one_line(message)
        new = text not in told
        told.add(text)
        return f"warning: {text}\n" if new else ""

    return line


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _make_room(number: int, frame: FrameType | None) -> None:
    # schedulers send SIGTERM right after it, or the same twice: neither may cut what is being put away now; SIGKILL ends it anyway
    for each in (number, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise MakeRoom


def _heed_signals() -> None:
    """Turn SIGTERM, and SIGUSR1 where the system has it, into exceptions; also where whoever started us ignores them, as the job that
    starts torchrun does so that it outlives SIGUSR1."""
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, _make_room)


def _count_interrupts() -> None:
    """Tell a Ctrl-C from a KeyboardInterrupt that a plug-in raises, unless whoever started us had Ctrl-C ignored."""
    from scottbench.registry import guard

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, guard.interrupt)
        guard.INTERRUPTS.counted = True


def main(arguments: list[str] | None = None) -> None:
    """Run the command line of this process and exit with its code."""
    streams.prepare()
    _heed_signals()
    _count_interrupts()
    gc.freeze()  # this process is ours: scottbench.models.importing keeps the libraries out of the collector's way
    warnings.formatwarning = told_once(warnings.formatwarning)
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: list[str]) -> int:
    """Run one command line and return its exit code (see scottbench.errors.EXIT_CODES).

    The one place where an exception becomes a message: none leaves it but SystemExit, by which workers end without a word.
    """
    try:
        command = shlex.join(["scottbench", *recorded(arguments)])
        # in a context of its own: plug-ins that it leaves out are there again in the next call
        run_it = functools.partial(scottbench.main, arguments, prog_name="scottbench", standalone_mode=False, obj=command)
        code: object = contextvars.copy_context().run(run_it)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SystemExit:
        raise
    except BaseException as error:
        return _ended_by(error, arguments)


def _ended_by(error: BaseException, arguments: list[str]) -> int:
    """Tell why a command line ended before its end; give back its exit code."""
    if isinstance(error, ScottbenchError):
        return fail(str(error), error.exit_code)
    if isinstance(error, click.ClickException):
        return fail(error.format_message(), 2)
    if isinstance(error, (Interrupted, KeyboardInterrupt, click.Abort)):
        return fail(stopped("interrupted", error), 130)
    if isinstance(error, MakeRoom):
        return fail(stopped("asked to make room", error), 138)
    if isinstance(error, Terminated):
        return fail(stopped("terminated", error), 143)
    if isinstance(error, (ReaderGone, BrokenPipeError)):
        streams.give_up()
        return 0
    known = of_the_system(error, arguments)
    if known is not None:
        streams.give_up() if isinstance(error, CannotPrint) else None
        return fail(*known)
    return fail(crash.report(error, arguments), crash.CODE)
