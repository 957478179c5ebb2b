"""How long a server takes from its admission to its end: by what was seen, and by time-outs until then."""

from __future__ import annotations

import math
from collections.abc import Iterable

from fleet.core.rounds import longest_s
from fleet.core.state import Run, ServerState

ENOUGH = 10
"""Durations that make a quantile worth something; with fewer the plan's time-outs count."""

QUANTILE = 0.99
"""Such a share is done in the time that is reckoned with; of fewer than a hundred, all of them were."""

Kind = tuple[str, str, str]
"""Image, flavor and zone."""


class Forecast:
    """Durations seen in earlier runs of a plan.

    Args:
        seen: Kind of server and seconds, oldest first.
    """

    def __init__(self, seen: Iterable[tuple[Kind, float]] = ()) -> None:
        self._of_kind: dict[Kind, list[float]] = {}
        self._all: list[float] = []
        for kind, took_s in seen:
            self._of_kind.setdefault(kind, []).append(took_s)
            self._all.append(took_s)

    def expected_s(self, run: Run, server: ServerState) -> float:
        """Return the seconds to reckon with: of its kind and of its target, else the plan's time-outs.

        The longer of what earlier runs and this one have seen: a cloud that is slower tonight than ever must
        not be taken at its word of then.
        """
        member = server.member
        here = [took_s for _, took_s in run.targets[member.target].took]
        own = self._of_kind.get((member.image, member.flavor, member.zone), [])
        if seen := [quantile(each) for each in (own, here) if len(each) >= ENOUGH]:
            return max(seen)
        return quantile(self._all) if len(self._all) >= ENOUGH else longest_s(run.target(server))


def quantile(seen: list[float]) -> float:
    """Return the `QUANTILE` of some durations: the smallest that so many of them do not exceed."""
    return sorted(seen)[math.ceil(QUANTILE * len(seen)) - 1]
