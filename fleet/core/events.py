"""The facts of a run, in the past tense. This is the format of files already on disk.

One event is one line of the journal. Add a type, or a field with a default; never rename, never change a
meaning: a kept journal of every released format is read by a test. `FORMAT` goes up only when an older
`fleet` could misread a newer journal.
"""

from __future__ import annotations

from typing import TypeGuard, get_args

import msgspec

from fleet.core.model import Call, JobId, ServerId
from fleet.core.settings import Settings

FORMAT = 1


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the run, as it was when the run was opened: who is meant, beyond doubt.

    Attributes:
        target: Name of its target.
        wave: Counted from 1 within the target.
        call: Which call installs it.
        image: What that call installs.
        status: Its state at that time.
    """

    id: ServerId
    name: str
    target: str
    wave: int
    call: Call
    image: str = ""
    status: str = ""
    system_disk: str | None = None
    data_disks: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    flavor: str = ""
    zone: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    key_pair: str = ""


class RunOpened(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="RunOpened"):
    """First line of every journal: what is to be done, to whom, with what.

    Attributes:
        format: Of the journal.
        cloud: Which cloud and project, in words; a resume on another one is refused.
        project: Its project id.
        plan_path: Where the plan was, for people and for a later ``fleet run`` of it.
        limit: What ``--limit`` narrowed it to.
        seed: What a shuffled order was drawn from.
        manifest: Digest of the manifest that it carries out and so uses up; empty: none.
    """

    format: int
    run: str
    fleet: str
    settings: Settings
    members: tuple[Member, ...]
    cloud: str
    project: str
    user: str
    plan_path: str
    host: str
    pid: int
    limit: tuple[str, ...] = ()
    seed: int = 0
    manifest: str = ""


class RunResumed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="RunResumed"):
    """A new life of the run: another process goes on with it.

    Attributes:
        settings: The edited plan, or None when nothing changed.
        changes: What the edit changed, in words.
    """

    host: str
    pid: int
    settings: Settings | None = None
    changes: tuple[str, ...] = ()


class RunHeld(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="RunHeld"):
    """Nothing more is started until somebody releases it, because of failures or because a person said so.

    Attributes:
        by: Who said so; empty: `decide` did.
    """

    reason: str
    by: str = ""


class GroupHeld(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="GroupHeld"):
    """Nothing more of one group is started, because of a failure that only this group meets.

    Attributes:
        group: Attribute (as in ``rollout.order``) to value; a server with all of them is of the group.
    """

    group: dict[str, str]
    reason: str


class FreezeOverridden(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="FreezeOverridden"):
    """In this life frozen days do not count, because a person said so."""

    reason: str
    by: str = ""


class HookFailed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="HookFailed"):
    """A hook whose failure changes nothing did not go well."""

    hook: str
    why: str


class PaceLowered(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="PaceLowered"):
    """Fewer of a target are in flight from now on: more at once only made each slower."""

    target: str
    concurrency: int
    reason: str


class Approved(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Approved"):
    """A person lets the waves behind this one begin."""

    target: str
    wave: int
    reason: str
    by: str = ""


class WaveBaked(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="WaveBaked"):
    """A wave was left alone for its time and then looked at again; who did not stand it has `WentBad`."""

    target: str
    wave: int


class RunReleased(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="RunReleased"):
    """Somebody lets a held run go on. Failures so far no longer count towards the next hold."""

    reason: str
    by: str = ""


class RunDrained(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="RunDrained"):
    """Nothing more is started in this life, because the operator said so; a later run goes on."""

    reason: str


class Paused(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Paused"):
    """Nobody new is started for now: a gate is red, a window closed, or other runs fill the machine."""

    reason: str


class Unpaused(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Unpaused"):
    """What nobody was started for is over."""


class RunFinished(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="RunFinished"):
    """Every server of the run is settled."""

    verified: int
    failed: int
    skipped: int


class WaveStarted(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="WaveStarted"):
    """The first server of a wave is about to be started. For people; decides nothing."""

    target: str
    wave: int
    of: int
    servers: int


class Admitted(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Admitted"):
    """The server is in flight from here on."""

    server: ServerId


class Claimed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Claimed"):
    """The server is about to be tagged as ours. Written before the call: we owe that the tag comes off again.

    Attributes:
        key: Of the tag.
    """

    server: ServerId
    key: str


class Unclaimed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Unclaimed"):
    """Our tag is off the server again."""

    server: ServerId


class DrainStarted(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="DrainStarted"):
    """What the plan wants done before the server is touched is being done."""

    server: ServerId


class DebtOwed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="DebtOwed"):
    """Something that must be undone is about to be done. Written before it is done.

    Attributes:
        debt: Which: the number of the pair in the plan's ``around_server``, counted from 1.
        undo, timeout_s: How it is undone, also should the plan be edited meanwhile.
    """

    server: ServerId
    debt: str
    undo: tuple[str, ...] = ()
    timeout_s: float = 300.0


class DebtMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="DebtMade"):
    """It was done, all of it."""

    server: ServerId
    debt: str


class DebtPaid(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="DebtPaid"):
    """It was undone.

    Attributes:
        debt: As in `DebtOwed`; ``start``: a server that we had stopped runs again.
        by, reason: Who says so and why, when a person has undone it by hand.
    """

    server: ServerId
    debt: str
    by: str = ""
    reason: str = ""


class UndoFailed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="UndoFailed"):
    """It could not be undone, and stays owed. As often as it is tried.

    Attributes:
        debt: As in `DebtPaid`.
    """

    server: ServerId
    debt: str
    why: str


class Drained(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Drained"):
    """Everything was done that the plan wants done before the server is touched."""

    server: ServerId


class StopRequested(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="StopRequested"):
    """The cloud is about to be asked to stop a running server. Written before the call: we owe its start."""

    server: ServerId
    force: bool = False


class StopUnanswered(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="StopUnanswered"):
    """No usable answer came to a stop: it may land much later, when the server is up again."""

    server: ServerId
    reason: str


class Stopped(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Stopped"):
    """The server may be reinstalled as far as its power goes.

    Attributes:
        state: What was seen.
        was_off: It was off before we came.
        running: It still runs: the plan lets the cloud stop it.
    """

    server: ServerId
    state: str
    was_off: bool = False
    running: bool = False


class ReinstallRequested(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ReinstallRequested"
):
    """The destructive call is about to be made. On the disk before the first byte is sent.

    From here on the server is in doubt until an answer, or the look that replaces it, is recorded.

    Attributes:
        attempt: Counted from 1.
        system_disk, data_disks, state, updated: The present installation, to tell a new one from it.
        settle_s: How long an unanswered request is to be watched.
        backup: The cloud's id of the backup that the server can be brought back to, where the plan asked.
    """

    server: ServerId
    attempt: int
    call: Call
    system_disk: str | None
    data_disks: tuple[str, ...]
    state: str
    updated: str
    settle_s: float
    backup: str = ""


class ReinstallAccepted(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ReinstallAccepted"
):
    """The cloud took the call.

    Attributes:
        job: Its job, or None when the answer was lost and the acceptance was seen on the server.
        evidence: What was seen, in that case.
    """

    server: ServerId
    job: JobId | None = None
    request_id: str | None = None
    evidence: str = ""


class ReinstallRefused(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ReinstallRefused"):
    """The call was provably not taken: never sent, or refused."""

    server: ServerId
    reason: str
    code: str | None = None
    request_id: str | None = None


class ReinstallUnanswered(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ReinstallUnanswered"
):
    """No usable answer came: the call may have been taken. Stays in doubt."""

    server: ServerId
    reason: str


class ReinstallNotTaken(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ReinstallNotTaken"
):
    """The doubt is over: after the settle time the server still stands as before."""

    server: ServerId
    evidence: str


class JobVanished(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="JobVanished"):
    """The cloud does not know the job (any more): the server itself has to tell."""

    server: ServerId
    job: JobId


class Reinstalled(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Reinstalled"):
    """The cloud's work is done, by its job or by what the server shows."""

    server: ServerId
    evidence: str


