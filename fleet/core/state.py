"""Where every server of a run stands: a table of what may follow what, and the fold over it.

A phase answers "where is it?". The next thing done to a server depends on its phase alone, so a resumed run
is no special case, and a lost answer is the same case as a crash: the phase is REQUESTED.

::

    waiting → stopping → stopped → requested → reinstalling → reinstalled → starting → verifying → returning
                 ↑________________________|____________|           |____________↑                       ↓
             (not taken, refused, job failed)                   (runs already)                       verified

    failed: from anywhere.  skipped: from waiting or failed; who changed and is not wiped: from in flight.
    A person's retry: from failed, and from skipped as changed, back to waiting.

`apply` folds an event into the run in place: at 100,000 servers a copy an event would be all we do.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeVar

from fleet.core import events as ev
from fleet.core.events import Member
from fleet.core.model import JobId, ServerId
from fleet.core.settings import Settings, Target

T = TypeVar("T")


class Phase(StrEnum):
    """Where a server is."""

    WAITING = "waiting"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REQUESTED = "requested"
    REINSTALLING = "reinstalling"
    REINSTALLED = "reinstalled"
    STARTING = "starting"
    VERIFYING = "verifying"
    RETURNING = "returning"
    VERIFIED = "verified"
    FAILED = "failed"
    SKIPPED = "skipped"


GROUP_OF = ("availability_zone", "flavor", "image")
"""Attributes that the servers of a group may have in common."""

START = "start"
"""The debt that every server has that we have stopped."""

SETTLED = frozenset({Phase.VERIFIED, Phase.FAILED, Phase.SKIPPED})
IN_FLIGHT = frozenset(Phase) - SETTLED - {Phase.WAITING}

TRANSITIONS: dict[Phase, dict[type, Phase]] = {
    Phase.WAITING: {
        ev.Admitted: Phase.STOPPING,
        ev.Skipped: Phase.SKIPPED,
    },
    Phase.DRAINING: {
        ev.DebtOwed: Phase.DRAINING,
        ev.DebtMade: Phase.DRAINING,
        ev.Drained: Phase.STOPPING,
    },
    Phase.STOPPING: {
        ev.DrainStarted: Phase.DRAINING,
        ev.StopRequested: Phase.STOPPING,
        ev.StopUnanswered: Phase.STOPPING,
        ev.Stopped: Phase.STOPPED,
    },
    Phase.STOPPED: {
        ev.ReinstallRequested: Phase.REQUESTED,
    },
    Phase.REQUESTED: {
        ev.ReinstallAccepted: Phase.REINSTALLING,
        ev.ReinstallUnanswered: Phase.REQUESTED,
        ev.ReinstallRefused: Phase.STOPPING,
        ev.ReinstallNotTaken: Phase.STOPPING,
    },
    Phase.REINSTALLING: {
        ev.JobVanished: Phase.REINSTALLING,
        ev.Reinstalled: Phase.REINSTALLED,
        ev.ReinstallFailed: Phase.STOPPING,
    },
    Phase.REINSTALLED: {
        ev.StartRequested: Phase.STARTING,
        ev.Started: Phase.VERIFYING,
    },
    Phase.STARTING: {
        ev.StartRequested: Phase.STARTING,
        ev.Started: Phase.VERIFYING,
    },
    Phase.VERIFYING: {
        ev.StartRequested: Phase.STARTING,
        ev.ChecksPassed: Phase.RETURNING,
    },
    Phase.RETURNING: {
        ev.StopRequested: Phase.RETURNING,
        ev.StopUnanswered: Phase.RETURNING,
        ev.StartRequested: Phase.RETURNING,
        ev.PutBack: Phase.WAITING,
        ev.Verified: Phase.VERIFIED,
    },
    Phase.VERIFIED: {
        ev.WentBad: Phase.FAILED,
    },
    Phase.FAILED: {
        ev.Retried: Phase.WAITING,
        ev.Skipped: Phase.SKIPPED,
    },
    Phase.SKIPPED: {
        ev.Retried: Phase.WAITING,  # only who was skipped because it had changed: see `check`
    },
}
for _phase in IN_FLIGHT:
    TRANSITIONS[_phase][ev.Failed] = Phase.FAILED
    TRANSITIONS[_phase][ev.Claimed] = _phase
    TRANSITIONS[_phase][ev.GivingUp] = Phase.RETURNING
    TRANSITIONS[_phase][ev.Skipped] = Phase.SKIPPED
for _phase in Phase:
    TRANSITIONS[_phase][ev.DebtPaid] = _phase
    TRANSITIONS[_phase][ev.UndoFailed] = _phase
    TRANSITIONS[_phase][ev.Unclaimed] = _phase  # also after it is settled: it is owed until it is done


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""What most servers owe. Shared by all of them: three empty dicts each are 20 MB for a hundred thousand."""


