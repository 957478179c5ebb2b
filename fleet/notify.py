"""Notifications: getting a message to a webhook or a command, and knowing who was told what.

Sending never holds a run up: every destination has a task of its own that tries, with growing pauses, while
the run goes on, and a short time after its end. A message counts as told when the other side said so, which
is written down then; a process that dies in between sends it once more. So it is *at least once*.

The URL of a webhook is a secret. It is fetched when it is needed, registered for redaction, and named in
messages by the place where it is to be had.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fleet.commands import execute, usual
from fleet.core.settings import Notify
from fleet.errors import FleetError
from fleet.secrets import redact, register, resolve
from fleet.told import Failure, Told

REQUEST_S = 10.0
"""For one request: Slack answers within one second as a rule, a workflow of Teams within three."""

COMMAND_S = 60.0
TRY_AGAIN = 75
"""What a command ends with that is to be called again later (EX_TEMPFAIL)."""

_MAX_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Pauses:
    """How patiently is tried.

    Attributes:
        first_s, longest_s: Pauses double from the first to the longest; each is drawn from its upper half.
        in_all_s: Then it is given up, until there is something new to tell.
        linger_s: So long is tried at the end of a process.
        asked_s: The longest pause that the other side may ask for (``Retry-After``).
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    in_all_s: float = 900.0
    linger_s: float = 20.0
    asked_s: float = 300.0

    def after(self, attempt: int, rng: random.Random) -> float:
        """Return the pause after so many attempts."""
        return min(self.longest_s, self.first_s * 2.0 ** min(attempt, 30)) * rng.uniform(0.5, 1.0)


PAUSES = Pauses()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt.

    Attributes:
        why: Why it was not delivered, in words; None: it was.
        again: It may be delivered later.
        after_s: How long the other side wants to be left alone.
    """

    why: str | None = None
    again: bool = False
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Message:
    """Something to deliver.

    Attributes:
        keys: What it is about.
        event, title: For logs, and for the record of what was not delivered.
        data: What commands get; its text values become ``FLEET_*`` variables as well.
        body: What a webhook gets.
    """

    keys: frozenset[str]
    event: str
    title: str
    data: Mapping[str, Any]
    body: Mapping[str, Any]


async def send(notify: Notify, message: Message, folder: str) -> Answer:
    """Try once to deliver *message*."""
    if notify.command is not None:
        return await _call(notify, notify.command, message, folder)
    try:
        url = await asyncio.to_thread(resolve, notify.webhook, folder=folder, timeout_s=REQUEST_S)  # type: ignore[arg-type]  # the one or the other is given
    except FleetError as error:
        return Answer(error.message)
    if (path := _secret_part(url)) is None:
        return Answer(f"what {notify.webhook} holds is no URL of http or https")
    register(path)  # an answer may repeat it without the host
    return await _post(url, redact(msgspec.json.encode(message.body).decode()).encode())


def _secret_part(url: str) -> str | None:
    """Return what stands behind the host; None: it is no URL that we can use."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:
        return None
    if not usable or not url.isprintable() or " " in url:
        return None
    return url.partition("://")[2].partition("/")[2]


