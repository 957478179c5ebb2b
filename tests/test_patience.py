"""What is repeated, for how long, and what is told in the end; on virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from fleet.clock import run_virtual
from fleet.cloud.patience import TRIES, TRY_FOR_S, patiently
from fleet.errors import CloudError, OutcomeUnknown, Unavailable


def repeated(error: CloudError, *, known: bool = False, tries: int = TRIES) -> tuple[CloudError, int, float]:
    """Let every try fail; return what is raised, after how many tries and seconds."""
    count = 0

    async def once() -> None:
        nonlocal count
        count += 1
        raise error

    async def life() -> tuple[CloudError, int, float]:
        began = asyncio.get_running_loop().time()
        with pytest.raises(CloudError) as raised:
            await patiently(once, random.Random(1), known=known, tries=tries)
        return raised.value, count, asyncio.get_running_loop().time() - began

    return run_virtual(life())


@pytest.mark.parametrize("kind", [Unavailable, OutcomeUnknown])
def test_the_clouds_own_words_survive_the_tries(kind: type[CloudError]) -> None:
    error, tries, took_s = repeated(
        kind("busy", code="Common.1503", status=503, request_id="r-1", hint="wait")
    )
    assert isinstance(error, Unavailable)
    said = (error.message, error.code, error.status, error.request_id, error.hint)
    assert said == ("busy", "Common.1503", 503, "r-1", "wait")
    assert tries == TRIES
    assert 0 < took_s <= TRY_FOR_S


def test_an_unknown_outcome_that_matters_is_told_at_once() -> None:
    error, tries, took_s = repeated(OutcomeUnknown("cut off"), known=True)
    assert (type(error), tries, took_s) == (OutcomeUnknown, 1, 0.0)


def test_it_is_never_sooner_than_asked_and_has_an_end() -> None:
    busy = Unavailable("busy")
    busy.retry_after_s = 40.0
    _, tries, took_s = repeated(busy)
    assert tries == 3
    assert took_s >= 80.0
    busy.retry_after_s = 4000.0
    _, tries, took_s = repeated(busy)
    assert (tries, took_s) == (1, 0.0)