def _nothing() -> Mapping[str, Any]:
    return _NOTHING


class IllegalEventError(ValueError):
    """An event that cannot follow: the journal is not ours, or was tampered with, or we have a defect."""


@dataclass(slots=True)
class ServerState:
    """One server's way so far.

    Attributes:
        since: When it entered its phase.
        accepted: Reinstalls that the cloud took, in this go (a person's retry starts a new one).
        sent: Requests announced, in this go.
        doubted: A request of this go was left unanswered, so a refusal may be about an earlier one.
        stopped_by_us: We asked a running server to stop, and have not started it again.
        drained: Everything was done that is done before it is touched.
        owed: What was done, or begun, and not undone: True when it is known to have been done as a whole.
        debts: The same, with how it is undone.
        unpaid: Why it could not be undone, as far as that was tried; also of the start that is owed.
        giving_up: It is being put back, and this is why.
        was_off: It was off when we came.
        stop_asked: A stop was asked for and is not known to be over: a process that dies now leaves it open.
        late_stop: A stop of ours was left unanswered, so it may still land and turn the server off.
        start_asked: A start was asked for since the latest reinstall was taken.
        noted: The latest announcement, with the installation that was there before it.
        job: The job to follow, or None: then the server itself is watched.
        new_disk: The system disk that the checks passed with.
        reason, hint, code, request_id: Why it failed or was skipped.
        untouched: It failed with its old installation in place.
        wiped: The cloud took a reinstall of it, in whichever go; None: nobody could tell.
        disk_may_differ: The latest request was taken, so another system disk is our own doing.
        claim: Key of the claim tag that is, or may be, on the server and has to come off; or None.
        forgiven: It failed before the latest release, so it does not count towards the next hold.
        down: It failed with its installation lost, and nobody has verified it since: out of service.
        changed: It was skipped because it is not the server any more that was planned for.
        failed_in: The phase it failed from: part of its failure's signature.
        among: How many of its target were in flight when it was admitted, itself included.
    """

    member: Member
    phase: Phase = Phase.WAITING
    since: datetime | None = None
    started_at: datetime | None = None
    accepted: int = 0
    sent: int = 0
    doubted: bool = False
    stopped_by_us: bool = False
    drained: bool = False
    owed: Mapping[str, bool] = field(default_factory=_nothing)
    debts: Mapping[str, ev.DebtOwed] = field(default_factory=_nothing)
    unpaid: Mapping[str, str] = field(default_factory=_nothing)
    giving_up: ev.GivingUp | None = None
    was_off: bool = False
    stop_asked: bool = False
    late_stop: bool = False
    start_asked: bool = False
    noted: ev.ReinstallRequested | None = None
    job: JobId | None = None
    new_disk: str | None = None
    reason: str = ""
    hint: str = ""
    code: str | None = None
    request_id: str | None = None
    untouched: bool = False
    wiped: bool | None = False
    disk_may_differ: bool = False
    claim: str | None = None
    forgiven: bool = False
    down: bool = False
    changed: bool = False
    failed_in: Phase | None = None
    among: int = 0

    @property
    def is_out(self) -> bool:
        """Out of service as far as we are to blame: in flight, failed and left down, or left drained."""
        if self.owed and self.phase is not Phase.SKIPPED:
            return True
        return self.down or self.phase in IN_FLIGHT

    @property
    def is_undrained(self) -> bool:
        """In flight, and what is done before it is touched is still to be done, where the plan has any."""
        return self.phase in {Phase.STOPPING, Phase.DRAINING} and not self.drained and self.sent == 0

    @property
    def id(self) -> ServerId:
        """The cloud's id."""
        return self.member.id

    @property
    def label(self) -> str:
        """Name for people."""
        return self.member.name or self.member.id


@dataclass(slots=True)
class WaveState:
    """One wave: who waits, in order, and how many are not settled.

    Attributes:
        settled_at: When the last of its servers settled.
        baked: It was looked at again after its bake.
        approved: A person has let the next one begin.
    """

    waiting: deque[ServerId] = field(default_factory=deque)
    unsettled: int = 0
    size: int = 0
    started: bool = False
    settled_at: datetime | None = None
    baked: bool = False
    approved: bool = False


