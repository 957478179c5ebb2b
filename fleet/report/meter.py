"""How many requests a run makes of its cloud: over the last minute, and what the cloud lets through.

The journal holds facts and no rates. The process at work writes them to a small file beside it, for whoever
watches from elsewhere; it says when it was written, and is worth nothing a little later.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from fleet.cloud.api import Cloud, KnowsPace

OVER_S = 60.0
STALE = timedelta(seconds=30)


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the cloud is asked.

    Attributes:
        at: When that was so.
        per_s: Requests a second, over the last minute or as long as it has been counted.
        total: Requests so far, in this life.
        ceiling: Requests a second that the plan allows.
        slowed: Calls a second that throttling has left, by kind of call; empty: none is throttled.
    """

    at: datetime
    per_s: float
    total: int
    ceiling: float
    slowed: dict[str, float] = {}

    def words(self) -> str:
        """Say it: ``14.2 of 50 requests/s; throttled: reinstall to 0.8/s``."""
        slow = ", ".join(f"{kind} to {rate:.2g}/s" for kind, rate in sorted(self.slowed.items()))
        return f"{self.per_s:.1f} of {self.ceiling:g} requests/s" + (f"; throttled: {slow}" if slow else "")


class Meter:
    """Counts a client's requests.

    Args:
        cloud: The client.
        ceiling: Requests a second that the plan allows.
        clock: Seconds that only grow.
    """

    def __init__(self, cloud: Cloud, ceiling: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cloud = cloud
        self._pace = cloud if isinstance(cloud, KnowsPace) else None
        self._ceiling = ceiling
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), self._total())])

    def rate(self, now: datetime) -> Rate:
        """Count, and say how fast it was. To be called every second or so."""
        at, total = self._clock(), self._total()
        if at - self._seen[-1][0] >= 1.0:
            self._seen.append((at, total))
        while len(self._seen) > 2 and at - self._seen[1][0] >= OVER_S:
            self._seen.popleft()
        began, before = self._seen[0]
        slowed: Mapping[str, float] = self._pace.slowed() if self._pace is not None else {}
        per_s = (total - before) / (at - began) if at > began else 0.0
        return Rate(at=now, per_s=per_s, total=total, ceiling=self._ceiling, slowed=dict(slowed))

    def _total(self) -> int:
        return sum(self._cloud.calls().values())


def _path(journal: Path) -> Path:
    return journal.with_name(f"{journal.name.removesuffix('.jsonl')}.rate.json")


def keep(journal: Path, rate: Rate) -> None:
    """Let others see a rate. What cannot be written is done without."""
    path = _path(journal)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        with os.fdopen(
            os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
        ) as file:
            file.write(msgspec.json.encode(rate))
        aside.rename(path)


def forget(journal: Path) -> None:
    """Take the rate away: nobody asks any more."""
    with contextlib.suppress(OSError):
        _path(journal).unlink(missing_ok=True)


def read(journal: Path, now: datetime) -> Rate | None:
    """Return the rate of the process at work, or None: there is none, or it has been silent for too long."""
    try:
        found = msgspec.json.decode(_path(journal).read_bytes(), type=Rate)
    except (OSError, ValueError):
        return None
    return found if abs(now - found.at) <= STALE else None
