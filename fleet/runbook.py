"""The steps: one coroutine for each phase, in the order of the paper runbook.

A step looks before it acts, records what it learned, and keeps nothing for itself: what is done next
depends on the journal alone. Every wait ends, every end is an event.

The rule above all: `request_reinstall` announces, then calls, once. Whatever happens between, the server is
in doubt, and `find_out` looks; nobody asks again before the doubt is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from fleet import tagging
from fleet.cloud.api import ReinstallOrder
from fleet.context import Context
from fleet.core.doubt import Doubt, Verdict, differences, has_new_disk, is_reinstalling, may_wipe
from fleet.core.events import (
    ChecksPassed,
    DrainStarted,
    JobVanished,
    ReinstallAccepted,
    Reinstalled,
    ReinstallFailed,
    ReinstallNotTaken,
    ReinstallRefused,
    ReinstallRequested,
    ReinstallUnanswered,
    Started,
    StartRequested,
    Stopped,
    StopRequested,
    StopUnanswered,
    Verified,
)
from fleet.core.model import JobStatus, Server
from fleet.core.preflight import OURSELVES
from fleet.core.state import Phase, ServerState
from fleet.debts import ASK_AGAIN_S, START_S, drain, pay, put_back
from fleet.errors import Busy, NotFound, OutcomeUnknown, Rejected, Throttled, Unavailable

HARD_STOP_S = 300.0
"""Seconds for a power-off: usually 5 to 15; past some minutes only support helps (user guide)."""

UNANSWERED_AGAIN_S = 10.0
"""… sooner, when no answer came: a stop is quick where it was taken."""

START_GRACE_S = 60.0
"""How long the cloud gets to start a reinstalled server by itself, which it usually does."""

JOB_UNKNOWN_S = 30.0
"""A job may be unknown for the first half minute; after that it has vanished."""

JOB_LOOK_S = 30.0
"""A job is asked for this often, should the server not show that anything has changed. Where it shows that it
is worked on: not before nearly all of the reinstalls seen had ended, once enough were."""

ROOM_S = 1.0
"""How often a server that waits for others to have booted, or to be drained, looks whether they have."""

STOP, REINSTALL = "stop", "reinstall"
"""What is learnt from waiting, each by itself."""

LATE_STOP = "late stop"
"""What is watched: how long ago an unanswered stop was sent."""

BACKOFF_S = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Waits between requests that were provably not taken. A cloud that asks for more is asked again after the
longest: the server is down meanwhile, and has only its time."""

THROTTLED_S = 1.0
"""… and after a refusal for being too fast."""

SEND_BY_SHARE, TIMEOUT_SHARE = 0.1, 0.25
"""Of the settle time: how old an announcement may be when its request is sent, and how long its answer may
take. With the usual 300 s: 30 s and 75 s, which leaves 195 s for a gateway that still holds the request."""


async def stop(server: ServerState, ctx: Context) -> None:
    """Power the server off. Safe to ask twice."""
    plan = ctx.target(server)
    if server.accepted >= plan.reinstall.attempts:
        return ctx.fail(
            server,
            f"the reinstall failed {_times(server.accepted)}: {server.reason}",
            hint="look at the server in the console; `fleet retry` gives it another try",
            code=server.code,
        )
    if ctx.watched(server, f"acceptance/{server.accepted}") > plan.reinstall.timeout_s:
        last = f": {server.reason}" if server.reason else ""
        return ctx.fail(
            server,
            f"no reinstall was accepted within {_minutes(plan.reinstall.timeout_s)}{last}",
            untouched=server.wiped is False,
        )
    seen = await ctx.glance(server)
    if seen.locked:
        return ctx.leave(server, "it is locked, and was not", "its owner has to unlock it")
    if server.noted is None and (difference := await _unplanned(server, ctx, seen)) is not None:
        return ctx.leave(
            server,
            difference,
            "it was neither stopped nor wiped; `fleet retry` looks again, a new run plans anew",
        )
    if (other := await tagging.claim(server, ctx, seen)) is not None:
        return _leave_to(server, ctx, other)
    if ctx.target(server).hooks.around_server and server.is_undrained:
        while not ctx.has_room_to_drain():  # it ends: every hook has its time limit
            await ctx.sleep(ROOM_S)
        return ctx.record(DrainStarted(server=server.id))
    # The cloud stops it by itself, but never on a call that may be a repeat: a running server is the
    # cloud's own guard against a second wipe.
    if plan.reinstall.mode == "with-stop-server" and server.noted is None and seen.is_idle:
        return ctx.record(
            Stopped(server=server.id, state=seen.state(), was_off=seen.is_off, running=seen.is_on)
        )
    if _may_be_asked(seen):
        return ctx.record(
            Stopped(server=server.id, state=seen.state(), was_off=seen.is_off and not server.stopped_by_us)
        )
    off = await _power_off(server, ctx, seen, done=_may_be_asked)
    if off is not None:
        ctx.record(Stopped(server=server.id, state=off.state()))
    return None