class ReinstallFailed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ReinstallFailed"):
    """The cloud's job failed. The server may be reinstalled again, if the plan has attempts left."""

    server: ServerId
    reason: str
    code: str = ""


class StartRequested(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="StartRequested"):
    """The cloud is about to be asked to start the reinstalled server, which it left off."""

    server: ServerId


class Started(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Started"):
    """The reinstalled server runs."""

    server: ServerId


class ChecksPassed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ChecksPassed"):
    """New system disk, everything else as before, all of the plan's checks passed and stayed so."""

    server: ServerId
    system_disk: str | None


class Verified(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Verified"):
    """Done, and proved."""

    server: ServerId


class GivingUp(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="GivingUp"):
    """It is not wiped after all, and is put back as it was found; `Failed`, `PutBack` or `Skipped` follows.

    Attributes:
        back: It waits again afterwards: nothing is wrong with it, it is only not its time.
        skip: It is left alone afterwards: somebody has changed it since it was planned for.
        reason, hint, code, request_id, everybody: As in `Failed`.
    """

    server: ServerId
    reason: str
    hint: str = ""
    code: str | None = None
    request_id: str | None = None
    everybody: bool = False
    back: bool = False
    skip: bool = False


class PutBack(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="PutBack"):
    """It is as it was found, and waits again."""

    server: ServerId
    reason: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Failed"):
    """Given up, with what an operator needs to know.

    Attributes:
        reason: What happened.
        hint: What to do about it.
        code, request_id: The cloud's own, for its support.
        everybody: The cause would hit every server of the plan.
        untouched: The old installation is still there.
    """

    server: ServerId
    reason: str
    hint: str = ""
    code: str | None = None
    request_id: str | None = None
    everybody: bool = False
    untouched: bool = False


class WentBad(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="WentBad"):
    """It was verified, and a later look shows that it is not well."""

    server: ServerId
    reason: str


class Skipped(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Skipped"):
    """Taken out of the run: by a person, before it was started or after it failed, or because it changed.

    Attributes:
        changed: Nobody said so: it is not the server any more that was planned for, and was not wiped.
        hint: What to do about it.
    """

    server: ServerId
    reason: str
    changed: bool = False
    hint: str = ""


class Retried(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="Retried"):
    """A person gives a failed server another try, from the beginning."""

    server: ServerId
    reason: str


ServerEvent = (
    Admitted
    | Claimed
    | Unclaimed
    | DrainStarted
    | DebtOwed
    | DebtMade
    | DebtPaid
    | UndoFailed
    | Drained
    | StopRequested
    | StopUnanswered
    | Stopped
    | ReinstallRequested
    | ReinstallAccepted
    | ReinstallRefused
    | ReinstallUnanswered
    | ReinstallNotTaken
    | JobVanished
    | Reinstalled
    | ReinstallFailed
    | StartRequested
    | Started
    | ChecksPassed
    | Verified
    | GivingUp
    | PutBack
    | Failed
    | WentBad
    | Skipped
    | Retried
)
RunEvent = (
    RunOpened
    | RunResumed
    | RunHeld
    | GroupHeld
    | RunReleased
    | RunDrained
    | RunFinished
    | WaveStarted
    | Approved
    | PaceLowered
    | HookFailed
    | FreezeOverridden
    | WaveBaked
    | Paused
    | Unpaused
)
Event = ServerEvent | RunEvent

_SERVER_EVENTS: frozenset[type] = frozenset(get_args(ServerEvent))


def is_of_server(event: Event) -> TypeGuard[ServerEvent]:
    """Tell whether an event is about one server; `isinstance` would try the types one by one."""
    return type(event) in _SERVER_EVENTS


SYNCED: frozenset[type] = frozenset(
    {
        RunOpened,
        RunResumed,
        RunHeld,
        GroupHeld,
        RunReleased,
        RunDrained,
        RunFinished,
        Approved,
        FreezeOverridden,
        WaveBaked,
        WentBad,
        Claimed,
        DebtOwed,
        DebtPaid,
        GivingUp,
        PutBack,
        StopRequested,
        ReinstallRequested,
        ReinstallAccepted,
        ReinstallNotTaken,
        ReinstallFailed,
        Failed,
        Verified,
        Skipped,
        Retried,
    }
)
"""Events that are on the disk before anything else happens. The others may be lost in a power cut (never in
a crash of the process), and looking at the server finds them again."""