async def _post(url: str, body: bytes) -> Answer:
    import aiohttp  # noqa: PLC0415 - only for those who have a webhook

    timeout = aiohttp.ClientTimeout(total=REQUEST_S)
    headers = {"Content-Type": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
            if 200 <= status < 300:
                return Answer()
            said = (await answer.content.read(_MAX_BYTES)).decode(errors="replace")
            after_s = _seconds(answer.headers.get("Retry-After", ""))
    except TimeoutError:
        return Answer(f"no answer within {REQUEST_S:g} s", again=True)
    except (aiohttp.ClientError, OSError) as error:
        # Not its words: they may have the URL in them.
        return Answer(f"no connection ({type(error).__name__})", again=not isinstance(error, ValueError))
    except ValueError:
        return Answer("the URL cannot be used")
    line = redact(" ".join(said.split()))[:100]
    why = f"HTTP {status}{f': {line}' if line else ''}"
    return Answer(why, again=status in {408, 425, 429} or status >= 500, after_s=after_s)


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0.0


async def _call(notify: Notify, argv: tuple[str, ...], message: Message, folder: str) -> Answer:
    facts = {
        f"FLEET_{name.upper()}": redact(value)
        for name, value in message.data.items()
        if isinstance(value, str) and "\0" not in value
    }
    ran = await execute(
        argv,
        folder=folder,
        environment=usual(os.environ, notify.env) | facts,
        stdin=redact(msgspec.json.encode(message.data).decode()).encode(),
        timeout_s=COMMAND_S,
    )
    return Answer(ran.why, again=ran.code == TRY_AGAIN)


# -- a destination ----------------------------------------------------------------------------------------


class Courier:
    """Brings everything that is due to one destination, in order, while the run goes on.

    Args:
        notify: Where to.
        due: Returns what is due, less what has these keys.
        told: Where it is written down.
        folder: The plan's folder, which commands run in.
        log: Is told what came of a message: destination, message, and why not, or None.
        pauses: How patiently is tried.
    """

    def __init__(
        self,
        notify: Notify,
        *,
        due: Callable[[set[str]], list[Message]],
        told: Told,
        folder: str,
        log: Callable[[str, Message, str | None], None],
        pauses: Pauses = PAUSES,
    ) -> None:
        self.to = str(notify)
        self._notify = notify
        self._due = due
        self._told = told
        self._folder = folder
        self._log = log
        self._pauses = pauses
        self._rng = random.Random()
        self._wake = asyncio.Event()
        self._ends = asyncio.Event()
        self._given_up: set[str] = set()
        self._why = "there was no time left"
        self._task = asyncio.create_task(self._work(), name=f"notify {self.to}")

    def look(self) -> None:
        """Have it look whether anything is due."""
        self._wake.set()

    async def close(self) -> None:
        """Try a little longer to deliver what is due; note what could not be."""
        self._given_up.clear()
        self._ends.set()
        self._wake.set()
        await asyncio.wait({self._task}, timeout=self._pauses.linger_s)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
            for message in self._pending():
                self._give_up(message)
        elif (error := self._task.exception()) is not None:  # a run must not end badly for it
            lost = Message(frozenset(), "everything", "", {}, {})
            self._log(self.to, lost, f"a defect of fleet ({type(error).__name__}: {error})")

    def _pending(self) -> list[Message]:
        return [
            message
            for message in self._due(self._told.keys(self.to) | self._given_up)
            if message.event in self._notify.on
        ]

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending():
                await self._deliver()
            if self._ends.is_set() and not self._wake.is_set():
                return

    async def _deliver(self) -> None:
        """Deliver the first thing that is due, or give it up for now."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._pauses.in_all_s
        attempt, hurried = 0, False
        while pending := self._pending():  # anew each time: meanwhile more may have failed, or a hold be over
            message = pending[0]
            answer = await send(self._notify, message, self._folder)
            if answer.why is None:
                self._told.deliver(self.to, message.keys, datetime.now(UTC))
                self._given_up.clear()  # it can be reached again
                self._log(self.to, message, None)
                return
            self._why = answer.why
            pause = max(self._pauses.after(attempt, self._rng), min(answer.after_s, self._pauses.asked_s))
            attempt += 1
            if not answer.again or loop.time() + pause > until:
                self._give_up(message)
                return
            if hurried:
                await asyncio.sleep(pause)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ends.wait()
                hurried, attempt = True, 0  # the run has ended: once more at once, then from the beginning

    def _give_up(self, message: Message) -> None:
        self._given_up |= message.keys
        failure = Failure(
            to=self.to,
            event=message.event,
            title=redact(message.title),
            why=redact(self._why),
            at=datetime.now(UTC),
        )
        self._told.fail(message.keys, failure)
        self._log(self.to, message, self._why)
