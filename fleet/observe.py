"""Looking at the cloud: one observer for everybody in flight.

Steps say what they wait for; the observer reads the servers in as few calls as the cloud allows and wakes
whoever's condition holds. When it reads `fleet.rhythm` says: rarely before anybody can be done, sooner when
somebody only waits to be confirmed. What is asked is decided when the cloud has a turn for a poll, so that
whoever began to wait meanwhile is read along.
Whoever is about to be started is read along, so that a first look costs neither a call nor time.

Time in which the cloud cannot be read is not watched time: `watched` stands still, so an outage of the API
makes a run late and fails no server. An outage that does not end ends the run instead (`blind_limit_s`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from fleet.clock import cancel_all
from fleet.cloud.api import Cloud, TakesTurns
from fleet.core.model import Job, JobId, Server, ServerId
from fleet.errors import CloudUnusable, NotFound, OutcomeUnknown, Rejected, Unavailable
from fleet.rhythm import MANY, SHORTEST_S, Rhythm, Waiting

T = TypeVar("T")

BLIND_LIMIT_S = 1800.0
"""Half an hour without one good answer: past what the clouds' own maintenance notices call short."""

GATHER_S = 0.05
"""How long a read that is wanted now waits for others to share it."""

MOMENT_S = 0.001
"""No wait is shorter: with less, no time would pass at all."""

GLANCE_S = 60.0
"""How long a glance waits before it asks for another read."""

RECENT_S = 2.0
"""How old a look may be where one that was made before the question will do. Where reads are rarer, since
calls are few, twice as old as they are apart, and never older than `OLDEST_S`."""

OLDEST_S = 30.0

FEW, AHEAD = 2, 5
"""Beside more than a few, one in five as many are read who are about to be started."""


@dataclass(slots=True, eq=False)
class _Wait:
    wanted: Callable[[Server], bool]
    future: asyncio.Future[Server]
    since: float
    teaches: str
    soon: bool