def _leave_to(server: ServerState, ctx: Context, other: str) -> None:
    """Settle a server that another run works on."""
    ctx.leave(server, other, tagging.HINT)


async def _unplanned(server: ServerState, ctx: Context, seen: Server) -> str | None:
    """Say why the server is not the one that was planned for, before it is stopped for nothing.

    A list leaves fields out now and then, so a direct read has the last word.
    """
    if may_wipe(server, seen, ctx.settings, ctx.target(server)) is None:
        return None
    return may_wipe(server, await ctx.look(server), ctx.settings, ctx.target(server))


def _may_be_asked(seen: Server) -> bool:
    """Tell whether the cloud would take a reinstall: shut off, or left in error by a failed one."""
    return seen.is_off or (seen.is_idle and seen.status == "ERROR")


async def _power_off(
    server: ServerState, ctx: Context, seen: Server, *, done: Callable[[Server], bool]
) -> Server | None:
    """Stop a server softly, then by force if the plan says so; None when it was given up."""
    plan = ctx.target(server).stop
    phase = f"{server.phase}/{server.sent}"
    limits = {False: plan.soft_timeout_s, True: HARD_STOP_S if plan.then == "hard" else 0.0}
    for force, limit in limits.items():
        while (watched := ctx.watched(server, f"{force}/{phase}")) < limit:
            await _ask_to_stop(server, ctx, seen, force=force)
            again = UNANSWERED_AGAIN_S if server.late_stop else ASK_AGAIN_S
            off = await ctx.until(server, done, min(again, limit - watched), teaches=STOP, so_far_s=watched)
            if off is not None:
                return off
            seen = await ctx.look(server)
    if plan.then == "fail":
        ctx.fail(
            server,
            f"not stopped after {_minutes(plan.soft_timeout_s)}, and the plan forbids to power it off",
            hint="`stop: {then: hard}` would; the server may still shut down by itself",
            untouched=server.wiped is False,
        )
        return None
    ctx.fail(
        server,
        f"not powered off after {_minutes(HARD_STOP_S)}: it is {seen.state()}",
        hint="the cloud's support can, when a power-off hangs this long",
        untouched=server.wiped is False,
    )
    return None


async def _ask_to_stop(server: ServerState, ctx: Context, seen: Server, *, force: bool) -> None:
    """Ask once, if the server is one that can be asked."""
    if not (seen.is_on or (force and seen.status == "ACTIVE")):
        return
    ctx.record(StopRequested(server=server.id, force=force))
    try:
        await ctx.power_off(server, force=force)
    except (Busy, Unavailable):
        pass  # the next look tells, and it is asked again
    except OutcomeUnknown as error:
        ctx.watched(server, LATE_STOP)  # from now on
        ctx.record(StopUnanswered(server=server.id, reason=error.message))


