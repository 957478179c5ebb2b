"""Logs: one line for each event, with the event's own name, on stderr, with no secret in it.

Pretty on a terminal, JSON otherwise. A line that cannot be written is dropped: a closed terminal or a full
log disk must never stop a run half-way.

Lines of JSON are made here. structlog makes those for people, and is imported for them alone: it brings rich
with it, three megabytes that a run under cron would carry through the night.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from fleet.core import events as ev
from fleet.core.state import Run
from fleet.logfile import LogFile
from fleet.secrets import redact

_WARN = frozenset(
    {
        ev.Failed,
        ev.RunHeld,
        ev.ReinstallFailed,
        ev.ReinstallUnanswered,
        ev.ReinstallRefused,
        ev.JobVanished,
    }
)
_QUIET = frozenset({"settings", "members", "event", "data_disks"})
"""Fields that are in the journal and would only fill the screen."""
_NOTHING = (None, "", ())

Fields = dict[str, Any]
Render = Callable[[str, Fields], str]
"""Makes a line, without secrets and without its line break, of a level's name and of what is said."""


class Logger:
    """Writes lines that have some fields in common."""

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def info(self, event: str, **fields: object) -> None:
        """Write a line about what goes as it should."""
        _write("info", logging.INFO, event, {**self._fields, **fields})

    def warning(self, event: str, **fields: object) -> None:
        """Write a line that somebody should read."""
        _write("warning", logging.WARNING, event, {**self._fields, **fields})

    def exception(self, event: str, **fields: object) -> None:
        """Write a line about the exception that is being handled, with its traceback and without locals."""
        _write("error", logging.ERROR, event, {**self._fields, **fields, "exc_info": sys.exc_info()})


@dataclass(frozen=True, slots=True)
class _Reader:
    """Somebody to whom lines go, from a level on."""

    level: int
    render: Render
    write: Callable[[str], None]


def _write(name: str, level: int, event: str, fields: Fields) -> None:
    fields["event"] = event
    for reader in _readers:
        if level >= reader.level:
            reader.write(reader.render(name, fields))


def configure(
    *, as_json: bool, level: int = logging.INFO, stream: TextIO | None = None, file: LogFile | None = None
) -> None:
    """Say where the lines of this process go.

    Args:
        as_json: One JSON object a line; else for people.
        level: Lines below it are left out.
        stream: Where to; standard error, as it is at each moment, unless given.
        file: Gets every line too, whatever the level, as JSON.
    """
    global _readers  # noqa: PLW0603 - a process has one log
    render = _json_line if as_json else _pretty_line(stream or sys.stderr)
    shown = _Reader(level, render, lambda line: _show(line, stream))
    _readers = (shown,)
    if file is not None:
        file.tell = lambda words: Logger().warning("LogFile", what=words)
        _readers = (_Reader(logging.INFO, _json_line, file.write), shown)


def _show(line: str, stream: TextIO | None) -> None:
    """Write a line, whether anybody reads it or not; in one piece, so that threads do not mix theirs."""
    with contextlib.suppress(OSError, ValueError):
        out = stream or sys.stderr
        out.write(line + "\n")
        out.flush()


# -- lines ----------------------------------------------------------------------------------------------


def _json_line(name: str, fields: Fields) -> str:
    said = {key: _cleaned(value) for key, value in fields.items() if key != "exc_info"}
    said["level"] = name
    said["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    if (raised := fields.get("exc_info")) is not None:
        said["exception"] = redact("".join(traceback.format_exception(*raised)).rstrip("\n"))
    # Again, as a whole: secrets also stand deep in what a field holds.
    return redact(msgspec.json.encode(said, enc_hook=str).decode())


def _pretty_line(stream: TextIO) -> Render:
    import structlog  # noqa: PLC0415 - see the top

    # Locals of a traceback are where passwords live.
    plain = structlog.dev.plain_traceback
    render = structlog.dev.ConsoleRenderer(colors=_colours(stream), exception_formatter=plain)

    def pretty(name: str, fields: Fields) -> str:
        said = {key: _tamed(_cleaned(value)) for key, value in fields.items()}
        said["level"] = name
        said["timestamp"] = datetime.now().astimezone().strftime("%H:%M:%S")
        # Again, as a whole: the renderer puts the words of exceptions in by itself.
        return redact(str(render(None, name, said)))

    return pretty


def _cleaned(value: object) -> object:
    """Replace every known secret."""
    if isinstance(value, str):
        return redact(value)
    return [_cleaned(each) for each in value] if isinstance(value, list | tuple) else value


def _tamed(value: object) -> object:
    """Take control characters out of foreign names and words, before a terminal obeys them. JSON escapes."""
    if isinstance(value, str):
        return "".join(char if char.isprintable() else "?" for char in value)
    return value


def _colours(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


_readers: tuple[_Reader, ...] = ()
configure(as_json=True)


# -- events ---------------------------------------------------------------------------------------------


def event_logger(run: Run) -> Callable[[ev.Event, datetime], None]:
    """Return a listener that logs each event of *run*, in the journal's words."""
    logger = Logger(run=run.id)

    def log(event: ev.Event, at: datetime) -> None:
        del at  # the log has its own time, which is the same
        kind = type(event)
        fields: Fields = {}
        for key in kind.__struct_fields__:
            value = getattr(event, key)
            if key not in _QUIET and value is not False and value not in _NOTHING:
                fields[key] = value
        if (server_id := fields.get("server")) is not None:
            server = run.servers[server_id]
            fields["server"] = server.label
            fields["target"], fields["wave"] = server.member.target, server.member.wave
        (logger.warning if kind in _WARN else logger.info)(kind.__name__, **fields)

    return log
