"""Where every server of a run stands: what the fold over its facts keeps (`fleet.core.fold`).

Changed in place, and by the fold alone: at 100,000 servers a copy an event would be all we do.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from fleet.core import events as ev
from fleet.core.events import Member
from fleet.core.line import Alike, Line
from fleet.core.model import JobId, ServerId
from fleet.core.phases import IN_FLIGHT, SETTLED, Phase
from fleet.core.settings import Settings, Target

__all__ = [
    "GROUP_OF", "IN_FLIGHT", "NOTHING", "SETTLED", "START", "IllegalEventError", "Phase", "Run",
    "ServerState", "TargetState", "WaveState", "attribute_of", "is_payable", "owes", "owes_undoing",
]  # fmt: skip

GROUP_OF = ("availability_zone", "flavor", "image")
"""Attributes that the servers of a group may have in common."""

START = "start"
"""The debt that every server has that we have stopped."""

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""What most servers owe. Shared by all of them: three empty dicts each are 20 MB for a hundred thousand."""


def _nothing() -> Mapping[str, Any]:
    return NOTHING


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
        back_on: It was put back and seen running, as it was before.
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
    back_on: bool = False
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

    waiting: Line = field(default_factory=Line)
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
    """A run, as its journal tells it. Changed by `fleet.core.fold` alone.

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
            wave.waiting.join(member.id, self.alike(member, is_out=False))
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
        for target in self.targets.values():
            for wave in target.waves:
                waiting, wave.waiting = wave.waiting, Line()
                for server_id in waiting:
                    server = self.servers[server_id]
                    wave.waiting.join(server_id, self.alike(server.member, is_out=server.is_out))

    def alike(self, member: Member, *, is_out: bool) -> Alike:
        """Return what a decision looks at in a waiting server of a target: see `fleet.core.rollout`."""
        spread = (attribute_of(member, attribute) for attribute in self._spread)
        return (is_out, member.zone, member.flavor, member.image, *spread)

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
