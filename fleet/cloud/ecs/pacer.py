"""How fast the client may ask: below the plan's ceiling, and below limits nobody told us.

The cloud publishes no rate limits, and has them per call (ECS API reference; its sister service allows 50
reinstalls but 2,000 job queries a minute). So every kind of call has a lane with a rate of its own that
throttling cuts and success raises, and all lanes together stay below the ceiling.

Only the head of a queue holds a slot: whoever waits behind it computes nothing yet, so a cut reaches
everybody who waits. Slots are evenly spaced, there is no burst, also not after a pause.
"""

from __future__ import annotations

import asyncio
from collections import deque

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

FORGET_S = 600.0
"""After so long without a refusal the last known limit counts as gone."""

FLOOR = 0.05
OBSERVED_S = 10.0

KEEPS_S = 30.0
"""A turn that nobody has used for so long is lost: those who come later would make a burst of it."""


class Lane:
    """Evenly spaced slots at a rate that finds its own limit (additive rise, multiplicative cut).

    Args:
        ceiling: Calls a second that are never exceeded; above 0.
    """

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        self.rate = ceiling
        self._known: float | None = None
        self._head = asyncio.Lock()
        self._next = 0.0
        self._refused = float("-inf")
        self._cut = float("-inf")
        self._silence_s = SILENCE_S
        self._quiet_until = float("-inf")
        self._answered = True
        self._raised = float("-inf")
        self._slots: deque[float] = deque(maxlen=1000)

    async def slot(self) -> None:
        """Wait for a turn."""
        async with self._head:
            loop = asyncio.get_running_loop()
            # Again after each sleep: a refusal meanwhile may have moved it.
            while (wait := self._next - loop.time()) > TOLERANCE_S:  # noqa: ASYNC110  # it moves, nobody tells
                await asyncio.sleep(wait)
            now = loop.time()
            # After a refusal one call goes ahead to ask whether it is over; the others wait for its answer.
            self._next = now + max(1 / self.rate, 0.0 if self._answered else self._silence_s)
            self._slots.append(now)

    def throttled(self, *, silence_s: float | None = None, limit: float | None = None) -> None:
        """Note a refusal for being too fast.

        Args:
            silence_s: Seconds that the cloud asked for.
            limit: Calls a second that the cloud says are allowed, for all users of the limit together.
        """
        now = asyncio.get_running_loop().time()
        self._refused = now
        if limit is not None and limit > 0:
            self.rate = max(FLOOR, min(self.rate, NEAR * limit))
            self._known, self._cut = limit, now
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
            self._known = None
        # Per call, so that an idle lane does not rise on no evidence; at most as much as a second brings.
        elapsed = min(1 / self.rate, max(0.0, now - max(self._raised, self._cut)), 1.0)
        self._raised = now
        near = self._known is not None and self.rate >= NEAR * self._known
        gain = CREEP * self.rate if near else min(RISE, self.rate)
        risen = self.rate + gain * elapsed
        if self._known is not None and not near:
            risen = min(risen, max(self.rate, NEAR * self._known))
        self.rate = min(self.ceiling, risen)

    def _observed(self, now: float) -> float:
        """Return calls a second of the last seconds; the rate itself while there are too few to say."""
        recent = [at for at in self._slots if at > now - OBSERVED_S]
        if len(recent) < 3 or now - recent[0] <= 0:
            return self.rate
        return max(len(recent) / OBSERVED_S, (len(recent) - 1) / (now - recent[0]))


class Turns:
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

    def lane(self, kind: str) -> Lane:
        """Return the lane of a kind of call."""
        found = self._lanes.get(kind)
        if found is None:
            found = self._lanes[kind] = Lane(self.ceiling)
        return found

    async def slot(self, kind: str) -> None:
        """Wait until one call of *kind* may be made."""
        await self.lane(kind).slot()
        await self._all.slot()

    def throttled(self, kind: str, *, silence_s: float | None = None, limit: float | None = None) -> None:
        """Note that a call of *kind* was refused for being too fast; see `Lane.throttled`."""
        self.lane(kind).throttled(silence_s=silence_s, limit=limit)

    def succeeded(self, kind: str) -> None:
        """Note that a call of *kind* was not refused for being too fast."""
        self.lane(kind).succeeded()

    def slowed(self) -> dict[str, float]:
        """Return calls a second by kind, of the kinds that refusals have brought below the ceiling."""
        return {kind: lane.rate for kind, lane in self._lanes.items() if lane.rate < NEAR * self.ceiling}
