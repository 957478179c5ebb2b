"""How long a call that is safe to repeat is repeated: the same for every kind of cloud."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fleet.errors import OutcomeUnknown, Unavailable

T = TypeVar("T")

TRIES = 6
TRY_FOR_S = 90.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Pauses are drawn from 0 up to 1, 2, 4 … 30 s (full jitter): many clients that failed together come back
one by one."""


async def patiently(
    once: Callable[[], Awaitable[T]], rng: random.Random, *, known: bool = False, tries: int = TRIES
) -> T:
    """Repeat *once* while it is `Unavailable`, up to *tries* and `TRY_FOR_S`.

    Args:
        once: What to do.
        rng: For the pauses.
        known: An unknown outcome is raised; otherwise it is repeated as well, as reads may be. A stop that
            nobody answered may still land, and whoever asked for it has to know.
        tries: At most.

    Raises:
        Unavailable: The last of the tries' failures.
        OutcomeUnknown: See *known*.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + TRY_FOR_S
    for attempt in range(tries):
        try:
            return await once()
        except Unavailable as error:
            failure = error
        except OutcomeUnknown as error:
            if known:
                raise
            failure = Unavailable(
                error.message,
                hint=error.hint,
                code=error.code,
                status=error.status,
                request_id=error.request_id,
            )
        pause = rng.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt))
        if failure.retry_after_s is not None:
            pause += failure.retry_after_s  # never sooner than asked, and not all of us at once
        if attempt + 1 == tries or loop.time() + pause > give_up_at:
            raise failure
        await asyncio.sleep(pause)
    raise AssertionError("the loop ends by return or raise")
