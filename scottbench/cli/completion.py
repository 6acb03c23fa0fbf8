"""scottbench completion SHELL: the script by which a shell completes verbs, flags, names, kinds and runs."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the script by which bash, zsh or fish completes names and runs.")
@click.argument("shell")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a SHELL (bash, zsh, fish) completes verbs, flags, kinds, names and runs.

    \b
    eval "$(scottbench completion bash)"    in ~/.bashrc
    eval "$(scottbench completion zsh)"     in ~/.zshrc
    scottbench completion fish > ~/.config/fish/completions/scottbench.fish
    \f
    Raises UsageError for another shell.
    """
    from click.shell_completion import get_completion_class

    from scottbench.cli.printing import check_word

    check_word("completion", shell, SHELLS)
    found = get_completion_class(shell)
    assert found is not None, shell
    click.echo(found(context.find_root().command, {}, "scottbench", "_SCOTTBENCH_COMPLETE").source())
