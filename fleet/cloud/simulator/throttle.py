"""The gateway's limits: by class of call and user a minute, and one for everything a second.

Per-call limits of ECS are unpublished; those of the sister service with the same paths are
(ECS API reference, section 8.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.settings import Behaviour

PER_MINUTE: Final = {
    "list": 500,
    "show": 1000,
    "job": 2000,
    "reinstall": 50,
    "stop": 50,
    "start": 50,
    "reboot": 50,
    "other": 500,
}
SERVERS_PER_MINUTE: Final = 1000
"""Over all batch calls."""


@dataclass(slots=True)
class _Window:
    begun: float = 0.0
    used: int = 0


class Throttle:
    """Counts calls, and refuses those beyond a limit.

    Minutes are the cloud's own; seconds of ``rate_limit`` are the wall's, *speed* of the former.
    """

    def __init__(self, behaviour: Behaviour, speed: float) -> None:
        self._behaviour = behaviour
        self._speed = speed
        self._windows: dict[tuple[str, str], _Window] = {}
        self._tokens = max(1.0, behaviour.rate_limit or 0.0)
        self._filled = 0.0

    def admit(self, kind: str, user: str, now: float) -> None:
        """Count one call; raises Refused when it is one too many."""
        rate = self._behaviour.rate_limit
        if rate is not None:
            wall = now / self._speed
            self._tokens = min(max(1.0, rate), self._tokens + (wall - self._filled) * rate)
            self._filled = wall
            # The allowance comes back in fractions that do not add up to 1 exactly.
            if self._tokens < 1.0 - 1e-9:
                raise _refuse(f"{rate:g}", "1 second")
            self._tokens -= 1.0
        if self._behaviour.throttle:
            limit = PER_MINUTE.get(kind, PER_MINUTE["other"])
            if not self._count(kind, user, now, 1, limit):
                raise _refuse(str(limit), "1 minute")

    def admit_servers(self, count: int, user: str, now: float) -> None:
        """Count the servers of a batch call."""
        if self._behaviour.throttle and not self._count("servers", user, now, count, SERVERS_PER_MINUTE):
            raise Refused(
                "Ecs.0118",
                f"The number of ECSs {count} is greater than the maximum number {SERVERS_PER_MINUTE}.",
            )

    def _count(self, kind: str, user: str, now: float, by: int, limit: int) -> bool:
        window = self._windows.setdefault((kind, user), _Window(now))
        if now - window.begun >= 60.0:
            window.begun, window.used = now, 0
        if window.used + by > limit:
            return False
        window.used += by
        return True


def _refuse(limit: str, time: str) -> Refused:
    return Refused(
        "APIGW.0308",
        f"The throttling threshold has been reached: policy user over ratelimit,limit:{limit},time:{time}",
    )