@dataclass(slots=True)
class TargetState:
    """One target: its waves and its counts.

    Attributes:
        current: Index of the first wave that is not settled; ``len(waves)`` when all are.
        baked: All waves before this index are settled and baked.
        forgiven: Of those that failed, how many a release has wiped off the slate.
        out: Servers out of service: in flight, failed and left down, or left drained.
        undrained: Servers in flight that are to be drained, or are being drained, if they have hooks.
        row: Failures since the last verified server, or the last release.
        pace: To how many in flight it was lowered, or None.
        took: Of those verified last: how many were in flight when it was admitted, or when it was
            verified if that was more, and its seconds.
    """

    name: str
    waves: list[WaveState] = field(default_factory=list)
    current: int = 0
    baked: int = 0
    # Every key is there from the start: the display counts in another thread, and a dict that grows
    # while it is looped over is an error.
    phases: Counter[Phase] = field(default_factory=lambda: Counter(dict.fromkeys(Phase, 0)))
    in_flight: int = 0
    size: int = 0
    forgiven: int = 0
    out: int = 0
    undrained: int = 0
    row: int = 0
    pace: int | None = None
    took: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=100))

    @property
    def failed(self) -> int:
        """Servers that failed."""
        return self.phases[Phase.FAILED]

    @property
    def finished(self) -> bool:
        """Every server of it is settled."""
        return self.current >= len(self.waves)


class Run:
    """A run, as its journal tells it. Changed by `apply` alone.

    Attributes:
        opened: Its first event.
        settings: The plan in force: the one it was opened with, or the latest edit.
        servers: By id, in the order of the rollout.
        held: Why nothing more is started, or None.
        held_at: Since when.
        progress_at: When a server was last moved on, to whichever phase; None: none ever was.
        finished_at: When the last word was that everybody is settled; None: it is not.
        everybody: A failure that would hit everybody and has not been released, or None.
        drained: Why this life starts nothing more, or None.
        paused: Why nobody new is started for now, of what only a live process sees; or None.
        lives: How many processes have worked on it.
        finished: The last word was that everybody is settled.
        groups_held: Groups of which nothing more is started, each with the reason.
        out_by: Servers out of service by attribute and value, of the attributes that `spread` names.
        verified_by: Servers verified by attribute and value, of the attributes in `GROUP_OF`.
        row: Failures since the last verified server of any target, or the last release.
        failures: Servers that failed and are not forgiven, in the order of failing.
    """

    def __init__(self, opened: ev.RunOpened, at: datetime) -> None:
        self.opened = opened
        self.opened_at = at
        self.last_at = at
        self.settings: Settings = opened.settings
        self.servers: dict[ServerId, ServerState] = {}
        self.targets: dict[str, TargetState] = {}
        self.held: str | None = None
        self.held_at: datetime | None = None
        self.progress_at: datetime | None = None
        self.finished_at: datetime | None = None
        self.everybody: str | None = None
        self.drained: str | None = None
        self.paused: str | None = None
        self.finished = False
        self.lives = 1
        self.groups_held: list[tuple[dict[str, str], str]] = []
        self.row = 0
        self.failures: dict[ServerId, None] = {}
        self.out_by: Counter[tuple[str, str]] = Counter()
        self.verified_by: Counter[tuple[str, str]] = Counter()
        self._spread = _spread_attributes(opened.settings)
        self._targets: dict[str, Target] = {target.name: target for target in opened.settings.targets}
        for target in opened.settings.targets:
            self.targets[target.name] = TargetState(target.name)
        for member in opened.members:
            if member.id in self.servers:
                raise IllegalEventError(f"server {member.id} is listed twice")
            if member.target not in self.targets or member.wave < 1:
                raise IllegalEventError(f"server {member.id} is in no target or wave of the plan")
            self.servers[member.id] = ServerState(member, since=at)
            state = self.targets[member.target]
            while len(state.waves) < member.wave:
                state.waves.append(WaveState())
            wave = state.waves[member.wave - 1]
            wave.waiting.append(member.id)
            wave.unsettled += 1
            wave.size += 1
            state.size += 1
            state.phases[Phase.WAITING] += 1

    @property
    def id(self) -> str:
        """The run's id."""
        return self.opened.run

    def target(self, server: ServerState) -> Target:
        """Return the settings of *server*'s target, as they are in force."""
        return self._targets[server.member.target]

    def edit(self, settings: Settings) -> None:
        """Put an edited plan in force."""
        self.settings = settings
        self._targets = {target.name: target for target in settings.targets}
        self._spread = _spread_attributes(settings)
        self.out_by = Counter(
            key
            for server in self.servers.values()
            if server.is_out
            for key in self.spread_keys(server.member)
        )

    def plan_of(self, target: str) -> Target:
        """Return the settings in force of the target of that name."""
        return self._targets[target]

    def spread_keys(self, member: Member) -> Iterator[tuple[str, str]]:
        """Yield the attributes that `spread` names, with the server's value of each."""
        for attribute in self._spread:
            yield attribute, attribute_of(member, attribute)

    def counts(self) -> Counter[Phase]:
        """Return the number of servers by phase, over all targets."""
        total: Counter[Phase] = Counter()
        for target in self.targets.values():
            total.update(target.phases)
        return total

    @property
    def in_flight(self) -> int:
        """Servers started and not settled."""
        return sum(target.in_flight for target in self.targets.values())

    @property
    def owes(self) -> bool:
        """Something of ours is, or may be, on a server that is settled, and has to be undone."""
        return any(owes(server) for server in self.servers.values() if server.phase in SETTLED)

    @property
    def is_settled(self) -> bool:
        """Nobody waits and nobody is in flight."""
        return all(target.finished for target in self.targets.values())


