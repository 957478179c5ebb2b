"""Claims on servers, for runs on other machines to see: make one, look whether it stands alone, take it off.

The order is what it rests on: first our own claim is written, then the server is read. Of two runs that both
do so at least one sees the other, whatever the timing, as long as a read shows every write that was answered
before it (``docs/claims.md``: what that excludes, and what not). A run goes on only when its claim stands
alone, once before the server is stopped and once more at the last look. A claim of another run is honoured
also by a plan that makes none itself, and it is never taken off here, however old it is.
"""

from __future__ import annotations

from fleet.context import Context
from fleet.core.claimtag import Claims, sort_out, yields
from fleet.core.events import Claimed, Unclaimed
from fleet.core.model import Server
from fleet.core.state import ServerState
from fleet.errors import CloudError, NotFound, Rejected

PAUSE_S = 2.0
"""Between looks while somebody has to give way."""

YIELD_LOOKS = 10
"""Of two that claim at the same time, the one that need not yield looks so often, then gives way as well:
the other one was there before, or is dead."""

LAST_LOOKS = 25
"""At the last look: so often for somebody who came later, sees us, and gives way. Longer than that takes."""

HINT = (
    "it was not wiped; wait until the other run has ended. If that run is dead and nobody will resume it: "
    "`fleet unclaim` says how old its claims are, and takes them off"
)


def _sort_out(server: ServerState, ctx: Context, seen: Server) -> Claims:
    key = server.claim if server.id in ctx.claimed else None
    return sort_out(seen.claims, ctx.run_id, ctx.life, key)


def _words(found: Claims) -> str:
    return f"another run works on it: {'; '.join(found.others)}"


async def claim(server: ServerState, ctx: Context, seen: Server) -> str | None:
    """Claim a server before anything is done to it; does nothing when this life has claimed it already.

    Args:
        server: The server.
        ctx: The verbs.
        seen: A recent look at it. Nothing is written when it shows another's claim, and a fresh one as well.

    Returns:
        None when nobody else works on it; else who does, in words, and no claim of ours is left on it.

    Raises:
        CloudError: The claim could not be written. It may be on the server, and stays owed.
    """
    if server.id in ctx.claimed:
        return None  # who has come since is for the last look
    if _sort_out(server, ctx, seen).others:  # a list may lag; a direct read has the last word
        found = _sort_out(server, ctx, await ctx.look(server))
        if found.others:
            return _words(found)
    if not ctx.settings.claim:
        return None
    tag = ctx.claim_tag()
    ctx.record(Claimed(server=server.id, key=tag.key))
    ctx.claimed.add(server.id)
    try:
        await ctx.tag(server, {tag.key: tag.value()})
    except Rejected:  # provably not done: nothing is owed
        ctx.claimed.discard(server.id)
        ctx.record(Unclaimed(server=server.id))
        raise
    found = Claims(held=False)
    for _ in range(YIELD_LOOKS):
        seen = await ctx.look(server)
        found = _sort_out(server, ctx, seen)
        if found.held and not found.others:
            if found.earlier:  # this run's own, of a life that is over
                await ctx.untag(server, found.earlier)
            return None
        if found.others and yields(tag.key, seen.claims):
            break
        await ctx.sleep(PAUSE_S)
    await release(server, ctx)
    return _words(found) if found.others else "the cloud does not show the claim that was written to it"


async def last_look(server: ServerState, ctx: Context) -> tuple[Server, str | None]:
    """Read the server right before the announcement; say who else works on it, if anybody.

    Who comes later, sees our claim and gives way is waited for.
    """
    if ctx.settings.claim and server.id not in ctx.claimed:  # resumed here
        seen = await ctx.look(server)
        if (why := await claim(server, ctx, seen)) is not None:
            return seen, why
    looks = 0
    while True:
        seen = await ctx.look(server)
        found = _sort_out(server, ctx, seen)
        if ctx.settings.claim and not found.held:
            return seen, "the claim that this run has made is gone: somebody has taken it off"
        if not found.others:
            return seen, None
        looks += 1
        if looks == LAST_LOOKS or not ctx.settings.claim:
            return seen, _words(found)
        await ctx.sleep(PAUSE_S)


async def release(server: ServerState, ctx: Context) -> bool:
    """Take our claims off a server; tell whether it is done. What cannot be done now stays owed."""
    if server.claim is None:
        return True
    keys = {server.claim}
    try:
        if server.id not in ctx.claimed:  # an earlier life has made it, and maybe others before that
            keys.update(_sort_out(server, ctx, await ctx.look(server)).earlier)
        await ctx.untag(server, sorted(keys))
    except NotFound:
        pass  # gone, with its tags
    except CloudError:
        return False
    ctx.claimed.discard(server.id)
    ctx.record(Unclaimed(server=server.id))
    return True
