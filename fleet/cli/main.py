"""The command group, its error messages and its exit codes. Commands are imported when they are called."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fleet import __version__
from fleet.errors import Exit, FleetError, NotSent

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS = {
    # name: module, attribute, and its line in the help, so that --help imports nothing
    "demo": ("fleet.cli.simulator", "demo", "Reinstall a simulated fleet: see it work, in a minute."),
    "validate": ("fleet.cli.plans", "validate", "Check a plan, offline."),
    "preview": ("fleet.cli.plans", "preview", "Show what a plan would do to which servers. Changes nothing."),
    "rehearse": ("fleet.cli.rehearse", "rehearse", "Run a plan on virtual time against a copy of the fleet."),
    "run": ("fleet.cli.run", "run", "Reinstall the servers of a plan, or go on with its unfinished run."),
    "resume": ("fleet.cli.run", "resume", "Go on with a run."),
    "status": ("fleet.cli.status", "status", "Show where every server of a run stands."),
    "runs": ("fleet.cli.status", "runs", "List runs."),
    "report": ("fleet.cli.report", "report", "Write a page, or a table, of what happened to every server."),
    "watch": ("fleet.cli.watch", "watch", "Show a run in the browser, live, and steer it from there."),
    "check": ("fleet.cli.check", "check", "Judge a run by its journal: was a promise broken?"),
    "metrics": ("fleet.cli.metrics", "metrics", "Print Prometheus metrics of every plan's newest run."),
    "notify": ("fleet.cli.notify", "notify", "Send a test message to everybody whom a plan notifies."),
    "hold": ("fleet.cli.steer", "hold", "Start nothing more, also of a running run."),
    "release": ("fleet.cli.steer", "release", "Let a held run go on."),
    "drain": ("fleet.cli.steer", "drain", "End a running run gently."),
    "approve": ("fleet.cli.steer", "approve", "Let the waves begin that wait for a person."),
    "retry": ("fleet.cli.steer", "retry", "Give failed servers of a run another try."),
    "skip": ("fleet.cli.steer", "skip", "Take servers out of a run."),
    "settle": ("fleet.cli.settle", "settle", "Undo what a run's hooks have done; nothing else."),
    "abandon": ("fleet.cli.abandon", "abandon", "Give up servers that a dead run has left half done."),
    "unclaim": ("fleet.cli.unclaim", "unclaim", "Show who has claimed servers; take a dead run's off."),
    "doctor": ("fleet.cli.doctor", "doctor", "Say what works and what to mend. Changes nothing."),
    "schema": ("fleet.cli.plans", "schema", "Print the JSON Schema of plans, for editors."),
    "completion": ("fleet.cli.completion", "completion", "Print a completion script for a shell."),
    "simulator": ("fleet.cli.simulator", "simulator", "Serve the built-in cloud over HTTP, on loopback."),
}

_ELSEWHERE = {
    "plan": "preview",
    "apply": "run",
    "start": "run",
    "check-plan": "validate",
    "list": "runs",
    "ls": "runs",
    "history": "runs",
}
"""What fingers type that know other tools."""

EXIT_CODES = "\n".join(("\b", "Exit codes:", *(f"  {code:<3} {code.meaning}" for code in Exit)))
"""The end of the help."""


class LazyGroup(click.Group):
    """Loads a command when it is called, and no sooner."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which one needs them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry[0]), entry[1])
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer commands without importing them, and our own options."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only where a shell asks

        named = [
            CompletionItem(name, help=entry[2])
            for name, entry in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        width = max(len(name) for name in _COMMANDS)
        with formatter.section("Commands"):
            formatter.write_dl([(name.ljust(width), entry[2]) for name, entry in _COMMANDS.items()])
        del ctx

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest our word for a word of another tool."""
        if args and args[0] in _ELSEWHERE:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {_ELSEWHERE[args[0]]!r}?")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "FLEET",
        "max_content_width": 100,
    },
    epilog=EXIT_CODES,
)
@click.version_option(__version__, "-V", "--version", prog_name="fleet")
def cli() -> None:
    """Reinstall the operating systems of a fleet of cloud servers, in waves, from a plan.

    A reinstall wipes the server's system disk. `fleet preview PLAN` shows whom it would hit.

    \b
    Example:
      fleet validate plans/web-tier.yaml
      fleet preview plans/web-tier.yaml
      fleet run plans/web-tier.yaml
    """  # noqa: D301 - click's mark for "do not rewrap"


def run_command_line(args: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Every error ends here, as words."""
    open_missing_streams()
    try:
        return _run(args)
    finally:
        let_go_of_streams()


def open_missing_streams() -> None:
    """Open those of the three standard streams that we were started without (``2>&-``, some daemons).

    Else the journal would become descriptor 2, and whatever is printed would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.dup(number), "r" if number == 0 else "w"))


def let_go_of_streams() -> None:
    """Flush what was printed; where nobody takes it, drop it. Python would make it exit code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(args: Sequence[str] | None) -> int:
    try:
        code = cli.main(args=args, standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except FleetError as error:
        show_error(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):  # before or after a run's life, which minds signals itself
        _say("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, which is their right
        return Exit.OK
    except SystemExit as error:  # click's own way to say the same
        return Exit.OK if isinstance(error.__context__, BrokenPipeError) else int(error.code or 0)
    except Exception as error:  # noqa: BLE001 - the last resort: say that it is ours
        show_defect(error)
        return Exit.DEFECT
    return code if isinstance(code, int) else Exit.OK


def show_error(error: FleetError) -> None:
    """Print an error for people, on standard error, without secrets."""
    from fleet.secrets import redact  # noqa: PLC0415 - only on the way out

    _say(f"error: {redact(error.message)}")
    hint = error.hint
    if hint is None and isinstance(error, NotSent):
        hint = "check the address of the cloud, the network and the proxy settings"
    if hint:
        _say(f"hint: {redact(hint)}")


def show_defect(error: BaseException) -> None:
    """Print a traceback without locals and without secrets, and whose fault it is."""
    from fleet.secrets import redact  # noqa: PLC0415 - only on the way out

    lines = "".join(traceback.format_exception(error))
    _say(redact(lines))
    _say("error: this is a defect of fleet; the journal is intact, `fleet status` reads it")


def _say(text: str) -> None:
    """Print to standard error, if anybody is there."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, err=True)