def owes(server: ServerState) -> bool:
    """Tell whether something that we did to a server is still to be undone."""
    return server.claim is not None or owes_undoing(server)


def owes_undoing(server: ServerState) -> bool:
    """Tell whether a server is not yet as it was found: drained, or stopped, by us and for nothing."""
    stopped = server.stopped_by_us and server.phase is Phase.FAILED and server.untouched
    return bool(server.owed) or stopped


def is_payable(server: ServerState) -> bool:
    """Tell whether a settled server is to be put back by itself: not one that failed after its wipe."""
    if server.phase is Phase.FAILED:
        return server.untouched and owes_undoing(server)
    return server.phase is Phase.VERIFIED and bool(server.owed)


def attribute_of(member: Member, attribute: str) -> str:
    """Return a server's value of an attribute of ``order`` and ``spread``; empty when it has none."""
    match attribute:
        case "availability_zone":
            return member.zone
        case _ if attribute.startswith("tag:"):
            return member.tags.get(attribute.removeprefix("tag:"), "")
        case _:
            return str(getattr(member, attribute))


def _spread_attributes(settings: Settings) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for target in settings.targets for name in target.rollout.spread))


def may_follow(server: ServerState, kind: type) -> bool:
    """Tell whether an event of *kind* may happen to a server as it stands."""
    if kind is ev.Retried and server.phase is Phase.SKIPPED and not server.changed:
        return False  # a person has taken it out
    return kind in TRANSITIONS[server.phase]


def check(run: Run, event: ev.Event) -> None:
    """Raise IllegalEventError if *event* cannot follow; ask before it is written down for good."""
    if isinstance(event, ev.RunOpened):
        raise IllegalEventError("the run is opened twice")
    if isinstance(event, ev.WaveStarted | ev.WaveBaked | ev.Approved):
        if event.target not in run.targets or not 1 <= event.wave <= len(run.targets[event.target].waves):
            raise IllegalEventError(f"no wave {event.wave} of target {event.target!r}")
    elif isinstance(event, ev.ServerEvent):
        server = run.servers.get(event.server)
        if server is None:
            raise IllegalEventError(f"{type(event).__name__} for {event.server}, which is not in the run")
        if not may_follow(server, type(event)):
            raise IllegalEventError(f"{type(event).__name__} for {server.label}, which is {server.phase}")


def apply(run: Run, event: ev.Event, at: datetime) -> None:
    """Fold *event*, which happened at *at*, into *run*.

    Raises:
        IllegalEventError: It cannot follow what was before.
    """
    check(run, event)
    run.last_at = at
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
        case ev.RunOpened() | ev.HookFailed() | ev.FreezeOverridden():
            pass  # `check` has refused it
        case _:
            _apply_to_server(run, event, at)


def _apply_to_server(run: Run, event: ev.ServerEvent, at: datetime) -> None:
    server = run.servers[event.server]
    before = server.phase
    after = TRANSITIONS[before][type(event)]
    was_out, was_undrained = server.is_out, server.is_undrained
    _note(run, server, event, at)
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


def _move(run: Run, server: ServerState, after: Phase, at: datetime) -> None:
    """Change the phase and keep every count right. Constant time but for a server taken out of order."""
    before, server.phase = server.phase, after
    target = run.targets[server.member.target]
    target.phases[before] -= 1
    target.phases[after] += 1
    target.in_flight += (after in IN_FLIGHT) - (before in IN_FLIGHT)
    index = server.member.wave - 1
    wave = target.waves[index]
    if before is Phase.WAITING:
        if wave.waiting and wave.waiting[0] == server.id:
            wave.waiting.popleft()
        else:
            wave.waiting.remove(server.id)
    if after is Phase.WAITING:
        wave.waiting.append(server.id)
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
        case ev.DebtPaid(debt=debt):
            server.unpaid = _without(server.unpaid, debt)
            if debt == START:
                server.stopped_by_us = False
                server.down = server.down and not server.untouched
            else:
                server.owed = _without(server.owed, debt)
                server.debts = _without(server.debts, debt)
                server.drained = False
        case ev.Drained():
            server.drained = True
        case ev.GivingUp():
            server.giving_up = event
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
    return {each: value for each, value in known.items() if each != key} or _NOTHING
