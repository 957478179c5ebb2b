"""How long things take in a rehearsal: as earlier runs of the plan saw it, or as somebody states it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from fleet.cloud.simulator.settings import Durations, Spread
from fleet.core.forecast import Kind
from fleet.core.state import Phase
from fleet.rehearsal.rehearse import rehearse
from fleet.rehearsal.stories import Story

STEPS: Mapping[str, str] = {"stop": "stop_soft", "start": "start", "queue": "queue", "reinstall": "reinstall"}
"""What a person may state, and what the built-in cloud calls it."""

_SHORTEST_S = 5.0
_WIDEST = 1.5


def stated(base: Durations, seconds: Mapping[str, float]) -> Durations:
    """Return *base* with other medians, for the names of `STEPS`; how much they differ stays as it is."""
    spreads = {
        STEPS[step]: Spread(median_s, getattr(base, STEPS[step]).sigma) for step, median_s in seconds.items()
    }
    return msgspec.structs.replace(base, **spreads)


def as_seen(story: Story, seen: Sequence[tuple[Kind, float]]) -> Story:
    """Return *story* with servers that take as long as those that were *seen*, from admission to verified.

    The whole is known, its parts are not: a rehearsal with the built-in durations says what all but the
    reinstall comes to, and the reinstall gets the rest.
    """
    base = Durations()
    settings = msgspec.structs.replace(story.settings, windows=(), freeze=())
    told = rehearse(replace(story, settings=settings, durations=base, faults=()))
    ours = [
        (server.since - server.started_at).total_seconds()
        for server in (told.run.servers.values() if told.run is not None else ())
        if server.phase is Phase.VERIFIED and server.since and server.started_at
    ]
    if not ours:
        return story
    rest = statistics.median(ours) - base.reinstall.median_s
    parts = [max(_SHORTEST_S, took_s - rest) for _, took_s in seen]
    sigma = min(_WIDEST, statistics.stdev([math.log(part) for part in parts])) if len(parts) > 1 else 0.0
    reinstall = Spread(statistics.median(parts), sigma)
    return replace(story, durations=msgspec.structs.replace(base, reinstall=reinstall), seen=tuple(seen))