class Observer:
    """Reads servers for everybody who waits for one.

    Args:
        cloud: Where to look.
        blind_limit_s: After so long without a good answer reading raises CloudUnusable.
        shortest_s: Lower bound of the polling interval: polls must leave room for the calls that act.
        upcoming: Who is about to be started, the next one first.
    """

    def __init__(
        self,
        cloud: Cloud,
        *,
        blind_limit_s: float = BLIND_LIMIT_S,
        shortest_s: float = SHORTEST_S,
        upcoming: Callable[[], Iterable[ServerId]] = tuple,
    ) -> None:
        self._cloud = cloud
        # Asked once: Python 3.11 goes through all that a protocol names each time.
        self._turns = cloud if isinstance(cloud, TakesTurns) else None
        self._blind_limit_s = blind_limit_s
        self._waits: dict[ServerId, list[_Wait]] = {}
        # Counted as they come and go: who would walk everybody before each read walks thousands for nothing.
        self._soon = 0
        self._teaching: dict[str, dict[_Wait, None]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._upcoming = upcoming
        self._latest: dict[ServerId, Server] = {}
        self._latest_at = self._before_at = float("-inf")
        self._read_at = float("-inf")
        self._rhythm = Rhythm(shortest_s)
        self._blind_since: float | None = None
        self._blind_s = 0.0
        self._watched_s = float("-inf")
        self._sighted_at = float("-inf")
        self._hurried_at: float | None = None
        self._changed = asyncio.Event()

    # -- time ---------------------------------------------------------------------------------------

    def watched(self) -> float:
        """Return seconds, from some start, that stand still while the cloud cannot be read.

        That it cannot is known only when a read has failed for a while. It never goes back for it: it
        stands still for longer.
        """
        now = self._now()
        blind = now - self._blind_since if self._blind_since is not None else 0.0
        self._watched_s = max(self._watched_s, now - self._blind_s - blind)
        return self._watched_s

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _sighted(self) -> None:
        self._sighted_at = self._now()
        if self._blind_since is not None:
            self._blind_s += self._now() - self._blind_since
            self._blind_since = None

    def _blinded(self, error: Exception, since: float) -> None:
        """Note a read that began at *since* and failed.

        Nothing has been seen since then, or since the last good answer, whichever is later: the client has
        tried for a while by itself before it says so.
        """
        if self._blind_since is None:
            self._blind_since = max(since, self._sighted_at)
        if self._now() - self._blind_since >= self._blind_limit_s:
            raise CloudUnusable(
                f"the cloud has not answered for {self._blind_limit_s / 60:.0f} min; last error: {error}",
                hint="`fleet resume` goes on once it answers; servers in flight are looked at first",
            ) from error

    # -- single reads -------------------------------------------------------------------------------

    async def look(self, server: ServerId) -> Server:
        """Return the server, read now, however long the cloud takes to answer.

        Raises:
            NotFound: It does not exist.
            CloudUnusable: The cloud cannot be read any more.
        """
        return await self._read_through(lambda: self._cloud.server(server))

    async def job(self, job: JobId) -> Job | None:
        """Return the job, read now, or None when the cloud does not know it; else as `look`."""
        try:
            return await self._read_through(lambda: self._cloud.job(job))
        except NotFound:
            return None

    async def _read_through(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read until the cloud gives an answer; "there is no such thing" is one.

        Raises:
            Unavailable, OutcomeUnknown: This one thing could not be read for `blind_limit_s`, while others
                could.
        """
        first = self._now()
        while True:
            began = self._now()
            try:
                seen = await read()
            except (Unavailable, OutcomeUnknown) as error:
                self._blinded(error, began)
                if self._now() - first >= self._blind_limit_s:
                    raise
                await asyncio.sleep(self._rhythm.interval_s)
            except NotFound:
                self._sighted()
                raise
            else:
                self._sighted()
                return seen

    # -- shared reads -------------------------------------------------------------------------------

    async def glance(self, server: ServerId) -> Server:
        """Return the server, read recently, or soon and together with others that are asked for.

        Raises:
            NotFound, CloudUnusable: As `look`.
        """
        if server not in self._recent():
            self._hurried_at = self._now()
            self._changed.set()
        if (seen := await self.until(server, lambda _: True, GLANCE_S, recent=True)) is not None:
            return seen
        # Lists may be broken while single reads work. Every wait ends, so this is not asked again and again.
        return await self.look(server)

    def _recent(self) -> dict[ServerId, Server]:
        """Return what the latest shared read showed, unless it is too long ago."""
        apart = self._latest_at - self._before_at
        old = min(max(RECENT_S, 2 * apart), OLDEST_S) if apart < OLDEST_S else RECENT_S
        return self._latest if self._now() - self._latest_at <= old else {}

    async def until(
        self,
        server: ServerId,
        wanted: Callable[[Server], bool],
        within_s: float,
        *,
        teaches: str = "",
        so_far_s: float = 0.0,
        recent: bool = False,
        soon: bool = False,
    ) -> Server | None:
        """Wait until a read that began after this call shows *wanted*.

        Args:
            server: Whom to look at.
            wanted: What is waited for, of one look.
            within_s: For how long.
            teaches: A word for what is waited for: how long it took says when such waits are worth a read.
            so_far_s: For how long it has been waited for already.
            recent: The latest read will do as well, if it is not long ago (`RECENT_S`).
            soon: It is probably so already, and is only to be confirmed.

        Returns:
            What was seen, or None when *within_s* has passed without it.

        Raises:
            NotFound, CloudUnusable: As `look`.
        """
        if within_s <= 0:
            return None
        if recent and (seen := self._recent().get(server)) is not None and wanted(seen):
            return seen
        wait = _Wait(
            wanted, asyncio.get_running_loop().create_future(), self._now() - so_far_s, teaches, soon
        )
        self._waits.setdefault(server, []).append(wait)
        self._soon += soon
        if teaches:
            self._teaching.setdefault(teaches, {})[wait] = None
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="observer")
        elif soon:
            self._changed.set()
        try:
            # What rounding left of a time-out must not be waited for in vain, again and again.
            async with asyncio.timeout(max(within_s, MOMENT_S)):
                return await wait.future
        except TimeoutError:
            return None
        finally:
            self._soon -= soon
            if teaches:
                del self._teaching[teaches][wait]
            waits = self._waits.get(server, [])
            if wait in waits:
                waits.remove(wait)
                if not waits:
                    del self._waits[server]

    def nearly_all_s(self, kind: str) -> float | None:
        """Return how long all but the longest tenth of such waits took; None when too few are known."""
        return self._rhythm.nearly_all_s(kind)

    async def _poll(self) -> None:
        """Read as long as somebody waits."""
        while self._waits:
            await self._pause()
            if self._turns is not None:
                await self._turns.turn_to_poll()
            self._hurried_at = None
            asked = {server: list(waits) for server, waits in self._waits.items()}
            if not asked:
                return
            began = self._now()
            try:
                await self._read(asked)
            except (Unavailable, OutcomeUnknown) as error:
                try:
                    self._blinded(error, began)
                except CloudUnusable as unusable:
                    self._give_up(unusable)
                    return
            except Rejected as error:  # of a list: it is about us, and no server's fault
                self._give_up(
                    CloudUnusable(
                        error.message, hint=error.hint, code=error.code, status=error.status,
                        request_id=error.request_id,
                    )
                )  # fmt: skip
                return
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, and nobody else would
                self._give_up(error)
                return
            else:
                self._sighted()
            finally:
                self._read_at = self._now()

    async def _pause(self) -> None:
        """Wait until the next read is worth its call, or as long as it takes to gather those in a hurry."""
        began = self._now()
        while True:
            self._changed.clear()
            now = self._now()
            waiting = {
                kind: Waiting(len(waits), [now - wait.since for wait in islice(waits, MANY)])
                for kind, waits in self._teaching.items()
                if waits
            }
            due = max(self._read_at, began) + self._rhythm.pause_s(waiting, self._soon)
            if self._hurried_at is not None:
                due = min(due, self._hurried_at + GATHER_S)
            if due - now < MOMENT_S:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - now):
                    await self._changed.wait()
                    continue
            return

    async def _read(self, asked: dict[ServerId, list[_Wait]]) -> None:
        wanted = set(asked)
        if len(asked) > FEW:
            wanted.update(islice(self._upcoming(), len(asked) // AHEAD))
        began = self._now()
        self._latest = {seen.id: seen for seen in await self._cloud.servers(only=wanted)}
        self._before_at, self._latest_at = self._latest_at, began
        missing = []
        for server, waits in asked.items():
            if (seen := self._latest.get(server)) is not None:
                self._tell(waits, seen)
            else:  # lists lag and drift; only a direct read tells that it is gone
                missing.append(self._read_one(server, waits))
        # Whoever was seen has heard by now, and of the others none waits for another's answer.
        for outcome in await asyncio.gather(*missing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _read_one(self, server: ServerId, waits: list[_Wait]) -> None:
        try:
            self._tell(waits, await self._cloud.server(server))
        except Rejected as error:  # gone, or refused: it is about this one
            for wait in waits:
                if not wait.future.done():
                    wait.future.set_exception(error)

    def _tell(self, waits: list[_Wait], seen: Server) -> None:
        for wait in waits:
            if not wait.future.done() and wait.wanted(seen):
                wait.future.set_result(seen)
                if wait.teaches:
                    self._rhythm.learn(wait.teaches, self._now() - wait.since)

    def _give_up(self, error: Exception) -> None:
        for waits in list(self._waits.values()):
            for wait in waits:
                if not wait.future.done():
                    wait.future.set_exception(error)

    async def close(self) -> None:
        """Stop reading."""
        if self._poller is not None:
            await cancel_all({self._poller})
