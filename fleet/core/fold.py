"""The fold: facts into where every server stands.

`check` says whether an event can follow, and is asked before it is written down for good; `apply` folds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from fleet.core import events as ev
from fleet.core.phases import IN_FLIGHT, SETTLED, TRANSITIONS, Phase
from fleet.core.state import (
    GROUP_OF,
    NOTHING,
    START,
    IllegalEventError,
    Run,
    ServerState,
    TargetState,
    attribute_of,
)

T = TypeVar("T")


def may_follow(server: ServerState, kind: type) -> bool:
    """Tell whether an event of *kind* may happen to a server as it stands."""
    if kind is ev.Retried and server.phase is Phase.SKIPPED and not server.changed:
        return False  # a person has taken it out
    return kind in TRANSITIONS[server.phase]


def check(run: Run, event: ev.Event) -> None:
    """Raise IllegalEventError if *event* cannot follow; ask before it is written down for good."""
    if ev.is_of_server(event):
        server = run.servers.get(event.server)
        if server is None:
            raise IllegalEventError(f"{type(event).__name__} for {event.server}, which is not in the run")
        if not may_follow(server, type(event)):
            raise IllegalEventError(f"{type(event).__name__} for {server.label}, which is {server.phase}")
    elif isinstance(event, ev.RunOpened):
        raise IllegalEventError("the run is opened twice")
    elif isinstance(event, ev.WaveStarted | ev.WaveBaked | ev.Approved) and not _is_wave(run, event):
        raise IllegalEventError(f"no wave {event.wave} of target {event.target!r}")


def _is_wave(run: Run, event: ev.WaveStarted | ev.WaveBaked | ev.Approved) -> bool:
    return event.target in run.targets and 1 <= event.wave <= len(run.targets[event.target].waves)


def apply(run: Run, event: ev.Event, at: datetime) -> None:
    """Fold *event*, which happened at *at*, into *run*.

    Raises:
        IllegalEventError: It cannot follow what was before.
    """
    check(run, event)
    apply_checked(run, event, at)


def apply_checked(run: Run, event: ev.Event, at: datetime) -> None:
    """Fold an event into *run* that `check` has just let pass; else as `apply`."""
    run.last_at = at
    if ev.is_of_server(event):
        _apply_to_server(run, event, at)
    else:
        _apply_to_run(run, event, at)


def _apply_to_run(run: Run, event: ev.Event, at: datetime) -> None:
    match event:
        case ev.RunResumed(settings=settings):
            run.lives += 1
            for server in run.servers.values():
                # Whether the dead process got its answer, nobody knows.
                server.late_stop |= server.stop_asked
            run.drained = run.paused = None
            run.finished, run.finished_at = False, None
            if settings is not None:
                run.edit(settings)
        case ev.RunHeld(reason=reason):
            run.held, run.held_at = reason, at
        case ev.RunReleased():
            run.held = run.held_at = run.everybody = None
            run.groups_held.clear()
            run.failures.clear()
            run.row = 0
            for server in run.servers.values():
                server.forgiven = server.phase is Phase.FAILED
            for target in run.targets.values():
                target.forgiven = target.failed
                target.row = 0
                target.pace = None
        case ev.RunDrained(reason=reason):
            run.drained = reason
        case ev.Paused(reason=reason):
            run.paused = reason
        case ev.Unpaused():
            run.paused = None
        case ev.RunFinished():
            run.finished, run.finished_at = True, at
        case ev.GroupHeld(group=group, reason=reason):
            run.groups_held.append((group, reason))
        case ev.PaceLowered(target=name, concurrency=number):
            run.targets[name].pace = number
            run.targets[name].took.clear()
        case ev.WaveBaked(target=name, wave=number):
            run.targets[name].waves[number - 1].baked = True
            _pass_baked(run.targets[name])
        case ev.Approved(target=name, wave=number):
            run.targets[name].waves[number - 1].approved = True
        case ev.WaveStarted(target=name, wave=number):
            run.targets[name].waves[number - 1].started = True
        case _:
            pass  # HookFailed, FreezeOverridden: nothing follows from them


def _apply_to_server(run: Run, event: ev.ServerEvent, at: datetime) -> None:
    server = run.servers[event.server]
    before = server.phase
    after = TRANSITIONS[before][type(event)]
    was_out, was_undrained = server.is_out, server.is_undrained
    _note(run, server, event, at)
    if before is Phase.WAITING:
        _keep_line(run, server, after, was_out=was_out)
    if after is not before:
        _move(run, server, after, at)
        server.since = at
        if not (before is Phase.WAITING and after is Phase.SKIPPED):  # nobody has worked on it
            run.progress_at = at
    run.targets[server.member.target].undrained += server.is_undrained - was_undrained
    if server.is_out is not was_out:
        change = 1 if server.is_out else -1
        run.targets[server.member.target].out += change
        for key in run.spread_keys(server.member):
            run.out_by[key] += change


def _keep_line(run: Run, server: ServerState, after: Phase, *, was_out: bool) -> None:
    """Take a server that waited out of its line; or have it be like others there, since it is out no more."""
    line = run.targets[server.member.target].waves[server.member.wave - 1].waiting
    before = run.alike(server.member, is_out=was_out)
    if after is not Phase.WAITING:
        line.leave(server.id, before)
    elif server.is_out is not was_out:
        line.change(server.id, before, run.alike(server.member, is_out=server.is_out))


def _move(run: Run, server: ServerState, after: Phase, at: datetime) -> None:
    """Change the phase and keep every count right, in constant time."""
    before, server.phase = server.phase, after
    target = run.targets[server.member.target]
    target.phases[before] -= 1
    target.phases[after] += 1
    target.in_flight += (after in IN_FLIGHT) - (before in IN_FLIGHT)
    index = server.member.wave - 1
    wave = target.waves[index]
    if after is Phase.WAITING:
        wave.waiting.join(server.id, run.alike(server.member, is_out=server.is_out))
        wave.baked = False
        target.baked = min(target.baked, index)
        run.finished, run.finished_at = False, None
    if server.forgiven:  # retried or skipped: it must not make room for somebody else's failure
        server.forgiven = False
        target.forgiven -= 1
    wave.unsettled += (before in SETTLED) - (after in SETTLED)
    if wave.unsettled == 0 and before not in SETTLED:
        wave.settled_at = at
    if after is Phase.FAILED:
        run.failures[server.id] = None
        target.row += 1
        run.row += 1
    else:
        run.failures.pop(server.id, None)
    if Phase.VERIFIED in {before, after}:
        for attribute in GROUP_OF:
            run.verified_by[attribute, attribute_of(server.member, attribute)] += (
                1 if after is Phase.VERIFIED else -1
            )
    if after is Phase.VERIFIED:
        target.row = run.row = 0
    target.current = min(target.current, index)
    while target.current < len(target.waves) and target.waves[target.current].unsettled == 0:
        target.current += 1
    _pass_baked(target)


def _pass_baked(target: TargetState) -> None:
    """Move past the waves that need no look any more, so that nobody walks them again."""
    while target.baked < target.current and target.waves[target.baked].baked:
        target.baked += 1


def _note(run: Run, server: ServerState, event: ev.ServerEvent, at: datetime) -> None:
    """Keep what the event says about the server."""
    match event:
        case ev.Admitted():
            server.started_at = at
            server.among = run.targets[server.member.target].in_flight + 1
            server.back_on = False
        case ev.StopRequested():
            # In RETURNING we put back off what was off: that is no stop of a running server.
            server.stopped_by_us = server.stopped_by_us or server.phase is Phase.STOPPING
            server.stop_asked = True
        case ev.StartRequested():
            server.start_asked = True
        case ev.StopUnanswered():
            server.late_stop = True
        case ev.Stopped(was_off=was_off):
            server.stop_asked = False
            # Only the first look counts: later in the run it is off because of us.
            if server.noted is None:
                server.was_off = was_off
        case ev.ReinstallRequested():
            server.noted = event
            server.disk_may_differ = False
            server.sent += 1
            server.job = None
        case ev.ReinstallAccepted(job=job, request_id=request_id):
            server.accepted += 1
            server.start_asked = False
            server.wiped = server.disk_may_differ = True
            server.job = job
            server.request_id = request_id
        case ev.ReinstallUnanswered():
            server.doubted = True
        case ev.ReinstallNotTaken():
            server.doubted = True
        case ev.JobVanished():
            server.job = None
        case ev.ReinstallFailed(reason=reason, code=code):
            server.reason, server.code, server.job = reason, code, None
        case ev.ChecksPassed(system_disk=disk):
            server.new_disk = disk
        case _:
            _note_end(run, server, event, at)


def _note_end(run: Run, server: ServerState, event: ev.ServerEvent, at: datetime) -> None:
    """Keep what an end, or a new beginning, says about the server."""
    match event:
        case ev.PutBack():
            server.giving_up = server.noted = None
            server.sent = 0
            server.doubted = server.stop_asked = server.late_stop = server.was_off = False
        case ev.Failed():
            if server.phase is Phase.REQUESTED and not server.wiped:
                server.wiped = None
            server.failed_in = server.failed_in if server.giving_up else server.phase
            server.giving_up = None
            server.reason, server.hint = event.reason, event.hint
            server.untouched = event.untouched and server.wiped is False
            server.code, server.request_id = event.code, event.request_id or server.request_id
            server.down = not server.untouched or server.stopped_by_us
            if event.everybody:
                run.everybody = event.reason
        case ev.WentBad(reason=reason):
            server.reason, server.hint = reason, "it was verified; `fleet retry` would reinstall it again"
            server.failed_in, server.down = server.phase, True
        case ev.Verified():
            server.down = False
            if server.started_at is not None:
                target = run.targets[server.member.target]
                took_s = (at - server.started_at).total_seconds()
                target.took.append((max(server.among, target.in_flight), took_s))
            server.reason = server.hint = ""
            server.code = None
        case ev.Skipped(reason=reason, hint=hint):
            server.reason, server.hint = reason, hint
            server.changed = event.changed
            server.giving_up = None
            server.down = False  # a person has taken charge of it, or it was never touched
        case ev.Retried():
            server.changed = False
            server.accepted = server.sent = 0
            server.doubted = server.untouched = False
            server.stop_asked = server.late_stop = False
            server.reason = server.hint = ""
            server.code = server.request_id = None
        case _:
            _note_debt(run, server, event)


def _note_debt(run: Run, server: ServerState, event: ev.ServerEvent) -> None:
    """Keep what was done to a server that has to be undone."""
    match event:
        case ev.DebtOwed(debt=debt):
            server.owed = {**server.owed, debt: False}
            server.debts = {**server.debts, debt: event}
        case ev.DebtMade(debt=debt):
            server.owed = {**server.owed, debt: True}
        case ev.UndoFailed(debt=debt, why=why):
            server.unpaid = {**server.unpaid, debt: why}
            if debt in server.owed:  # how far it came nobody knows
                server.owed = {**server.owed, debt: False}
                server.drained = False
        case ev.DebtPaid(debt=debt):
            server.unpaid = _without(server.unpaid, debt)
            if debt == START:
                server.stopped_by_us, server.back_on = False, True
                server.down = server.down and not server.untouched
            else:
                server.owed = _without(server.owed, debt)
                server.debts = _without(server.debts, debt)
                server.drained = False
        case ev.Drained():
            server.drained = True
        case ev.GivingUp():
            server.giving_up, server.back_on = event, False
            server.failed_in = server.phase
            if event.everybody:
                run.everybody = event.reason
        case ev.Claimed(key=key):
            server.claim = key
        case ev.Unclaimed():
            server.claim = None
        case _:
            pass


def _without(known: Mapping[str, T], key: str) -> Mapping[str, T]:
    return {each: value for each, value in known.items() if each != key} or NOTHING
