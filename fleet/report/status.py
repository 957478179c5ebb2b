"""Where every server of a run stands: as text, and as data for a pipe. From the run alone; figures add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fleet.core import causes
from fleet.core.forecast import Forecast, Kind
from fleet.core.outside import ANY_TIME, Outside
from fleet.core.rollout import approval_awaited, why_held_again, why_waiting
from fleet.core.settling import settling
from fleet.core.state import IN_FLIGHT, START, Phase, Run, ServerState, is_payable, owes_undoing
from fleet.core.windows import of_plan
from fleet.report.figures import figures, headline, rows_amount_to

__all__ = ["as_data", "as_text", "duration", "figures", "headline", "next_step", "outside_of", "owed_lines"]
__all__ += ["owed_words", "state_word", "summary"]

Seen = Sequence[tuple[Kind, float]]
"""Durations of earlier runs: kind of server, and seconds."""

_IN_DOUBT = Phase.REQUESTED
_SHOWN = 20


def state_word(run: Run, worked_on: str | None) -> str:
    """Return what the run is doing, in a few words."""
    if run.is_settled:
        return "finished"
    if worked_on is not None:
        return f"running ({worked_on})"
    if run.held is not None:
        return f"held: {run.held}"
    if run.drained is not None:
        return f"drained: {run.drained}"
    if (awaited := approval_awaited(run)) is not None and not run.in_flight:
        return f"waits for approval after wave {awaited[1]} of {awaited[0]}, since {_wave_end(run, *awaited)}"
    return "unfinished: its process has ended"


def _wave_end(run: Run, target: str, wave: int) -> str:
    settled = run.targets[target].waves[wave - 1].settled_at
    return f"{settled:%Y-%m-%d %H:%M} UTC" if settled else "its end"


def next_step(run: Run, worked_on: str | None, name: str) -> str | None:
    """Return the command that goes on, or None when there is nothing to do.

    Args:
        run: As the journal tells it.
        worked_on: Who works on it at the moment, or None.
        name: What the command line finds the run by: its id, or its journal's path.
    """
    if run.is_settled:
        if any(is_payable(server) for server in run.servers.values()):
            return f"fleet resume {name}"
        again = ""
        if run.counts()[Phase.FAILED]:
            again = f"fleet retry {name} --reason …"
        elif any(server.changed for server in run.servers.values()):
            again = f"fleet retry {name} SERVER… --reason …"
        settle = f"fleet settle {name} SERVER…" if any(_owed(run)) else ""
        return ", or ".join(filter(None, (again, settle))) or None
    if worked_on is not None:
        return None
    if run.held is not None:
        first = f"fleet retry {name} --reason … (or fleet skip), then " if why_held_again(run) else ""
        return f"{first}fleet release {name} --reason …, then fleet resume {name}"
    if approval_awaited(run) is not None and not run.in_flight:
        return f"fleet approve {name} --reason …, then fleet resume {name}"
    return f"fleet resume {name}"


def as_data(
    run: Run, *, worked_on: str | None, now: datetime, name: str, seen: Seen | None = None
) -> dict[str, Any]:
    """Return everything, for JSON. *seen* as in `outside_of`."""
    found = figures(run)
    outside = outside_of(run, now, worked_on, seen)
    servers = [_server(run, server, now, outside) for server in run.servers.values()]
    rows_amount_to(found, (row["phase"] for row in servers))
    return {
        "run": run.id,
        "plan": run.settings.plan,
        "cloud": run.opened.cloud,
        "opened_at": run.opened_at,
        "last_event_at": run.last_at,
        "state": state_word(run, worked_on),
        "held": run.held,
        "held_since": None if run.held is None else run.held_at,
        "drained": run.drained,
        "groups_held": [{"group": group, "reason": reason} for group, reason in run.groups_held],
        "awaits_approval": _awaited(run),
        "owed": [
            {
                "id": server.id,
                "name": server.member.name,
                "phase": str(server.phase),
                "what": owed_words(server),
            }
            for server in _owed(run)
        ],
        "lives": run.lives,
        "figures": found,
        "next": next_step(run, worked_on, name),
        "servers": servers,
    }


def outside_of(run: Run, now: datetime, worked_on: str | None, seen: Seen | None = None) -> Outside:
    """Return what the clock says by the plan; of all else, what its process has read.

    Args:
        run: As the journal tells it.
        now: UTC.
        worked_on: Who works on it at the moment, or None.
        seen: Durations of earlier runs of the plan; None: they are not known, so nobody looks ahead.
    """
    attended = worked_on is not None
    if run.paused is None and not run.settings.windows and not run.settings.freeze:
        return replace(ANY_TIME, attended=attended)
    state = of_plan(run.settings).at(now)
    found = Outside(
        now=now, closed=state.closed or run.paused, closes_at=state.closes_at, final=True, attended=attended
    )
    if seen is None:
        return found
    forecast = Forecast(seen)
    return replace(found, expected_s=lambda server: forecast.expected_s(run, server))


def _awaited(run: Run) -> dict[str, Any] | None:
    awaited = approval_awaited(run)
    return None if awaited is None else {"target": awaited[0], "wave": awaited[1]}


def _owed(run: Run) -> Iterator[ServerState]:
    """Yield servers at rest that are owed something. Those in flight get it at the end of their way."""
    return (
        server for server in run.servers.values() if server.phase not in IN_FLIGHT and owes_undoing(server)
    )


def owed_words(server: ServerState) -> list[str]:
    """Return what has to be run, or done, for a server to be as it was found."""
    stopped = server.stopped_by_us and server.phase is Phase.FAILED
    owed = {START: "start it"} if stopped else {}
    owed |= {name: " ".join(debt.undo) for name, debt in reversed(list(server.debts.items()))}
    tried = server.unpaid
    return [f"{what} (tried: {tried[name]})" if name in tried else what for name, what in owed.items()]


def owed_lines(run: Run, *, shown: int = _SHOWN) -> Iterator[str]:
    """Yield what the run owes to servers, first of all lines: they may be out of their pools."""
    owed = list(_owed(run))
    if not owed:
        return
    yield "owed, and not paid:"
    lines = (f"  {each.label} ({each.phase}): {'; '.join(owed_words(each))}" for each in owed)
    yield from _cut(lines, shown, len(owed))


def _server(run: Run, server: ServerState, now: datetime, outside: Outside) -> dict[str, Any]:
    return {
        "id": server.id,
        "name": server.member.name,
        "target": server.member.target,
        "wave": server.member.wave,
        "phase": str(server.phase),
        "since": server.since,
        "in_doubt": server.phase is _IN_DOUBT,
        "attempts": server.accepted,
        "job": server.job,
        "system_disk_before": server.noted.system_disk if server.noted else server.member.system_disk,
        "system_disk": server.new_disk,
        "reason": why_waiting(run, server, outside) or server.reason or None,
        "hint": server.hint or None,
        "code": server.code,
        "request_id": server.request_id,
        "age_s": round((now - server.since).total_seconds(), 1) if server.since else None,
    }


def as_text(
    run: Run,
    *,
    worked_on: str | None,
    now: datetime,
    name: str,
    everything: bool = False,
    closing: Iterable[str] = (),
    seen: Seen | None = None,
) -> Iterator[str]:
    """Yield the lines for people: what needs them first.

    Args:
        run: As the journal tells it.
        worked_on: Who works on it at the moment, or None.
        now: UTC.
        name: What the command line finds the run by.
        everything: Every server, however many.
        closing: Lines about its time, from `fleet.report.closing`.
        seen: As in `outside_of`.

    Raises:
        Miscounted: After the last line, when the figures do not add up.
    """
    shown = 10**9 if everything else _SHOWN
    yield f"{run.id}: {state_word(run, worked_on)}"
    yield from _stopped(run, worked_on, now, seen)
    yield from owed_lines(run, shown=shown)
    yield headline(run)
    for target in run.targets.values():
        phases = target.phases
        done = f"{phases[Phase.VERIFIED]} of {target.size} verified"
        failed = f", {target.failed} failed" if target.failed else ""
        where = "finished" if target.finished else f"wave {target.current + 1} of {len(target.waves)}"
        doubt = f", {phases[_IN_DOUBT]} of them in doubt" if phases[_IN_DOUBT] else ""
        yield f"  {target.name}: {where}, {done}{failed}, {target.in_flight} in flight{doubt}"
    for group, reason in run.groups_held:
        yield f"  {causes.words(group)} is held: {reason}"
    by_phase: dict[Phase, list[ServerState]] = {}
    for server in run.servers.values():
        by_phase.setdefault(server.phase, []).append(server)
    flying = [server for phase in Phase if phase in IN_FLIGHT for server in by_phase.get(phase, [])]
    if flying:
        yield "in flight:"
        yield from _cut((_flying(server, now) for server in flying), shown, len(flying))
    if failed_ones := by_phase.get(Phase.FAILED, []):
        shared = causes.in_common(run, failed_ones) if len(failed_ones) > 1 else []
        yield f"failed, all of {' and '.join(shared)}:" if shared else "failed:"
        yield from _cut((_failed(server) for server in failed_ones), shown, len(failed_ones))
    if skipped := by_phase.get(Phase.SKIPPED, []):
        yield "skipped:"
        yield from _cut((_skipped(each) for each in skipped), shown, len(skipped))
    if waiting := by_phase.get(Phase.WAITING, []):
        yield "never touched:"
        outside = outside_of(run, now, worked_on, seen)
        reasons = Counter(why_waiting(run, server, outside) for server in waiting)
        for reason, count in reasons.most_common():
            yield f"  {count} x {reason}"
    yield from closing
    if (step := next_step(run, worked_on, name)) is not None:
        yield f"next: {step}"
    figures(run)


def _stopped(run: Run, worked_on: str | None, now: datetime, seen: Seen | None) -> Iterator[str]:
    """Yield since when a run is held, by whom and why, and when those in flight settle."""
    if run.is_settled or (run.held is None and run.drained is None):
        return
    if run.held is not None:
        since = f"{run.held_at:%Y-%m-%d %H:%M} UTC" if run.held_at else "before"
        yield f"held since {since}" + ("" if worked_on is None else f": {run.held}")
    elif worked_on is not None:
        yield f"draining: {run.drained}"
    if worked_on is not None and run.in_flight:
        yield settling(run, now, seen or ()).words(now)


def _flying(server: ServerState, now: datetime) -> str:
    doubt = " (in doubt)" if server.phase is _IN_DOUBT else ""
    return f"  {server.label}: {server.phase}{doubt} for {duration(now - (server.since or now))}"


def _failed(server: ServerState) -> str:
    code = f" [{server.code}]" if server.code else ""
    request = f" (request {server.request_id})" if server.code and server.request_id else ""
    hint = f"\n    {server.hint}" if server.hint else ""
    untouched = " It was not touched." if server.untouched else ""
    return f"  {server.label}: {server.reason}{code}{request}.{untouched}{hint}"


def _skipped(server: ServerState) -> str:
    hint = f"\n    {server.hint}" if server.hint else ""
    return f"  {server.label}: {server.reason}{hint}"


def _cut(lines: Iterator[str], shown: int, total: int) -> Iterator[str]:
    for index, line in enumerate(lines):
        if index == shown:
            yield f"  … and {total - shown} more (--all shows them)"
            return
        yield line


def duration(span: timedelta) -> str:
    """Return a span in a few letters: ``4m12s``, ``1h03m``, ``2d4h``."""
    seconds = max(0, round(span.total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600}h"


def _left_in_flight(run: Run) -> str:
    """Say in which phases a process leaves servers that it works on no more."""
    counts = run.counts()
    phases = {phase: counts[phase] for phase in Phase if phase in IN_FLIGHT and counts[phase]}
    words = (f"{count} {phase}{' (in doubt)' * (phase is _IN_DOUBT)}" for phase, count in phases.items())
    left = sum(phases.values())
    return f"{left} left in flight: {', '.join(words)}; the cloud goes on with what it was asked"


def summary(
    run: Run, *, now: datetime, name: str, journal: str, closing: Iterable[str] = ()
) -> Iterator[str]:
    """Yield the last words of a life; the very last ones say how to go on, if there is a way.

    Raises as `as_text`.
    """
    took = duration(now - run.opened_at)
    yield f"{run.id}: {state_word(run, None)} after {took}"
    yield from owed_lines(run)
    yield headline(run)
    if run.in_flight:
        yield _left_in_flight(run)
    failed = [each for each in run.servers.values() if each.phase is Phase.FAILED or each.changed]
    yield from _cut((_failed(server) for server in failed), _SHOWN, len(failed))
    yield f"journal: {journal}"
    yield from closing
    if (step := next_step(run, None, name)) is not None:
        yield f"next: {step}"
    figures(run)
