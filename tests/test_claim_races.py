"""Two runs on two machines, every order of their steps: how many of them claims exclude, and what is left.

A model of the steps around one server, on top of the very functions that the runbook decides with. Every
interleaving is walked through and counted, so the figures in ``docs/claims.md`` are these.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Literal

import pytest

from fleet.core.claimtag import claim_tag, sort_out, yields

NOW = datetime(2026, 12, 5, 20, tzinfo=UTC)
RUNS = ("p-20261205T200000Z-aaaa", "q-20261205T200000Z-bbbb")
TAGS = tuple(claim_tag(run, 1, f"host-{nonce}", nonce, NOW) for run, nonce in zip(RUNS, "ab", strict=True))
RE_READS = 2
"""Times that whoever need not give way looks again. More only make more orders."""


@dataclass(frozen=True)
class World:
    """One server, and how far the two runs are.

    Attributes:
        at: The next step of each: read, write, check, stop, look, send, follow, leave, or end.
        reads: How often each has looked again.
        on, job, disk: The server; whose job runs; how often it was wiped.
        tags: Whose claims are on it.
        past: What they were before, every state once.
        sent, accepted, refused: Requests, of both.
    """

    at: tuple[str, str] = ("read", "read")
    reads: tuple[int, int] = (0, 0)
    on: bool = True
    job: int | None = None
    disk: int = 0
    tags: frozenset[int] = frozenset()
    past: frozenset[frozenset[int]] = frozenset()
    sent: int = 0
    accepted: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Rules:
    """How it is played.

    Attributes:
        claim: Both plans claim.
        was_off: The server was off, and is left off again.
        looks: What a look shows of the tags: those of now, those of any earlier time (a lagging copy), or any
            part of them (copies that apply changes in different orders: no cloud is known to).
    """

    claim: bool
    was_off: bool = False
    looks: Literal["now", "earlier", "parts"] = "now"


def put(pair: tuple, who: int, value: object) -> tuple:
    return (value, pair[1]) if who == 0 else (pair[0], value)


def sees(world: World, who: int, tags: frozenset[int]) -> tuple[bool, bool, bool]:
    """Return whether a run sees its own claim, others', and would give way at once: as the runbook does."""
    shown = {TAGS[each].key: TAGS[each].value() for each in tags}
    mine = TAGS[who].key
    found = sort_out(shown, RUNS[who], 1, mine if who in world.tags else None)
    return found.held, bool(found.others), yields(mine, shown)


def steps(world: World, rules: Rules) -> Iterator[World]:
    """Yield what may happen next: a step of either run, or the end of the cloud's job."""
    if world.job is not None:
        done = put(world.at, world.job, "leave")
        yield replace(world, job=None, disk=world.disk + 1, on=True, at=done)
    for who in (0, 1):
        if world.at[who] not in {"end", "follow"}:
            looks = {world.tags}
            if rules.looks == "earlier":
                looks |= world.past
            elif rules.looks == "parts":
                looks |= {world.tags & {who}, frozenset()}
            for tags in looks:
                yield step(world, who, rules, tags)


def step(world: World, who: int, rules: Rules, tags: frozenset[int]) -> World:  # noqa: C901 - a table of steps
    """Return the world after the next step of a run that is shown *tags*."""

    def to(where: str, **fields: object) -> World:
        return replace(world, at=put(world.at, who, where), **fields)

    def retag(where: str, new: frozenset[int], **fields: object) -> World:
        return to(where, tags=new, past=world.past | {world.tags}, **fields)

    def give_up() -> World:
        return retag("end", world.tags - {who}) if rules.claim else to("end")

    held, others, gives_way = sees(world, who, tags)
    match world.at[who]:
        case "read":
            if others:
                return to("end")
            return to("write" if rules.claim else "stop")
        case "write":
            return retag("check", world.tags | {who})
        case "check" | "look" as where:
            alone = held and not others
            if rules.claim and not alone:
                if (where == "check" and others and gives_way) or world.reads[who] == RE_READS:
                    return give_up()
                return to(where, reads=put(world.reads, who, world.reads[who] + 1))
            if where == "check":
                return to("stop", reads=put(world.reads, who, 0))
            # The rest of the last look: still stopped, still the same disk, nothing being done.
            return to("send") if world.disk == 0 and not world.on and world.job is None else give_up()
        case "stop":
            if world.disk or world.job is not None:
                return give_up()
            return to("look", on=False)
        case "send":
            if world.on or world.job is not None:  # the cloud's own guard
                refused = give_up()
                return replace(refused, sent=world.sent + 1, refused=world.refused + 1)
            return to("follow", sent=world.sent + 1, accepted=world.accepted + 1, job=who)
        case "leave":
            gone = retag("end", world.tags - {who}) if rules.claim else to("end")
            return replace(gone, on=not rules.was_off)
    raise AssertionError(world.at[who])


