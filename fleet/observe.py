"""Looking at the cloud: one observer for everybody in flight.

Steps say what they wait for; the observer reads the servers in as few calls as the cloud allows and wakes
whoever's condition holds. Reading starts rarely and gets as frequent as the durations seen make sensible.
Whoever is about to be started is read along, so that a first look costs neither a call nor time.

Time in which the cloud cannot be read is not watched time: `watched` stands still, so an outage of the API
makes a run late and fails no server. An outage that does not end ends the run instead (`blind_limit_s`).
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from fleet.clock import cancel_all
from fleet.cloud.api import Cloud
from fleet.core.model import Job, JobId, Server, ServerId
from fleet.errors import CloudUnusable, NotFound, OutcomeUnknown, Rejected, Unavailable

T = TypeVar("T")

BLIND_LIMIT_S = 1800.0
"""Half an hour without one good answer: past what the clouds' own maintenance notices call short."""

SHORTEST_S, FIRST_S, LONGEST_S = 0.1, 1.0, 10.0
"""Bounds of the polling interval, and where it starts before any duration was seen."""

GATHER_S = 0.05
"""How long a read that is wanted now waits for others to share it."""

MOMENT_S = 0.001
"""No wait is shorter: with less, no time would pass at all."""

GLANCE_S = 60.0
"""How long a glance waits before it asks for another read."""

SHARE = 0.02
"""Polling interval as a share of the mean wait: half of it is what a wait is late on average."""

RECENT_S = 2.0
"""How old a look may be where one that was made before the question will do."""

FEW, AHEAD = 2, 5
"""Beside more than a few, one in five as many are read who are about to be started."""


@dataclass(slots=True, eq=False)
class _Wait:
    wanted: Callable[[Server], bool]
    future: asyncio.Future[Server]
    since: float
    teaches: bool


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
        self._shortest_s = shortest_s
        self._blind_limit_s = blind_limit_s
        self._waits: dict[ServerId, list[_Wait]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._upcoming = upcoming
        self._latest: dict[ServerId, Server] = {}
        self._latest_at = float("-inf")
        self._seen: deque[float] = deque(maxlen=64)
        self._interval = max(FIRST_S, shortest_s)
        self._blind_since: float | None = None
        self._blind_s = 0.0
        self._watched_s = float("-inf")
        self._sighted_at = float("-inf")
        self._hurry = asyncio.Event()

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
                await asyncio.sleep(self._interval)
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
            self._hurry.set()
        if (seen := await self.until(server, lambda _: True, GLANCE_S, recent=True)) is not None:
            return seen
        # Lists may be broken while single reads work. Every wait ends, so this is not asked again and again.
        return await self.look(server)

    def _recent(self) -> dict[ServerId, Server]:
        """Return what the latest shared read showed, unless it is too long ago."""
        return self._latest if self._now() - self._latest_at <= RECENT_S else {}

    async def until(
        self,
        server: ServerId,
        wanted: Callable[[Server], bool],
        within_s: float,
        *,
        teaches: bool = False,
        recent: bool = False,
    ) -> Server | None:
        """Wait until a read that began after this call shows *wanted*.

        Args:
            server: Whom to look at.
            wanted: What is waited for, of one look.
            within_s: For how long.
            teaches: How long it took says how often such waits are worth a read.
            recent: The latest read will do as well, if it is not older than `RECENT_S`.

        Returns:
            What was seen, or None when *within_s* has passed without it.

        Raises:
            NotFound, CloudUnusable: As `look`.
        """
        if within_s <= 0:
            return None
        if recent and (seen := self._recent().get(server)) is not None and wanted(seen):
            return seen
        wait = _Wait(wanted, asyncio.get_running_loop().create_future(), self._now(), teaches)
        self._waits.setdefault(server, []).append(wait)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="observer")
        try:
            # What rounding left of a time-out must not be waited for in vain, again and again.
            async with asyncio.timeout(max(within_s, MOMENT_S)):
                return await wait.future
        except TimeoutError:
            return None
        finally:
            waits = self._waits.get(server, [])
            if wait in waits:
                waits.remove(wait)
                if not waits:
                    del self._waits[server]

    async def _poll(self) -> None:
        """Read as long as somebody waits."""
        while self._waits:
            await self._pause()
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

    async def _pause(self) -> None:
        """Wait for the next read: the interval, or as long as it takes to gather those who are in a hurry."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._hurry.wait()
                await asyncio.sleep(GATHER_S)
        self._hurry.clear()

    async def _read(self, asked: dict[ServerId, list[_Wait]]) -> None:
        wanted = set(asked)
        if len(asked) > FEW:
            wanted.update(islice(self._upcoming(), len(asked) // AHEAD))
        began = self._now()
        self._latest = {seen.id: seen for seen in await self._cloud.servers(only=wanted)}
        self._latest_at = began
        for server, waits in asked.items():
            if (seen := self._latest.get(server)) is not None:
                self._tell(waits, seen)
            else:  # lists lag and drift; only a direct read tells that it is gone
                await self._read_one(server, waits)

    async def _read_one(self, server: ServerId, waits: list[_Wait]) -> None:
        try:
            self._tell(waits, await self._cloud.server(server))
        except NotFound as error:
            for wait in waits:
                if not wait.future.done():
                    wait.future.set_exception(error)

    def _tell(self, waits: list[_Wait], seen: Server) -> None:
        for wait in waits:
            if not wait.future.done() and wait.wanted(seen):
                wait.future.set_result(seen)
                if wait.teaches:
                    self._learn(self._now() - wait.since)

    def _learn(self, waited_s: float) -> None:
        """Let the interval follow the usual wait."""
        self._seen.append(waited_s)
        usual = statistics.fmean(self._seen)
        self._interval = min(LONGEST_S, max(self._shortest_s, SHARE * usual))

    def _give_up(self, error: Exception) -> None:
        for waits in list(self._waits.values()):
            for wait in waits:
                if not wait.future.done():
                    wait.future.set_exception(error)

    async def close(self) -> None:
        """Stop reading."""
        if self._poller is not None:
            await cancel_all({self._poller})
