"""How long a fleet takes a client that loses no time, with and without a limit of calls."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from enum import IntEnum


def list_schedule(durations: Sequence[float], slots: int) -> float:
    """Return when the last of some jobs is done that are begun in order, each as soon as a slot is free."""
    free = [0.0] * slots
    for taken in durations:
        heapq.heapreplace(free, free[0] + taken)
    return max(free)


class _Call(IntEnum):
    """The calls that no server can do without, and who goes first."""

    WIPE = 0
    LOOK = 1
    JOB = 2


def limited_schedule(ways: Sequence[tuple[float, float]], slots: int, rate: float) -> float:
    """Return the same where calls come one at a time, *rate* a second.

    The client knows when everything ends, and makes three calls for each server, as soon as they are due and
    nobody more urgent is: the last look after the stop, the reinstall, the query of its job. Stops are free.
    It uses no burst, so a cloud that allows one could be done up to a second sooner.

    Args:
        ways: Of each server, in order, what its stop and its reinstall take.
        slots: Servers in flight.
        rate: Calls a second.
    """
    due: list[tuple[float, _Call, int]] = []
    ready: list[tuple[_Call, float, int]] = []
    waiting = iter(range(len(ways)))

    def admit(now: float, waiting: Iterator[int]) -> None:
        if (server := next(waiting, None)) is not None:
            heapq.heappush(due, (now + ways[server][0], _Call.LOOK, server))

    for _ in range(slots):
        admit(0.0, waiting)
    free = last = 0.0
    while due or ready:
        now = free if ready else max(free, due[0][0])
        while due and due[0][0] <= now:
            since, call, server = heapq.heappop(due)
            heapq.heappush(ready, (call, since, server))
        call, _, server = heapq.heappop(ready)
        free = now + 1 / rate
        if call is _Call.LOOK:
            heapq.heappush(due, (now, _Call.WIPE, server))
        elif call is _Call.WIPE:
            heapq.heappush(due, (now + ways[server][1], _Call.JOB, server))
        else:
            last = now
            admit(now, waiting)
    return last
