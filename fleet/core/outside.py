"""What the clock and the world allow at one instant: values, for `fleet.core.rollout.decide`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fleet.core.state import ServerState


def _no_time(_: ServerState) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Outside:
    """What the clock and the world allow at one instant.

    Attributes:
        now: UTC.
        closed: Why nothing may be started (``window opens Sat 22:00 CET``, ``gate … is red: …``), or None.
        closes_at: When the open window ends, in the window's time zone; None: never.
        final: It is closed by a window or a freeze, not by a gate that may turn green at any time.
        expected_s: Seconds from admission to settled, a high quantile of what was seen; the same for servers
            of one target, image, flavor and zone.
        attended: A process works on the run; else nobody starts anybody.
    """

    now: datetime
    closed: str | None = None
    closes_at: datetime | None = None
    final: bool = False
    expected_s: Callable[[ServerState], float] = _no_time
    attended: bool = True


ANY_TIME = Outside(datetime.min.replace(tzinfo=UTC))
"""Without windows, frozen days and gates, everything may be started at any time."""