async def request_reinstall(server: ServerState, ctx: Context) -> None:
    """Look one last time, announce, and make the call. Once."""
    while not ctx.has_room_to_boot():  # it ends: whoever boots is verified or given up in time
        await ctx.sleep(ROOM_S)
    # A queue behind the announcement would outlast it. Gates take their time as well, so both come before the
    # look that must be the last.
    await ctx.turn_to_wipe()
    if server.wiped is False and (why := await ctx.not_now()) is not None:
        return ctx.put_back(server, why)
    back = await ctx.way_back(server)
    if back.missing:
        return ctx.fail(
            server,
            back.missing,
            hint="it was not wiped; make a backup, then `fleet retry`",
            untouched=server.wiped is False,
        )
    seen = await _last_look(server, ctx)
    if seen is None:
        return None
    try:
        order = ctx.order(server, seen)
    except ValueError as error:
        return ctx.fail(server, str(error), untouched=server.wiped is False)
    if server.wiped is False and ctx.held is not None:
        return ctx.put_back(server, f"held: {ctx.held}")
    if ctx.has_room_to_boot():  # else somebody was quicker while we looked
        await _announce_and_call(server, ctx, order, seen, backup=back.id)
    return None


async def _last_look(server: ServerState, ctx: Context) -> Server | None:
    """Read the server and return it if it may be wiped as it is; else record why not."""
    plan = ctx.target(server).reinstall
    seen, other = await tagging.last_look(server, ctx)
    if other is not None:
        _leave_to(server, ctx, other)
        return None
    if (difference := may_wipe(server, seen, ctx.settings, ctx.target(server))) is not None:
        ctx.leave(
            server,
            difference,
            "it was not wiped; `fleet retry` looks again, a new run plans anew",
        )
        return None
    let_cloud_stop = plan.mode == "with-stop-server" and server.noted is None and seen.is_on
    if _may_be_asked(seen) or let_cloud_stop:
        return seen
    if seen.is_on:
        ctx.leave(
            server,
            "somebody has started it after it was stopped",
            "it was not wiped; `fleet retry` looks again, a new run plans anew",
        )
    elif await ctx.until(server, lambda look: look.is_idle, plan.timeout_s) is None:
        ctx.fail(
            server,
            f"it stays {seen.state()}, so it cannot be reinstalled",
            untouched=server.wiped is False,
        )
    return None


async def _announce_and_call(
    server: ServerState, ctx: Context, order: ReinstallOrder, seen: Server, *, backup: str
) -> None:
    """Write down that the call is about to be made, and what is there now; then make it."""
    plan = ctx.target(server).reinstall
    announced = ctx.boottime()
    ctx.record(
        ReinstallRequested(
            server=server.id,
            attempt=server.accepted + 1,
            call=order.call,
            system_disk=seen.system_disk,
            data_disks=seen.data_disks,
            state=seen.state(),
            updated=seen.updated,
            settle_s=plan.settle_s,
            backup=backup,
        )
    )
    try:
        accepted = await ctx.reinstall(
            order,
            send_by=announced + SEND_BY_SHARE * plan.settle_s,
            timeout_s=TIMEOUT_SHARE * plan.settle_s,
        )
    except OutcomeUnknown as error:
        ctx.record(ReinstallUnanswered(server=server.id, reason=error.message))
    except (Unavailable, Busy) as error:
        if isinstance(error, Busy) and seen.status == "ERROR" and not server.doubted and server.sent > 2:
            # Nothing passes: this cloud takes stopped servers only, and an ERROR does not end by itself.
            _refused(server, ctx, error)
            return ctx.fail(
                server,
                f"it is in ERROR, and the cloud does not reinstall it so: {error.message}",
                cause=error,
                untouched=server.wiped is False,
            )
        await _not_now(server, ctx, error)
    except Rejected as error:
        _refused(server, ctx, error)
        ctx.fail(server, f"refused: {error.message}", cause=error, untouched=server.wiped is False)
    else:
        ctx.record(ReinstallAccepted(server=server.id, job=accepted.job, request_id=accepted.request_id))


async def _not_now(server: ServerState, ctx: Context, error: Unavailable | Busy) -> None:
    """Deal with a request that was provably not taken, but may be later."""
    if isinstance(error, Busy) and server.doubted:
        # An earlier request of ours may be what it is busy with, after all.
        return ctx.record(ReinstallUnanswered(server=server.id, reason=f"busy: {error.message}"))
    _refused(server, ctx, error)
    wait = error.retry_after_s if isinstance(error, Unavailable) else None
    # Too fast is a matter of turns, and the next request waits for one of its own.
    least = THROTTLED_S if isinstance(error, Throttled) else BACKOFF_S[min(server.sent, len(BACKOFF_S)) - 1]
    await ctx.sleep(max(min(wait or 0.0, BACKOFF_S[-1]), least))
    return None


