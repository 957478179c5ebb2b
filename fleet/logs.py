"""Logs: one line for each event, with the event's own name, on stderr, with no secret in it.

Pretty on a terminal, JSON otherwise. A line that cannot be written is dropped: a closed terminal or a full
log disk must never stop a run half-way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TextIO

import msgspec

from fleet.core import events as ev
from fleet.core.state import Run
from fleet.logfile import LogFile
from fleet.secrets import redact


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Have a module that is not imported yet look as if it were not installed (None: see `sys.modules`)."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # that is how it is said
    try:
        yield
    finally:
        del sys.modules[module]


# Where it finds rich, structlog imports it to draw tracebacks; ours are plain, for the sake of their locals.
# It would be 4 MiB and 50 modules in every night's run under cron.
with _hidden("rich"):
    import structlog

get_logger = structlog.get_logger

_PASSING = frozenset({ev.ReinstallFailed, ev.ReinstallUnanswered, ev.ReinstallRefused, ev.JobVanished})
"""What is tried again, or looked into: it may still come right by itself, and else the server fails."""
_WARN = frozenset({ev.Failed, ev.RunHeld}) | _PASSING
_PASSING_NAMES = frozenset(kind.__name__ for kind in _PASSING)
_QUIET = frozenset({"settings", "members", "event", "data_disks"})
"""Fields that are in the journal and would only fill the screen."""
_NOTHING = (None, "", ())


class _Lenient:
    """A stream that nobody may be reading any more: standard error, as it is at each moment."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            (self._stream or sys.stderr).write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            (self._stream or sys.stderr).flush()


def _redact(_logger: object, _method: str, fields: structlog.types.EventDict) -> structlog.types.EventDict:
    """Replace every known secret, wherever it stands."""
    return {key: _cleaned(value) for key, value in fields.items()}


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    return [_cleaned(each) for each in value] if isinstance(value, list | tuple) else value


def _tame(_logger: object, _method: str, fields: structlog.types.EventDict) -> structlog.types.EventDict:
    """Take control characters out of foreign names and words, before a terminal obeys them. JSON escapes."""
    return {key: _printable(value) if isinstance(value, str) else value for key, value in fields.items()}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _redact_line(_logger: object, _method: str, line: object) -> str:
    """Replace secrets in what is written at last: the renderer puts the words of exceptions in by itself."""
    return redact(str(line))


def _json_lines() -> list[structlog.types.Processor]:
    """Return what makes a line of JSON, without secrets."""
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _json_line,
    ]


def _json_line(_logger: object, _method: str, fields: structlog.types.EventDict) -> str:
    """Replace every known secret: in each value before JSON escapes it, and deep in the whole."""
    said = {key: _cleaned(value) for key, value in fields.items()}
    return redact(msgspec.json.encode(said, enc_hook=str).decode())


def _pretty_lines(stream: TextIO) -> list[structlog.types.Processor]:
    """Return what makes a line for people, without secrets."""
    # Locals of a traceback are where passwords live.
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        _redact,
        _tame,
        structlog.dev.ConsoleRenderer(colors=_colours(stream), exception_formatter=plain),
        _redact_line,
    ]


def _lasting(_logger: object, _method: str, fields: structlog.types.EventDict) -> structlog.types.EventDict:
    """Let pass what does not come right by itself."""
    if fields["event"] in _PASSING_NAMES:
        raise structlog.DropEvent
    return fields


class _Also:
    """Writes each line into a file too, as JSON, and lets pass what the other reader wants to see."""

    def __init__(self, file: LogFile, level: int) -> None:
        self._file, self._level = file, level
        self._lines = _json_lines()

    def __call__(
        self, logger: object, method: str, fields: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        line: Any = dict(fields)
        for processor in self._lines:
            line = processor(logger, method, line)
        self._file.write(line)
        if logging.getLevelNamesMapping()[fields["level"].upper()] < self._level:
            raise structlog.DropEvent
        return fields


def configure(
    *,
    as_json: bool,
    level: int = logging.INFO,
    stream: TextIO | None = None,
    file: LogFile | None = None,
    passing: bool = True,
) -> None:
    """Set structlog up for this process.

    Args:
        as_json: One JSON object a line; else for people.
        level: Lines below it are left out.
        stream: Where to; standard error unless given.
        file: Gets every line too, whatever the level, as JSON.
        passing: Show warnings too about what may still come right by itself.
    """
    if file is not None:
        file.tell = lambda words: structlog.get_logger().warning("LogFile", what=words)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([_Also(file, level)] if file is not None else []),
            *([] if passing else [_lasting]),
            *(_json_lines() if as_json else _pretty_lines(stream or sys.stderr)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level if file is None else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=_Lenient(stream)),  # type: ignore[arg-type]  # writes and flushes, all that is used
        cache_logger_on_first_use=False,
    )


def _colours(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def event_logger(run: Run) -> Callable[[ev.Event, datetime], None]:
    """Return a listener that logs each event of *run*, in the journal's words."""
    logger = structlog.get_logger().bind(run=run.id)

    def log(event: ev.Event, at: datetime) -> None:
        del at  # the log has its own time, which is the same
        kind = type(event)
        fields: dict[str, Any] = {}
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
