"""``completion``: the script that has a shell complete commands, options and run ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from fleet.cli.common import print_lines
from fleet.errors import Exit


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print a completion script. Runs and servers come from the state folder; the cloud is not asked.

    `fleet retry RUN` is offered those that failed, `skip` those that wait or failed, `settle` those that are
    owed something, `abandon` those in flight, and `--limit` those of the plan's newest run.

    \b
    Example:
      fleet completion bash > ~/.local/share/bash-completion/completions/fleet
      source <(fleet completion zsh)
      fleet completion fish > ~/.config/fish/completions/fleet.fish
    """  # noqa: D301 - click's mark for "do not rewrap"
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has checked the name
    print_lines([kind(ctx.find_root().command, {}, "fleet", "_FLEET_COMPLETE").source()])
    return Exit.OK