def outcomes(rules: Rules) -> Counter[tuple[int, int]]:
    """Count all orders by how many requests were sent, and how many of them the cloud took."""

    @cache
    def count(world: World) -> Counter[tuple[int, int]]:
        if world.at == ("end", "end"):
            return Counter({(world.sent, world.accepted): 1})
        total: Counter[tuple[int, int]] = Counter()
        for each in steps(world, rules):
            total.update(count(each))
        return total

    return count(World(on=not rules.was_off))


def test_with_claims_no_order_sends_two_requests() -> None:
    """The claim of each is written before it looks, so one of them sees the other: whatever the timing."""
    for was_off in (False, True):
        found = outcomes(Rules(claim=True, was_off=was_off))
        assert sum(found.values()) > 200
        assert max(sent for sent, _ in found) == 1
        assert found[1, 1] == sum(found.values()), "and one of them always does the work"


def test_without_claims_the_clouds_guard_and_the_disk_stop_the_second() -> None:
    """A running or busy server is refused: many orders send twice, none is taken twice."""
    found = outcomes(Rules(claim=False))
    twice = sum(count for (sent, _), count in found.items() if sent == 2)
    assert twice > 0
    assert all(accepted == 1 for _, accepted in found)


def test_without_claims_a_server_that_is_off_before_and_after_can_be_wiped_twice() -> None:
    """What nothing but a claim excludes: sent long after the last look, to a server that is left off."""
    found = outcomes(Rules(claim=False, was_off=True))
    assert found[2, 2] > 0
    assert outcomes(Rules(claim=True, was_off=True))[2, 2] == 0


@pytest.mark.parametrize("was_off", [False, True])
def test_looks_that_lag_do_no_harm(was_off: bool) -> None:  # noqa: FBT001
    """Who must see his own claim sees all that were written before it, however old what he is shown is."""
    found = outcomes(Rules(claim=True, was_off=was_off, looks="earlier"))
    assert max(sent for sent, _ in found) == 1
    assert found[0, 0] > 0, "but both may give way"


def test_looks_that_show_a_part_leave_it_to_the_guard_of_the_cloud() -> None:
    """The assumption that claims rest on, broken: then it is as if there were none."""
    found = outcomes(Rules(claim=True, looks="parts"))
    assert both_sent(found) > 0
    assert all(accepted <= 1 for _, accepted in found)
    assert outcomes(Rules(claim=True, was_off=True, looks="parts"))[2, 2] > 0


def both_sent(found: Counter[tuple[int, int]]) -> float:
    """Return the share of the orders in which both send."""
    return sum(count for (sent, _), count in found.items() if sent == 2) / sum(found.values())


def figures() -> Iterator[str]:
    """Yield the lines of the table in ``docs/claims.md``."""
    for claim in (False, True):
        for was_off in (False, True):
            for looks in ("now", "earlier", "parts") if claim else ("now",):
                found = outcomes(Rules(claim, was_off, looks))  # type: ignore[arg-type]  # one of the three
                total = sum(found.values())
                yield f"claim={claim} was_off={was_off} looks={looks}: {total:,} orders"
                yield f"  both send {both_sent(found):.1%}, both taken {found[2, 2] / total:.1%}"
                yield f"  nobody does it {found[0, 0] / total:.1%}"


if __name__ == "__main__":
    sys.stdout.write("\n".join([*figures(), ""]))
