"""``--log-file``: what was logged, kept in a file that may be rotated, from a command's begin to its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from fleet import __version__
from fleet.cli.common import say
from fleet.errors import Exit, FleetError
from fleet.logfile import LogFile, is_a_journal


def _opened(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> LogFile | None:
    if path is None:
        return None
    if str(path) == "-":
        raise click.BadParameter("the log is on standard error already")
    if is_a_journal(path):
        raise click.BadParameter(f"{path} is the journal of a run; a line of a log would damage it")
    return LogFile(path, lambda words: say(f"warning: {words}"))


log_file_option = click.option(
    "--log-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="FLEET_LOG_FILE",
    callback=_opened,
    help="Append the log there too: all of it, as JSON lines, whatever is shown. May be rotated.",
)


def not_the_log(file: LogFile | None, *others: Path | None) -> None:
    """Refuse a log file that is one of the files which a command reads or makes."""
    for other in others:
        if file is not None and other is not None and os.path.realpath(other) == os.path.realpath(file.path):
            raise click.UsageError(f"--log-file: {other} is not there for the log; give it a file of its own")


def logged(file: LogFile | None, command: str, work: Callable[[], int]) -> int:
    """Do a command's work; the log file's first and last lines of it say that it began, and how it ended."""
    if file is None:
        return work()
    file.note("CommandBegan", "info", command=command, fleet=__version__, pid=os.getpid())
    try:
        code = work()
    except FleetError as error:
        _ended(file, error.exit_code, error.message, error.hint)
        raise
    except click.ClickException as error:
        _ended(file, error.exit_code, error.format_message())
        raise
    except (KeyboardInterrupt, click.Abort):
        _ended(file, Exit.INTERRUPTED)
        raise
    except BaseException as error:
        _ended(file, Exit.DEFECT, f"{type(error).__name__}: {error}".removesuffix(": "))
        raise
    _ended(file, code)
    return code


def _ended(file: LogFile, code: int, error: str | None = None, hint: str | None = None) -> None:
    level = "info" if code == Exit.OK else "warning"
    meaning = next((each.meaning for each in Exit if each == code), None)
    file.note("CommandEnded", level, code=int(code), meaning=meaning, error=error, hint=hint, pid=os.getpid())
