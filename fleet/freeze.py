"""Days on which nothing is started: from the plan, a calendar, or a command. Unreadable counts as frozen."""

from __future__ import annotations

import re
from datetime import date, datetime
from pathlib import Path

from fleet.calendars import UnreadableError, events
from fleet.commands import execute, usual
from fleet.core.settings import Freeze
from fleet.core.windows import Frozen

READ_AGAIN_S = 600.0
"""A freeze that is declared during a run is seen within so long."""

TIMEOUT_S = 30.0
MAX_BYTES = 4 << 20

_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:/(\d{4}-\d{2}-\d{2}))?")


async def read(
    freezes: tuple[Freeze, ...], folder: str, environ: dict[str, str], now: datetime
) -> tuple[list[Frozen], str | None]:
    """Return the frozen days, and why some of them are not known, or None.

    Args:
        freezes: Of the plan.
        folder: The plan's, which commands run in.
        environ: Our environment.
        now: The time, aware: recurring events are worked out from here on.
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
                found += events(await _fetch(freeze.ical), freeze.timezone, now)
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
