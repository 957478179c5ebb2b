"""After a wave: leave it alone for a while, then look at it again. Verified once is not well for good."""

from __future__ import annotations

from fleet.context import Context
from fleet.core.doubt import differences
from fleet.core.model import Server
from fleet.core.state import ServerState
from fleet.errors import NotFound

TRIES, PAUSE_S = 3, 10.0
"""One bad look proves nothing; three, with time in between, do."""

SAMPLE = 20
"""Servers of earlier waves that are looked at again along with the latest one: enough to see a poison that
hits one in ten (88 %), few enough to cost nothing."""


async def look_again(server: ServerState, ctx: Context) -> str | None:
    """Look at a verified server again; return what is wrong with it, or None."""
    wrong: str | None = None
    for attempt in range(TRIES):
        if attempt:
            await ctx.sleep(PAUSE_S)
        try:
            seen = await ctx.glance(server)
        except NotFound:
            return "it does not exist any more"
        wrong = await _what_is_wrong(server, ctx, seen)
        if wrong is None:
            return None
    return wrong


async def _what_is_wrong(server: ServerState, ctx: Context, seen: Server) -> str | None:
    if seen.system_disk != server.new_disk:
        return f"its system disk is {seen.system_disk or 'not shown'}, it was verified with {server.new_disk}"
    if server.was_off and ctx.target(server).leave == "as-found":
        return None  # it was put back off, so there is nothing to ask
    if not seen.is_on:
        return f"it does not stay up: {seen.state()}"
    plan = ctx.target(server).reinstall
    if changed := differences(server.member, server.noted, seen, key_pair=plan.key_pair):
        return "; ".join(changed)
    for check in ctx.target(server).verify.checks:
        if (why := await ctx.check(check, seen)) is not None:
            return why
    return None