def _refused(server: ServerState, ctx: Context, error: Unavailable | Rejected) -> None:
    ctx.record(
        ReinstallRefused(server=server.id, reason=error.message, code=error.code, request_id=error.request_id)
    )


async def find_out(server: ServerState, ctx: Context) -> None:
    """In doubt: look, do not ask again. A crash after the announcement ends here as well."""
    noted = server.noted
    assert noted is not None  # noqa: S101 - REQUESTED is entered by the announcement alone
    doubt = Doubt(noted, limit_s=max(ctx.target(server).reinstall.timeout_s, 2 * noted.settle_s))
    pause = min(15.0, max(0.2, noted.settle_s / 20))
    while True:
        seen = await ctx.look(server)
        found = doubt.look(seen, watched_s=ctx.watched(server))
        match found.verdict:
            case Verdict.TAKEN:
                return ctx.record(ReinstallAccepted(server=server.id, job=found.job, evidence=found.evidence))
            case Verdict.NOT_TAKEN:
                return ctx.record(ReinstallNotTaken(server=server.id, evidence=found.evidence))
            case Verdict.UNDECIDABLE:
                return ctx.fail(
                    server,
                    f"undecidable whether the reinstall was taken: {found.evidence}",
                    hint="look at the server and at the cloud's audit trail; `fleet retry` it if it was not "
                    "taken, `fleet skip` it otherwise",
                )
            case Verdict.KEEP_LOOKING:
                await ctx.sleep(pause)


async def follow(server: ServerState, ctx: Context) -> None:
    """Follow the cloud's work to its end: by its job, or by the server when the job is not known."""
    limit = ctx.target(server).reinstall.timeout_s
    noted = server.noted
    assert noted is not None  # noqa: S101 - announced before it was accepted
    pause = min(1.0, noted.settle_s / 100)
    worked = False

    def over(look: Server) -> bool:
        nonlocal worked
        if _looks_over(server, look):
            return True
        if is_reinstalling(look) or look.system_disk is None:
            worked = True
            return False
        # It was worked on, and stands with its old disk again. Whether that is a failure or a false idle
        # state its job will say; where none is known, this proves nothing.
        stands = look.is_idle and not has_new_disk(noted, look)
        return worked and stands and server.job is not None

    asked = False
    while (watched := ctx.watched(server)) < limit:
        # A changed server is worth a question; a standing one seldom. Of one that nobody has seen worked on a
        # first question comes early: its job may have failed at once.
        unseen = not (worked or asked)
        usual = 0.0 if unseen else ctx.nearly_all_s(REINSTALL) or 0.0
        seen = await ctx.until(
            server,
            over,
            min(max(JOB_LOOK_S, usual - watched), limit - watched),
            teaches=REINSTALL,
            so_far_s=watched,
        )
        if unseen and worked and seen is None:
            continue
        if server.job is not None:
            asked = True
            if await _ask_job(server, ctx):
                return None
            if seen is not None:  # jobs lag behind their servers by up to some seconds
                await ctx.sleep(pause)
                pause = min(10.0, pause * 1.5)
        elif seen is not None and (same := await _steady(server, ctx, seen)) is not None:
            if has_new_disk(noted, same):
                evidence = f"system disk {same.system_disk} instead of {noted.system_disk}"
                return ctx.record(Reinstalled(server=server.id, evidence=evidence))
            reason = f"the server is in error{': ' + same.fault if same.fault else ''}"
            return ctx.record(ReinstallFailed(server=server.id, reason=reason))
    seen = await ctx.look(server)
    ctx.fail(
        server,
        f"the reinstall is not over after {_minutes(limit)}: the server is {seen.state()}",
        hint="the cloud may still be working on it: leave it alone until its job has ended",
    )
    return None


