"""When more at once only makes each slower: a mirror, an image store or a certificate service that is full.

Servers that were started among many are compared with servers that were started among few. If they took so
much longer that as many are finished per hour with half of them in flight, half of them it is: nothing is
lost, and whoever else needs the mirror has it back.
"""

from __future__ import annotations

import statistics

from fleet.core.settings import Settings
from fleet.core.state import Run, TargetState

ENOUGH = 10
"""Servers of either kind that must have been verified before they are compared."""

SLOWER = 1.9
"""Times as long among many as among few. At 2.0 half as many finish as many an hour; a little less, since
the median of ten is uncertain by about that."""

SLOWEST = 2
"""Never fewer in flight than this."""


IN_FLIGHT_PER_CALL = 20
"""Servers in flight for each call a second. Should all of them want one at once, the last one has its turn
20 s later: sooner than a turn to wipe is lost, and than a time-out of minutes would notice."""


def most_by_rate(settings: Settings) -> int:
    """Return how many servers `requests_per_second` can look after at once."""
    return max(SLOWEST, int(IN_FLIGHT_PER_CALL * settings.cloud.requests_per_second))


def too_many(run: Run, target: TargetState) -> tuple[int, str] | None:
    """Return to how many in flight a target is to be lowered, with the reason; None when it is well."""
    if len(target.took) < 2 * ENOUGH:
        return None
    now = concurrency(run, target)
    if now // 2 < SLOWEST:
        return None
    few = [took_s for flying, took_s in target.took if flying <= now / 2]
    many = [took_s for flying, took_s in target.took if now * 3 / 4 <= flying <= now]
    if len(few) < ENOUGH or len(many) < ENOUGH:
        return None
    usual, slow = statistics.median(few), statistics.median(many)
    if slow < SLOWER * usual:
        return None
    words = f"{slow:.0f} s each with {now} in flight, {usual:.0f} s with {now // 2} or fewer"
    return now // 2, words


def concurrency(run: Run, target: TargetState) -> int:
    """Return how many servers of a target may be in flight: by the plan, and by what was seen."""
    planned = run.plan_of(target.name).rollout.concurrency
    return planned if target.pace is None else min(planned, target.pace)
