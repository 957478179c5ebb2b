"""After a wave: leave it alone for a while, then look at it again. Verified once is not well for good."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice

from fleet.context import Context
from fleet.core.doubt import differences
from fleet.core.model import Server
from fleet.core.state import Phase, ServerState
from fleet.errors import NotFound, OutcomeUnknown, Rejected, Unavailable

TRIES, PAUSE_S = 3, 10.0
"""One bad look proves nothing; three, with time in between, do."""

SAMPLE = 20
"""Servers of earlier waves that are looked at again along with the latest one: enough to see a poison that
hits one in ten (88 %), few enough to cost nothing."""


def whom_to_look_at(servers: Sequence[ServerState], wave: int) -> Iterator[ServerState]:
    """Yield the verified servers of a wave, and a sample, evenly spread, of the waves before it.

    Costs the size of the wave and of the sample, however many are settled.

    Args:
        servers: Of one target, in the order of its waves.
        wave: Its number.
    """
    begin, end = (
        bisect_left(servers, each, key=lambda server: server.member.wave) for each in (wave, wave + 1)
    )
    yield from (server for server in servers[begin:end] if server.phase is Phase.VERIFIED)
    step = max(1, -(-begin // SAMPLE))
    for start in range(0, begin, step):
        stretch = (servers[place] for place in range(start, min(start + step, begin)))
        yield from islice((server for server in stretch if server.phase is Phase.VERIFIED), 1)


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
        except (Rejected, Unavailable, OutcomeUnknown) as error:
            wrong = f"the cloud gives no answer about it: {error.message}"
            continue
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
