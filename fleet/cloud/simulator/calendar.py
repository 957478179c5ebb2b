"""The cloud's time as it writes it down."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

EPOCH: Final = datetime(2026, 12, 5, 20, tzinfo=UTC)
"""Time of day when the cloud's time is 0, unless told otherwise: that of `fleet.clock.LoopClock`."""


class Calendar:
    """Maps seconds of the cloud's time to what its answers say.

    A cloud that works *speed* times as fast as a real one still shows the wall's time, as its clients
    compare that with their own clock; what shrinks is the time between two things.

    Attributes:
        epoch: Time of day at 0.
        speed: Seconds of the cloud's time that pass in a second of wall time.
    """

    def __init__(self, epoch: datetime = EPOCH, speed: float = 1.0) -> None:
        self.epoch = epoch
        self.speed = speed
        self._base = epoch.timestamp()

    def timestamp(self, at: float) -> float:
        """Return POSIX seconds of the wall."""
        return self._base + at / self.speed

    def wall(self, at: float) -> datetime:
        """Return the time of day."""
        return datetime.fromtimestamp(self._base + at / self.speed, UTC)

    def seconds(self, at: float) -> str:
        """Write ``2026-01-13T07:03:44Z``: servers, created and updated."""
        return self.wall(at).strftime("%Y-%m-%dT%H:%M:%SZ")

    def millis(self, at: float) -> str:
        """Write ``2026-01-13T07:03:44.123Z``: jobs."""
        return self.wall(at).isoformat(timespec="milliseconds")[:23] + "Z"

    def micros(self, at: float) -> str:
        """Write ``2026-01-13T07:03:44.123456``: Nova and disks, no zone letter."""
        return self.wall(at).isoformat(timespec="microseconds")[:26]

    def http(self, at: float) -> str:
        """Write the header ``Date``."""
        return format_datetime(self.wall(at), usegmt=True)
