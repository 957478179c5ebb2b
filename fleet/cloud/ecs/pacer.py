"""How fast the client may ask: below the plan's ceiling, and below limits nobody told us.

The cloud publishes no rate limits, and has them per call (ECS API reference; its sister service allows 50
reinstalls but 2,000 job queries a minute). So every kind of call has a lane with a rate of its own that
throttling cuts and success raises, and all lanes together stay below the ceiling. Where several kinds are
refused at about the same time the limit is one for all of them, and what all make together is cut.

Who acts goes first: a wipe that was announced and a start that brings a server back, then stops, then looks
of servers by themselves, then those who want to announce a wipe or ask how their job stands, then whatever
else somebody waits for. A poll takes the turn that nobody else wanted, and waits a bounded time for it; then
it goes like a stop. Among equals it is first come, first served, so no target goes before another.

Only the head of a queue holds a slot: whoever waits behind it computes nothing yet, so a cut reaches
everybody who waits. Slots are evenly spaced, there is no burst, also not after a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from enum import IntEnum
from itertools import count

TOLERANCE_S = 1e-6
"""A loop's clock has a resolution; waiting for less than this spins for ever."""

CUT = 0.8
CUT_INTERVAL_S = 1.0
"""One cut for a burst of refusals: those already on their way say nothing new."""

SILENCE_S = 0.5
"""Doubled with every refusal that follows without a success in between: a spent quota of a minute is
waited for, not mistaken for a lower and lower limit."""

MAX_SILENCE_S = 60.0
"""A cloud that asks for more is asked again after this; every wait ends."""

RISE = 0.5
"""Calls a second, gained per second, while far from the last known limit."""

NEAR = 0.97
CREEP = 0.005
"""Share of the rate, gained per second, while near the last known limit: a throttled call costs more
than the few per cent to be won."""

TOLD = 0.99
"""Share of a limit that the cloud has named: evenly spaced calls arrive a little unevenly."""

FORGET_S = 600.0
"""After so long without a refusal the last known limit counts as gone."""

FLOOR = 0.05
OBSERVED_S = 10.0

KEEPS_S = 30.0
"""A turn that nobody has used for so long is lost: those who come later would make a burst of it."""

IN_VAIN = 2
"""So many wipes refused one after the other, and none taken in between: this cloud takes no two calls at
once, and one that goes on a kept turn right behind its look is always the second."""

SHARED_S = 5.0
"""Two kinds that are refused within so long, in the same words, have met one limit for both."""

UNWANTED = 0.25
"""Share of a slot that has to pass unused before a poll takes it: whoever waits in a lane comes first."""

PASSED, LONGEST_WAIT_S = 50, 30.0
"""A poll waits for as long as so many calls take, and never longer than that: not seeing costs more then."""


class Rank(IntEnum):
    """Who goes first. `Pacer.turn_to_poll` says when a poll may go."""

    WIPE = 0  # announced, and only good for a while; or bringing a server back
    SWITCH = 1
    LOOK = 2  # a reinstall follows, the longest part of a server's way
    WISH = 3  # behind the looks of those who have their turn already, or all turns would be used in one burst
    REST = 4
    POLL = 5


OVERDUE = Rank.SWITCH
"""Of a poll that has waited its time: looks without end would go before it for ever."""

_WIPE = "reinstall"
_RANKS = {
    _WIPE: Rank.WIPE,
    "start": Rank.WIPE,
    "stop": Rank.SWITCH,
    "show": Rank.LOOK,
    "job": Rank.WISH,  # its end makes room for the next server
}