async def _ask_job(server: ServerState, ctx: Context) -> bool:
    """Ask for the job; tell whether that settled the phase."""
    assert server.job is not None  # noqa: S101 - the caller looked
    job = await ctx.job(server)
    if job is None:
        if ctx.watched(server) >= JOB_UNKNOWN_S:
            ctx.record(JobVanished(server=server.id, job=server.job))
        return False
    match job.status:
        case JobStatus.SUCCESS:
            ctx.record(Reinstalled(server=server.id, evidence=f"job {job.id} SUCCESS"))
            return True
        case JobStatus.FAIL:
            reason = job.reason or "the cloud's job failed without a reason"
            ctx.record(ReinstallFailed(server=server.id, reason=reason, code=job.code))
            return True
        case JobStatus.RUNNING:
            return False


def _looks_over(server: ServerState, seen: Server) -> bool:
    """Tell whether one look suggests that the reinstall has ended."""
    if server.noted is None or not seen.is_idle or is_reinstalling(seen):
        return False
    # Off with a new disk is on its way up, or left off: without a job to tell, `_steady` does.
    up = seen.is_on or seen.installed or server.job is None
    return seen.status == "ERROR" or (up and has_new_disk(server.noted, seen))


async def _steady(server: ServerState, ctx: Context, first: Server) -> Server | None:
    """Look again, twice, with time in between: one sample proves nothing. None when it moved."""
    settle = server.noted.settle_s if server.noted else 300.0
    for _ in range(2):
        await ctx.sleep(min(10.0, settle / 30))
        seen = await ctx.look(server)
        if (seen.state(), seen.system_disk) != (first.state(), first.system_disk):
            return None
    return first


async def come_back(server: ServerState, ctx: Context) -> None:
    """Wait for the reinstalled server to run; start it if the cloud leaves it off."""
    settle = server.noted.settle_s if server.noted else 300.0
    grace = min(START_GRACE_S, settle / 5)
    limit = ctx.target(server).verify.timeout_s + START_S
    while (watched := ctx.watched(server)) < limit:
        # The look that told that it is over tells this too; `verify` looks anew.
        rest = await ctx.until(
            server,
            lambda look: look.is_on or (look.is_off and look.installed),
            min(grace, limit - watched),
            recent=True,
        )
        if rest is not None and rest.is_on:
            return ctx.record(Started(server=server.id))
        seen = await ctx.look(server)
        if seen.is_off and (seen.installed or ctx.watched(server) >= grace):
            return ctx.record(StartRequested(server=server.id))
        if seen.status == "ERROR" and seen.is_idle and await _steady(server, ctx, seen) is not None:
            break
    seen = await ctx.look(server)
    return ctx.fail(
        server,
        f"it does not run after the reinstall: {seen.state()}{': ' + seen.fault if seen.fault else ''}",
        hint="the cloud says that it was reinstalled; look at it in the console",
    )


async def start(server: ServerState, ctx: Context) -> None:
    """Start the reinstalled server. Safe to ask twice, and asked again when nothing comes of it."""
    while (watched := ctx.watched(server)) < START_S:
        seen = await ctx.look(server)
        if seen.is_off:
            with contextlib.suppress(Busy, Unavailable, OutcomeUnknown):  # the next look tells
                await ctx.power_on(server)
        if await ctx.until(server, lambda look: look.is_on, min(ASK_AGAIN_S, START_S - watched)) is not None:
            return ctx.record(Started(server=server.id))
    seen = await ctx.look(server)
    return ctx.fail(server, f"not started after {_minutes(START_S)}: it is {seen.state()}")


