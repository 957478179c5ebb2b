"""What commands share: the output option, arguments, and data on standard output."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from fleet.cli.completing import complete_limit, complete_run
from fleet.errors import FleetError
from fleet.runs import JOURNAL, state_folder

F = TypeVar("F", bound=Callable[..., Any])


def now() -> datetime:
    """Return the time of day, UTC."""
    return datetime.now(UTC)


def output_option(function: F) -> F:
    """Add ``-o text|json``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        help="Text for people, JSON for pipes.",
    )(function)


def plan_argument(function: F) -> F:
    """Add the plan's path."""
    return click.argument("plan", type=click.Path(path_type=Path))(function)


def selection_options(function: F) -> F:
    """Add the options that narrow a plan's servers."""
    for option in (
        click.option(
            "--skip-unfit",
            is_flag=True,
            help="Skip servers that the cloud would refuse, instead of stopping.",
        ),
        click.option(
            "-l",
            "--limit",
            multiple=True,
            metavar="NAME",
            shell_complete=complete_limit,
            help="Only these servers: names, globs, ids; !NAME takes away. Can be given several times.",
        ),
    ):
        function = option(function)
    return function


def run_argument(*, required: bool = False) -> Callable[[F], F]:
    """Add the run: an id, a unique prefix, a plan's name, a journal's path, or nothing for the newest."""
    return click.argument("run", required=required, shell_complete=complete_run)


def name_of(journal: Path, run_id: str) -> str:
    """Return what RUN has to be for `fleet.runs.find` to come upon *journal*."""
    return run_id if journal.absolute() == state_folder() / run_id / JOURNAL else str(journal.absolute())


def print_json(value: object) -> None:
    """Print data for a pipe."""
    _print(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def print_lines(lines: Iterable[str]) -> None:
    """Print lines for people."""
    for line in lines:
        _print(clean(line))


def _print(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError:  # `| head` has seen enough: see `run_command_line`
        raise
    except OSError as error:
        raise FleetError(f"cannot write to standard output: {error.strerror or error}") from error


def clean(text: str) -> str:
    """Return *text* without secrets and without the control characters of foreign names."""
    from fleet.secrets import redact  # noqa: PLC0415 - only where something is printed

    if not text.replace("\n", "").isprintable():  # the quick look spares a large page the slow one
        text = "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
    return redact(text)


def say(text: str) -> None:
    """Talk to the person, on standard error. Nobody there to hear it is no reason to stop."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(clean(text), err=True)


def me() -> str:
    """Return who types, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def is_terminal() -> bool:
    """Tell whether a live display makes sense: standard error is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
