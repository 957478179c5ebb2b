"""What is done to a server that has to be undone: taken out of its pool, stopped, and put back.

A debt is in the journal before it is made, and leaves it when it is paid. Only what we did is undone, in
reverse order. A server that was not wiped is put back as it was found; one that failed after its wipe is not,
since a broken server must not get traffic: its debts stay owed until somebody settles them (`fleet settle`).
"""

from __future__ import annotations

import contextlib

from fleet.context import Context
from fleet.core.events import (
    DebtMade,
    DebtOwed,
    DebtPaid,
    Drained,
    Failed,
    PutBack,
    Skipped,
    StartRequested,
    UndoFailed,
)
from fleet.core.state import START, Phase, ServerState
from fleet.errors import Busy, CloudError, NotFound, OutcomeUnknown, Rejected, Unavailable
from fleet.hooks import NOTHING_DONE

START_S = 600.0
"""Seconds for a start, asked for again in between; usually 15 to 35."""

ASK_AGAIN_S = 60.0
"""A start that was accepted and then did nothing is asked for again: seen in a real Nova."""

UNDO_TRIES, UNDO_PAUSE_S = 3, 10.0
"""A pool may be busy for a moment; for longer it is a person's matter."""


async def drain(server: ServerState, ctx: Context) -> None:
    """Do what the plan wants done before the server is touched; a failure leaves it untouched."""
    whole = server.wiped is False  # else it has failed, and a broken server is not put back
    for number, pair in enumerate(ctx.target(server).hooks.around_server, start=1):
        debt = str(number)
        if server.owed.get(debt) and server.debts[debt].undo == pair.undo:
            continue
        if debt in server.unpaid and not whole:
            # To undo it gives traffic to a server that is not well; to go on wipes one that may have traffic.
            return ctx.fail(
                server,
                f"what is done before could not be undone: {server.unpaid[debt]}",
                hint="`fleet settle` first",
            )
        if debt in server.owed and (why := await _undo(server, ctx, debt)) is not None:
            # A process died in the middle of it, or it failed to be undone: how far it came nobody knows. Or
            # the plan was edited since.
            return ctx.fail(server, f"what was begun cannot be undone: {why}", untouched=whole)
        ctx.record(DebtOwed(server=server.id, debt=debt, undo=pair.undo, timeout_s=pair.timeout_s))
        ran = await ctx.hook(server, "do", pair.do, pair.timeout_s, debt=debt)
        if ran.why is not None:
            if not ran.begun or ran.code == NOTHING_DONE:
                ctx.record(DebtPaid(server=server.id, debt=debt))
            return ctx.fail(
                server, f"it was left alone: {ran.why}", hint="it was not stopped", untouched=whole
            )
        ctx.record(DebtMade(server=server.id, debt=debt))
    return ctx.record(Drained(server=server.id))


async def put_back(server: ServerState, ctx: Context) -> None:
    """Bring a server that was not wiped back to how it was found; then it has failed, or waits again."""
    up = server.giving_up
    assert up is not None  # noqa: S101 - the caller looked
    unpaid = await pay(server, ctx)
    if unpaid is None and up.back:
        return ctx.record(PutBack(server=server.id, reason=up.reason))
    if unpaid is None and up.skip:
        return ctx.record(Skipped(server=server.id, reason=up.reason, hint=up.hint, changed=True))
    owed = f"it could not be put back: {unpaid}; `fleet settle` tries again" if unpaid else ""
    hint = "; ".join(part for part in (up.hint, owed) if part)
    return ctx.record(
        Failed(
            server=server.id,
            reason=up.reason,
            hint=hint,
            code=up.code,
            request_id=up.request_id,
            everybody=up.everybody,
            untouched=True,
        )
    )


async def pay(server: ServerState, ctx: Context) -> str | None:
    """Undo what is owed to a server; return what could not be undone, and stays owed.

    A server that was verified, or put back on, some time ago is looked at first: who is off or gone by now
    gets no traffic.
    """
    well = server.back_on or server.phase is Phase.VERIFIED
    if well and (why := await _is_away(server, ctx)) is not None:
        for debt in sorted(server.owed):
            ctx.record(UndoFailed(server=server.id, debt=debt, why=why))
        return why
    if server.stopped_by_us and (server.giving_up is not None or server.phase is Phase.FAILED):
        try:
            why = await _start(server, ctx)
        except NotFound:
            why = None  # nobody is owed anything
        except CloudError as error:
            why = f"not started again: {error.message}"
        if why is not None:
            ctx.record(UndoFailed(server=server.id, debt=START, why=why))
            return why
        ctx.record(DebtPaid(server=server.id, debt=START))
    # One that cannot be undone is no reason to leave the others.
    debts = sorted(server.owed, key=int, reverse=True)
    wrong = [why for debt in debts if (why := await _undo(server, ctx, debt)) is not None]
    return "; ".join(wrong) or None


async def _is_away(server: ServerState, ctx: Context) -> str | None:
    """Say why a server that was well is not there any more; None for one that is given back off."""
    try:
        seen = await ctx.look(server)
    except NotFound:
        return "it does not exist any more"
    except (Rejected, Unavailable, OutcomeUnknown) as error:
        return f"it cannot be looked at: {error.message}"
    was = "verified" if server.phase is Phase.VERIFIED else "put back on"
    return None if seen.is_on or server.was_off else f"it was {was}, and is {seen.state()} by now"


async def _start(server: ServerState, ctx: Context) -> str | None:
    """Start a server that we had stopped; a stop of ours that may still land is waited for."""
    late_s = ctx.settle_s(server) if server.late_stop else 0.0
    while (watched := ctx.watched(server, "put back")) < START_S + late_s:
        seen = await ctx.look(server)
        if seen.is_on and ctx.watched(server, "late stop") >= late_s:
            return None
        if seen.is_off:
            if server.phase is Phase.RETURNING:
                ctx.record(StartRequested(server=server.id))
            # The next look tells, and it is asked again.
            with contextlib.suppress(Busy, Unavailable, OutcomeUnknown):
                await ctx.power_on(server)
        if late_s and seen.is_on:
            await ctx.sleep(min(10.0, late_s / 30))
        else:
            await ctx.until(server, lambda look: look.is_on, min(ASK_AGAIN_S, START_S + late_s - watched))
    return f"not started again after {START_S / 60:.0f} min: it is {(await ctx.look(server)).state()}"


async def _undo(server: ServerState, ctx: Context, debt: str) -> str | None:
    """Undo one debt; a few times, since pools are busy now and then."""
    how = server.debts[debt]
    why: str | None = None
    for attempt in range(UNDO_TRIES):
        if attempt:
            await ctx.sleep(UNDO_PAUSE_S)
        why = (await ctx.hook(server, "undo", how.undo, how.timeout_s, debt=debt)).why
        if why is None:
            ctx.record(DebtPaid(server=server.id, debt=debt))
            return None
    ctx.record(UndoFailed(server=server.id, debt=debt, why=why or ""))
    return why