class _Door:
    """A lock whose next holder is the one of the best rank, and of these the first to come."""

    def __init__(self) -> None:
        self.is_wanted = False  # somebody holds it
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = count()

    def ticket(self) -> int:
        """Return a number that says who came first."""
        return next(self._number)

    async def enter(self, rank: int, ticket: int) -> None:
        """Wait until it is ours; then `leave` it."""
        if not self.is_wanted:
            self.is_wanted = True
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (rank, ticket, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.leave()  # it was handed to somebody who does not want it any more
            raise

    def leave(self) -> None:
        """Hand it on."""
        while self._queue:
            _, _, future = heapq.heappop(self._queue)
            if not future.done():
                future.set_result(None)
                return
        self.is_wanted = False

    def is_better_one_waiting(self, rank: int) -> bool:
        """Tell whether somebody of a better rank came meanwhile."""
        while self._queue and self._queue[0][2].done():
            heapq.heappop(self._queue)
        return bool(self._queue) and self._queue[0][0] < rank


class Lane:
    """Evenly spaced slots at a rate that finds its own limit (additive rise, multiplicative cut).

    Args:
        ceiling: Calls a second that are never exceeded; above 0.

    Attributes:
        told: The limit in the cloud's own words, if it has said it and that is not long ago.
    """

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        self.rate = ceiling
        self.told: float | None = None
        self._known: float | None = None
        self._head = _Door()
        self._next = 0.0
        self._refused = float("-inf")
        self._cut = float("-inf")
        self._silence_s = SILENCE_S
        self._quiet_until = float("-inf")
        self._answered = True
        self._raised = float("-inf")
        self._slots: deque[float] = deque(maxlen=1000)

    async def slot(self, rank: int = Rank.REST) -> None:
        """Wait for a turn."""
        ticket = self._head.ticket()
        while True:
            await self._head.enter(rank, ticket)
            try:
                loop = asyncio.get_running_loop()
                # Again after each sleep: a refusal meanwhile may have moved it.
                while (wait := self._next - loop.time()) > TOLERANCE_S:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(wait)
                if self._head.is_better_one_waiting(rank):
                    continue
                now = loop.time()
                # After a refusal one call goes ahead to ask whether it is over; others wait for its answer.
                self._next = now + max(1 / self.rate, 0.0 if self._answered else self._silence_s)
                self._slots.append(now)
                return
            finally:
                self._head.leave()

    async def unwanted(self) -> None:
        """Wait until a turn has come that nobody takes."""
        loop = asyncio.get_running_loop()
        while True:
            free = self._next + UNWANTED / self.rate
            if not self._head.is_wanted and loop.time() >= free - TOLERANCE_S:
                return
            await asyncio.sleep(max(free - loop.time(), UNWANTED / self.rate))

    def throttled(self, *, silence_s: float | None = None, limit: float | None = None) -> None:
        """Note a refusal for being too fast.

        Args:
            silence_s: Seconds that the cloud asked for.
            limit: Calls a second that the cloud says are allowed, for all users of the limit together.
        """
        now = asyncio.get_running_loop().time()
        self._refused = now
        if limit is not None and 0 < limit < self.rate:  # else others share it: a cut as if nobody had told
            self.rate = max(FLOOR, TOLD * limit)
            self.told = self._known = limit
            self._cut = now
        elif self._answered and now - self._cut > CUT_INTERVAL_S:
            # What was really asked may be far below what was allowed; cutting the latter changes nothing.
            # By half at most: seconds that were spent waiting out a refusal say little.
            self._known = max(FLOOR, self.rate / 2, min(self.rate, self._observed(now)))
            self.rate, self._cut = max(FLOOR, self._known * CUT), now
        if self._answered or now >= self._quiet_until:
            self._silence_s = SILENCE_S if self._answered else min(2 * self._silence_s, MAX_SILENCE_S)
        self._answered = False
        silence = self._silence_s if silence_s is None else min(max(silence_s, 0.0), MAX_SILENCE_S)
        self._quiet_until = max(self._quiet_until, now + silence)
        self._next = max(self._next, self._quiet_until)

    def succeeded(self) -> None:
        """Note an answer that was no refusal."""
        if not self._answered:
            self._answered, self._next = (
                True,
                min(self._next, asyncio.get_running_loop().time() + 1 / self.rate),
            )
        if self.rate >= self.ceiling:
            return
        now = asyncio.get_running_loop().time()
        if self._known is not None and now - self._refused > FORGET_S:
            self._known = self.told = None
        # Per call, so that an idle lane does not rise on no evidence; at most as much as a second brings.
        elapsed = min(1 / self.rate, max(0.0, now - max(self._raised, self._cut)), 1.0)
        self._raised = now
        near = self._known is not None and self.rate >= NEAR * self._known
        gain = CREEP * self.rate if near else min(RISE, self.rate)
        risen = self.rate + gain * elapsed
        if self.told is not None:  # nothing is to be found out
            risen = min(risen, max(self.rate, TOLD * self.told))
        if self._known is not None and not near:
            risen = min(risen, max(self.rate, NEAR * self._known))
        self.rate = min(self.ceiling, risen)

    def _observed(self, now: float) -> float:
        """Return calls a second of the last seconds; the rate itself while there are too few to say."""
        recent = [at for at in self._slots if at > now - OBSERVED_S]
        if len(recent) < 3 or now - recent[0] <= 0:
            return self.rate
        return max(len(recent) / OBSERVED_S, (len(recent) - 1) / (now - recent[0]))


class _Turns:
    """Turns that were waited for before there was anything to send, for whoever sends soon.

    Args:
        keeps_s: How long a turn is good for: a look and its gates come between.
    """

    def __init__(self, keeps_s: float = KEEPS_S) -> None:
        self._keeps_s = keeps_s
        self._taken: deque[float] = deque()

    def keep(self) -> None:
        """Keep a turn that has just come."""
        self._taken.append(asyncio.get_running_loop().time())

    def lose(self) -> None:
        """Lose all: what was allowed before a refusal is not any more."""
        self._taken.clear()

    def use(self) -> bool:
        """Use up a turn; tell whether there was one."""
        oldest = asyncio.get_running_loop().time() - self._keeps_s
        while self._taken and self._taken[0] < oldest:
            self._taken.popleft()
        if self._taken:
            self._taken.popleft()
            return True
        return False


class Pacer:
    """Lanes by kind of call, together below one ceiling.

    Args:
        requests_per_second: The ceiling; above 0.
    """

    def __init__(self, requests_per_second: float) -> None:
        self.ceiling = requests_per_second
        self._all = Lane(requests_per_second)
        self._lanes: dict[str, Lane] = {}
        self._refused: dict[str, tuple[float, float | None]] = {}
        self._kept = _Turns()
        self._in_vain, self._vain_at = 0, float("-inf")

    def lane(self, kind: str) -> Lane:
        """Return the lane of a kind of call."""
        found = self._lanes.get(kind)
        if found is None:
            found = self._lanes[kind] = Lane(self.ceiling)
        return found

    async def slot(self, kind: str, *, poll: bool = False) -> None:
        """Wait until one call of *kind* may be made. A wipe uses up a turn that was waited for before.

        Args:
            kind: Of call.
            poll: It can wait for those that act, though not for ever.
        """
        if kind == _WIPE and self._kept.use() and self._in_vain < IN_VAIN:
            return
        if not poll:
            await self._slot(kind, _RANKS.get(kind, Rank.REST))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._longest_wait_s()):
                await self._all.unwanted()
                await self._slot(kind, Rank.POLL)
                return
        await self._slot(kind, OVERDUE)

    async def _slot(self, kind: str, rank: Rank) -> None:
        await self.lane(kind).slot(rank)
        await self._all.slot(rank)

    async def turn_to_wipe(self) -> None:
        """Wait until a wipe may be sent at once, before it is announced; the turn is kept for it."""
        await self._slot(_WIPE, Rank.WISH)
        self._kept.keep()

    async def turn_to_poll(self) -> None:
        """Wait until a poll would be in nobody's way, or has waited long enough."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._longest_wait_s()):
                await self._all.unwanted()

    def _longest_wait_s(self) -> float:
        return min(PASSED / self._all.rate, LONGEST_WAIT_S)

    def throttled(self, kind: str, *, silence_s: float | None = None, limit: float | None = None) -> None:
        """Note that a call of *kind* was refused for being too fast; see `Lane.throttled`."""
        now = asyncio.get_running_loop().time()
        if kind == _WIPE and now - self._vain_at > CUT_INTERVAL_S:
            self._in_vain, self._vain_at = self._in_vain + 1, now
        self._refused[kind] = now, limit
        known = limit is not None and limit == self._all.told
        # Limits that the cloud names differently are not the same one, however close together they are met.
        shared = known or any(
            at > now - SHARED_S and named == limit
            for other, (at, named) in self._refused.items()
            if other != kind
        )
        if shared:
            self._all.throttled(silence_s=silence_s, limit=limit)
        if shared or kind == _WIPE:
            self._kept.lose()
        if not known:
            self.lane(kind).throttled(silence_s=silence_s, limit=limit)

    def succeeded(self, kind: str) -> None:
        """Note that a call of *kind* was not refused for being too fast."""
        if kind == _WIPE and (
            self._in_vain < IN_VAIN or asyncio.get_running_loop().time() - self._vain_at > FORGET_S
        ):
            self._in_vain = 0
        self._all.succeeded()
        self.lane(kind).succeeded()

    def slowed(self) -> dict[str, float]:
        """Return calls a second by kind, of the kinds that refusals have brought below the ceiling."""
        return {kind: lane.rate for kind, lane in self._lanes.items() if lane.rate < NEAR * self.ceiling}
