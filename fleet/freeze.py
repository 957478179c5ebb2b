"""Days on which nothing is started: from the plan, a calendar, or a command. Unreadable counts as frozen.

Of a calendar (iCalendar, RFC 5545) every event's days are frozen. Recurring events are not worked out: a
calendar that has one cannot be read, which freezes, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from fleet.commands import execute, usual
from fleet.core.settings import Freeze
from fleet.core.windows import Frozen

READ_AGAIN_S = 600.0
"""A freeze that is declared during a run is seen within so long."""

TIMEOUT_S = 30.0
MAX_BYTES = 4 << 20

_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:/(\d{4}-\d{2}-\d{2}))?")


class UnreadableError(Exception):
    """A calendar cannot be read, so nobody knows whether today is frozen."""


async def read(
    freezes: tuple[Freeze, ...], folder: str, environ: dict[str, str]
) -> tuple[list[Frozen], str | None]:
    """Return the frozen days, and why some of them are not known, or None.

    Args:
        freezes: Of the plan.
        folder: The plan's, which commands run in.
        environ: Our environment.
    """
    found: list[Frozen] = []
    wrong: list[str] = []
    for freeze in freezes:
        try:
            if freeze.dates is not None:
                first, last = (date.fromisoformat(each) for each in freeze.dates)
                words = f"{first}" if first == last else f"{first}/{last}"
                found.append(Frozen(first, last, freeze.timezone, words))
            elif freeze.command is not None:
                found += await _from_command(freeze, folder, environ)
            elif freeze.ical is not None:
                found += events(await _fetch(freeze.ical), freeze.timezone)
        except UnreadableError as error:
            wrong.append(str(error))
    return found, "; ".join(wrong) or None


async def _from_command(freeze: Freeze, folder: str, environ: dict[str, str]) -> list[Frozen]:
    argv = freeze.command or ()
    ran = await execute(argv, folder=folder, environment=usual(environ), stdin=b"", timeout_s=TIMEOUT_S)
    if ran.why is not None:
        raise UnreadableError(ran.why)
    found = []
    for number, line in enumerate(ran.output.decode(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        match = _DATE.fullmatch(line.strip())
        try:
            first = date.fromisoformat(match[1] if match else "")
            last = date.fromisoformat(match[2]) if match and match[2] else first
        except ValueError:
            raise UnreadableError(
                f"line {number} of what {argv[0]} prints is no date: {line.strip()[:40]!r}"
            ) from None
        found.append(Frozen(first, last, freeze.timezone, line.strip()))
    return found


async def _fetch(where: str) -> str:
    if not re.match(r"https?://", where):
        try:
            return Path(where).read_text(errors="replace")  # noqa: ASYNC240 - a small local file, once in 10 min
        except OSError as error:
            raise UnreadableError(f"calendar {where}: {error.strerror or error}") from None
    import aiohttp  # noqa: PLC0415 - only for calendars behind a URL

    shown = where.split("?", 1)[0].rsplit("@", maxsplit=1)[-1]  # a calendar's secret address stays secret
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(where) as answer,
        ):
            if answer.status != 200:
                raise UnreadableError(f"calendar {shown}: status {answer.status}")
            body = b""
            while len(body) <= MAX_BYTES and (chunk := await answer.content.read(65536)):
                body += chunk
    except TimeoutError:
        raise UnreadableError(f"calendar {shown}: no answer within {TIMEOUT_S:.0f} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UnreadableError(f"calendar {shown}: {type(error).__name__}") from None
    if len(body) > MAX_BYTES:
        raise UnreadableError(f"calendar {shown}: more than {MAX_BYTES >> 20} MiB")
    return body.decode(errors="replace")


def events(text: str, zone: str) -> list[Frozen]:
    """Return the days of a calendar's events.

    Args:
        text: iCalendar.
        zone: In which days are meant that have no time zone of their own.

    Raises:
        UnreadableError: It is no calendar, or one that is not understood as a whole.
    """
    lines = re.sub(r"\r?\n[ \t]", "", text).splitlines()
    if (
        not lines
        or lines[0].strip().upper() != "BEGIN:VCALENDAR"
        or "END:VCALENDAR" not in (each.strip().upper() for each in lines)
    ):
        raise UnreadableError("the calendar is no iCalendar file, or not a whole one")
    return [_event(event, zone) for event in _blocks(lines)]


def _blocks(lines: list[str]) -> Iterator[dict[str, str]]:
    event: dict[str, str] | None = None
    depth = 0
    for line in lines:
        name = line.partition(":")[0]
        if line.strip().upper() == "BEGIN:VEVENT":
            event, depth = {}, 0
        elif line.strip().upper() == "END:VEVENT" and event is not None:
            yield event
            event = None
        elif event is not None:
            depth += (name.upper() == "BEGIN") - (name.upper() == "END")  # an alarm has fields of its own
            if depth == 0:
                event.setdefault(name.split(";")[0].upper(), line)


def _event(event: dict[str, str], zone: str) -> Frozen:
    said = event.get("SUMMARY", "SUMMARY:an event").partition(":")[2][:60] or "an event"
    if any(name in event for name in ("RRULE", "RDATE", "RECURRENCE-ID")):
        raise UnreadableError(
            f"the calendar's event {said!r} recurs, which is not worked out: list its dates"
        )
    if "DTSTART" not in event or ("DURATION" in event and "DTEND" not in event):
        raise UnreadableError(
            f"the calendar's event {said!r} does not say when it is: DTSTART and DTEND are read"
        )
    first = _moment(event["DTSTART"], zone)
    if "DTEND" not in event:
        return Frozen(_day(first, zone), _day(first, zone), zone, said)
    last = _moment(event["DTEND"], zone)
    # The end is not included: of a day the day before, of a moment the one right before it.
    end = last - timedelta(days=1) if not isinstance(last, datetime) else last - timedelta(seconds=1)
    return Frozen(_day(first, zone), max(_day(end, zone), _day(first, zone)), zone, said)


def _day(moment: date | datetime, zone: str) -> date:
    return moment.astimezone(ZoneInfo(zone)).date() if isinstance(moment, datetime) else moment


def _moment(line: str, zone: str) -> date | datetime:
    value = line.partition(":")[2]
    named = re.search(r"TZID=\"?([^;:\"]+)", line.partition(":")[0])
    value = value.strip()
    try:
        if re.fullmatch(r"\d{8}", value):
            return datetime.strptime(value, "%Y%m%d").replace(tzinfo=UTC).date()
        found = datetime.strptime(value.rstrip("Z"), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        if value.endswith("Z"):
            return found
        return found.replace(tzinfo=ZoneInfo(named[1] if named else zone))
    except (ValueError, KeyError, OSError):
        raise UnreadableError(f"the calendar has a time that is not understood: {line[:60]!r}") from None
