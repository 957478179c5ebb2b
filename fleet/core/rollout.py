"""Who may be started, and why not: one pure function over the run.

What the limits mean: a share is of the target's servers when the run was opened. Wave sizes round up,
failure limits round down, and a failure limit that rounds down to nothing is refused before the run is
opened. Limits are exceeded, not reached: ``max_failures: 2`` holds at the third failure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.core.model import ServerId
from fleet.core.settings import Amount, Share
from fleet.core.state import Phase, Run, ServerState, TargetState


def wave_size(amount: Amount, servers: int) -> int:
    """Return how many servers a wave of *amount* holds, of *servers* in all; at least 1."""
    if isinstance(amount, Share):
        return max(1, math.ceil(round(servers * amount.percent / 100, 6)))
    return amount


def allowed_failures(amount: Amount, servers: int) -> int:
    """Return how many of *servers* may fail before the next failure holds; shares round down."""
    if isinstance(amount, Share):
        return math.floor(round(servers * amount.percent / 100, 6))
    return amount


def cut_waves(servers: int, sizes: Sequence[Amount]) -> list[int]:
    """Return the sizes of the waves that *servers* servers make; the last size repeats.

    >>> cut_waves(13, [1, 5])
    [1, 5, 5, 2]
    """
    waves: list[int] = []
    left = servers
    while left > 0:
        amount = sizes[min(len(waves), len(sizes) - 1)]
        size = min(left, wave_size(amount, servers))
        waves.append(size)
        left -= size
    return waves


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens next.

    Attributes:
        start: Servers to start now, in order.
        hold: Why the run is to be held from now on, or None.
    """

    start: tuple[ServerId, ...] = ()
    hold: str | None = None


def decide(run: Run) -> Decision:
    """Say who is started now. Costs the number of targets and of servers started, nothing else."""
    if run.held is not None:
        return Decision()
    if (hold := _reason_to_hold(run)) is not None:  # before the drain: a spent budget is never only "drained"
        return Decision(hold=hold)
    if run.drained is not None:
        return Decision()
    target = _current(run)
    if target is None:
        return Decision()
    wave = target.waves[target.current]
    settings = next(each for each in run.settings.targets if each.name == target.name)
    room = settings.rollout.concurrency - target.in_flight
    start: list[ServerId] = []
    for server in wave.waiting:
        if len(start) >= room:
            break
        start.append(server)
    return Decision(start=tuple(start))


def upcoming(run: Run) -> Iterable[ServerId]:
    """Return who is started next as room allows, in order, as far as the wave goes. Nothing is promised."""
    target = _current(run)
    return () if target is None else target.waves[target.current].waiting


def _current(run: Run) -> TargetState | None:
    """Return the target being worked on: they follow one another in the plan's order."""
    return next((target for target in run.targets.values() if not target.finished), None)


def _reason_to_hold(run: Run) -> str | None:
    if run.everybody is not None:
        return f"every server would meet this: {run.everybody}"
    for settings in run.settings.targets:
        target = run.targets[settings.name]
        allowed = allowed_failures(settings.rollout.hold_after, target.size)
        failed = target.failed - target.forgiven
        if failed > allowed:
            since = " since the release" if target.forgiven else ""
            return f"{failed} of {settings.name} failed{since}, {allowed} allowed"
    return None


def why_waiting(run: Run, server: ServerState) -> str:
    """Return the one reason why a waiting server has not been started, in words."""
    if server.phase is not Phase.WAITING:
        return ""
    if run.held is not None:
        return f"held: {run.held}"
    if run.drained is not None:
        return f"drained: {run.drained}"
    current = _current(run)
    if current is None or current.name != server.member.target:
        return f"waits for target {current.name}" if current else "about to be started"
    if server.member.wave - 1 > current.current:
        return f"waits for wave {current.current + 1}"
    target = run.target(server)
    if current.in_flight >= target.rollout.concurrency:
        return f"concurrency {target.rollout.concurrency} is reached"
    return "about to be started"