async def verify(server: ServerState, ctx: Context) -> None:
    """Prove it: steady, a new system disk, everything else as before, and the plan's checks, for a while."""
    plan = ctx.target(server).verify
    noted = server.noted
    assert noted is not None  # noqa: S101 - nothing is verified that was not asked for
    pause = min(5.0, max(0.2, plan.timeout_s / 60))
    # A stop that nobody answered can land as late as any request: not verified before that is past.
    late_s = noted.settle_s if server.late_stop else 0.0
    good_since: float | None = None
    confirmed = False
    wrong = "it was not seen running"
    while (watched := ctx.watched(server)) < plan.timeout_s + late_s:
        # The first of the looks may be a moment old, those that confirm it are new ones.
        seen = await ctx.until(
            server,
            lambda look: look.is_on,
            min(pause * 4, plan.timeout_s + late_s - watched),
            recent=good_since is None,
            soon=not confirmed,
        )
        if seen is None:
            good_since, wrong = None, "it does not stay up"
            # One look said that it runs, and no second one: a cloud that passes through ACTIVE on its way to
            # off (Nova does, for a server that was off) may have been caught in passing.
            in_passing = not confirmed and not server.start_asked
            if (late_s or in_passing) and (await ctx.look(server)).is_off:
                return ctx.record(StartRequested(server=server.id))
            continue
        found = await _what_is_wrong(server, ctx, seen)
        if found is not None:
            good_since, wrong = None, found
            await ctx.sleep(pause)
            continue
        watched = ctx.watched(server)
        good_since = watched if good_since is None else good_since
        # At least two looks, however short `stable_for` is: a false idle state is gone in the second.
        confirmed = confirmed or watched > good_since
        settled = watched - good_since >= plan.stable_for_s and ctx.watched(server, LATE_STOP) >= late_s
        if watched > good_since and settled:
            return ctx.record(ChecksPassed(server=server.id, system_disk=seen.system_disk))
        await ctx.sleep(min(pause, max(0.01, plan.stable_for_s - (watched - good_since))))
    return ctx.fail(
        server,
        f"not verified within {_minutes(plan.timeout_s)}: {wrong}",
        hint="it was reinstalled; it is not reinstalled again unless you `fleet retry` it",
    )


async def _what_is_wrong(server: ServerState, ctx: Context, seen: Server) -> str | None:
    """Return the first thing that is not as it should be, or None."""
    assert server.noted is not None  # noqa: S101 - as in `verify`
    if not has_new_disk(server.noted, seen):
        return f"the cloud reports success, but the system disk is still {seen.system_disk or 'not shown'}"
    plan = ctx.target(server).reinstall
    if changed := differences(server.member, server.noted, seen, key_pair=plan.key_pair):
        return "; ".join(changed)
    for check in ctx.target(server).verify.checks:
        if (why := await ctx.check(check, seen)) is not None:
            return why
    return None


async def give_back(server: ServerState, ctx: Context) -> None:
    """Leave the server as it was found: off again, in its pool again. Or put it back, when it is given up."""
    if server.giving_up is not None:
        return await put_back(server, ctx)
    if server.was_off and ctx.target(server).leave == "as-found":
        seen = await ctx.look(server)
        off = seen if seen.is_off else await _power_off(server, ctx, seen, done=lambda look: look.is_off)
        if off is None:
            return None
    await pay(server, ctx)  # what cannot be paid stays owed, and the run does not end well
    return ctx.record(Verified(server=server.id))


Step = Callable[[ServerState, Context], Awaitable[None]]

RUNBOOK: dict[Phase, Step] = {
    Phase.DRAINING: drain,
    Phase.STOPPING: stop,
    Phase.STOPPED: request_reinstall,
    Phase.REQUESTED: find_out,  # in doubt: look, do not ask again
    Phase.REINSTALLING: follow,
    Phase.REINSTALLED: come_back,
    Phase.STARTING: start,
    Phase.VERIFYING: verify,
    Phase.RETURNING: give_back,
}


async def take_step(server: ServerState, ctx: Context) -> None:
    """Take the step that serves the server's phase. What any step may meet is dealt with here."""
    if server.id.lower() in ctx.own_ids and server.phase in {Phase.STOPPING, Phase.STOPPED}:
        # The pre-flight leaves it out, but a run can be resumed on one of its own servers.
        ctx.fail(server, OURSELVES, hint="resume the run on another machine", untouched=server.wiped is False)
        return
    try:
        await RUNBOOK[server.phase](server, ctx)
    except NotFound as error:
        ctx.fail(server, "the server does not exist any more", cause=error)
    except Rejected as error:
        ctx.fail(server, error.message, cause=error, untouched=server.wiped is False)
    except (Unavailable, OutcomeUnknown) as error:
        # The cloud answers for others and not for this one, for half an hour: see `Observer.look`.
        ctx.fail(server, f"the cloud gives no answer about it: {error.message}", cause=error)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
