"""The referee notices every limit that is broken, from the journal alone, and nothing that is not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from rollout_support import open_run, target

from fleet.core import events as ev
from fleet.core.settings import Around, Budget, Hooks, Limits, NeverMoreThan, Share, Target
from fleet.referee import judge

PAIR = Hooks(around_server=(Around(do=("do",), undo=("undo",)),))


def journal(opened: ev.RunOpened, facts: Iterable[dict[str, Any]]) -> bytes:
    """Write a journal as it stands on a disk, whatever it says."""
    return encoded([msgspec.to_builtins(opened), *facts])


def encoded(facts: Iterable[dict[str, Any]]) -> bytes:
    crc, data = 0, b""
    for seq, fact in enumerate(facts, start=1):
        line = {"seq": seq, "at": f"2026-12-05T20:{seq // 60:02}:{seq % 60:02}Z", **fact}
        body = json.dumps(line).encode()[:-1]
        crc = zlib.crc32(body, crc)
        data += body + b',"crc":"%08x"}\n' % crc
    return data


def fact(event: str, server: str | None = None, **fields: Any) -> dict[str, Any]:
    found = {"event": event, **fields}
    return found if server is None else {**found, "server": server}


def started(*names: str) -> list[dict[str, Any]]:
    return [fact("Admitted", name) for name in names]


def wiped(name: str) -> list[dict[str, Any]]:
    return [
        fact("Stopped", name, state="SHUTOFF"),
        fact("ReinstallRequested", name, system_disk="old"),
        fact("ReinstallAccepted", name, job=None),
    ]


def verified(*names: str) -> list[dict[str, Any]]:
    """Bring servers that are in flight to their good end."""
    return [
        each
        for name in names
        for each in (
            *wiped(name),
            fact("Reinstalled", name),
            fact("Started", name),
            fact("ChecksPassed", name, system_disk="new"),
            fact("Verified", name),
        )
    ]


def failed(*names: str, untouched: bool = False, **fields: Any) -> list[dict[str, Any]]:
    return [fact("Failed", name, reason="broken", untouched=untouched, **fields) for name in names]


def paid(name: str, debt: str = "1") -> dict[str, Any]:
    return fact("DebtPaid", name, debt=debt)


def drained(name: str) -> list[dict[str, Any]]:
    return [fact("DrainStarted", name), fact("DebtOwed", name, debt="1"), fact("Drained", name)]


def held(zone: str) -> dict[str, Any]:
    return fact("GroupHeld", group={"availability_zone": zone}, reason="x")


ZONES = [{"zone": "z1"}, {"zone": "z1"}, {"zone": "z2"}, {"zone": "z2"}]
RACKS = [{"tags": {"rack": "r1"}}, {"tags": {"rack": "r1"}}, {"flavor": "f"}]
CAP = NeverMoreThan(at_least=2, of_verified=50)
CLOSED = fact("Paused", reason="window")
BAKED = fact("WaveBaked", target="web", wave=1)
SEEN = fact("Approved", target="web", wave=1, reason="seen")
HELD, RELEASED = fact("RunHeld", reason="x"), fact("RunReleased", reason="y")
DRAIN, RESUMED = fact("RunDrained", reason="x"), fact("RunResumed", host="h", pid=2)
STOP = fact("StopRequested", "web-1")
NOT_UNDONE = fact("UndoFailed", "web-1", debt="1", why="x")
SLOWER = fact("PaceLowered", target="web", concurrency=1, reason="slow")


# What is asked of the target (or of several), the servers, the plan's own settings; what happened so far;
# then one start too many, and what is said about it.
BROKEN: list[tuple[str, Target, Any, dict[str, Any], list[dict[str, Any]], str]] = [
    ("concurrency", target(concurrency=2), 4, {}, started("web-1", "web-2"),
     "3 in flight with web-3, 2 allowed"),
    ("pace", target(), 4, {}, [*started("web-1"), *verified("web-1"), SLOWER, *started("web-2")],
     "2 in flight with web-3, 1 allowed"),
    ("held", target(), 4, {}, [HELD], "web-3 admitted while held"),
    ("drained", target(), 4, {}, [DRAIN], "web-3 admitted while drained"),
    ("paused", target(), 4, {}, [CLOSED], "web-3 admitted while paused"),
    ("everybody", target(), 4, {}, [*started("web-1"), *failed("web-1", everybody=True)],
     "web-3 admitted though everybody would fail"),
    ("max_unavailable", target(max_unavailable=2), 4, {}, started("web-1", "web-2"),
     "3 out of service with web-3, 2 allowed"),
    ("a share of it", target(max_unavailable=Share(percent=50)), 5, {}, started("web-1", "web-2"),
     "3 out of service with web-3, 2 allowed"),
    ("the dead", target(max_unavailable=1), 4, {}, [*started("web-1"), *wiped("web-1"), *failed("web-1")],
     "2 out of service with web-3, 1 allowed"),
    ("the forgiven dead", target(max_unavailable=1), 4, {},
     [*started("web-1"), *wiped("web-1"), *failed("web-1"), HELD, RELEASED],
     "2 out of service with web-3, 1 allowed"),
    ("in doubt", target(max_unavailable=1), 4, {},
     [*started("web-1"), *wiped("web-1")[:2], *failed("web-1", untouched=True)],
     "2 out of service with web-3, 1 allowed"),
    ("left off", target(max_unavailable=1), 4, {},
     [*started("web-1"), STOP, *failed("web-1", untouched=True)],
     "2 out of service with web-3, 1 allowed"),
    ("left drained", target(max_unavailable=1, hooks=PAIR), 4, {},
     [*started("web-1"), *drained("web-1"), NOT_UNDONE, *verified("web-1")],
     "2 out of service with web-3, 1 allowed"),
    ("went bad", target(max_unavailable=1), 4, {},
     [*started("web-1"), *verified("web-1"), fact("WentBad", "web-1", reason="x")],
     "2 out of service with web-3, 1 allowed"),
    ("spread", target(spread={"availability_zone": 1}), ZONES, {}, started("web-4"),
     "2 of availability_zone 'z2' out of service with web-3, 1 allowed"),
    ("spread, the dead", target(spread={"tag:rack": 1}), [RACKS[2], *RACKS], {},
     [*started("web-2"), *wiped("web-2"), *failed("web-2")],
     "2 of tag:rack 'r1' out of service with web-3, 1 allowed"),
    ("spread, no value", target(spread={"tag:rack": 1}), [RACKS[2], *RACKS[:1], RACKS[2]], {},
     started("web-1"), "2 of tag:rack '' out of service with web-3, 1 allowed"),
    ("never_more_than", target(never_more_than=CAP), 4, {},
     [*started("web-1", "web-2"), *failed("web-1", untouched=True)],
     "3 of web failed or in flight with web-3, 2 allowed"),
    ("never_more_than of the run", target(), 4, {"budget": Budget(never_more_than=CAP)},
     started("web-1", "web-2"), "3 of the run failed or in flight with web-3, 2 allowed"),
    ("hold_after", target(hold_after=1), 4, {}, [*started("web-1", "web-2"), *failed("web-1", "web-2")],
     "web-3 admitted after 2 failures"),
    ("hold_after of the run", target(), 4, {"budget": Budget(hold_after=Share(percent=25))},
     [*started("web-1", "web-2"), *failed("web-1", "web-2")], "web-3 admitted after 2 failures"),
    ("in_a_row", target(in_a_row=2), 4, {}, [*started("web-1", "web-2"), *failed("web-1", "web-2")],
     "web-3 admitted after 2 of web failed in a row"),
    ("in_a_row of the run", target(), 4, {"budget": Budget(in_a_row=1)},
     [*started("web-1", "web-2"), *verified("web-1"), *failed("web-2")],
     "web-3 admitted after 1 of the run failed in a row"),
    ("a held group", target(), ZONES, {}, [held("z2")],
     "web-3 admitted, and its group is held: {'availability_zone': 'z2'}"),
    ("an open wave", target(waves=(2,)), 4, {}, [*started("web-1", "web-2"), *verified("web-1")],
     "web-3 admitted before wave 1 of web is settled"),
    ("no bake", target(waves=(2,), bake_s=60), 4, {},
     [*started("web-1", "web-2"), *verified("web-1", "web-2")],
     "web-3 admitted before wave 1 of web was baked"),
    ("a bake before a retry", target(waves=(2,), bake_s=60), 4, {},
     [*started("web-1", "web-2"), *verified("web-1"), *failed("web-2"), BAKED,
      fact("Retried", "web-2", reason="x"), *started("web-2"), *verified("web-2")],
     "web-3 admitted before wave 1 of web was baked"),
    ("no approval", target(waves=(2,), approve_after=(1,)), 4, {},
     [*started("web-1", "web-2"), *verified("web-1", "web-2")],
     "web-3 admitted before wave 1 of web was approved"),
    ("no approval, a wave skipped", target(waves=(1,), approve_after=(1,)), 4, {},
     [*started("web-1"), *verified("web-1"), fact("Skipped", "web-2", reason="x")],
     "web-3 admitted before wave 1 of web was approved"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "servers", "settings", "before", "words"),
    [case[1:] for case in BROKEN],
    ids=[c[0] for c in BROKEN],
)
def test_a_start_that_breaks_a_limit_is_noticed(
    asked: Target, servers: Any, settings: dict[str, Any], before: list[dict[str, Any]], words: str
) -> None:
    """What was before is good; the start of `web-3` is the one thing that is wrong."""
    opened = open_run((asked, servers), **settings).opened
    assert judge(journal(opened, before)).violations == []
    found = judge(journal(opened, [*before, *started("web-3")]))
    assert found.violations == [f"P4 line {len(before) + 2}: {words}"]


GOOD: list[tuple[str, Target, Any, dict[str, Any], list[dict[str, Any]]]] = [
    ("pace, released", target(), 4, {}, [*started("web-1"), SLOWER, RELEASED]),
    ("resumed", target(), 4, {}, [DRAIN, CLOSED, RESUMED]),
    ("open again", target(), 4, {}, [CLOSED, fact("Unpaused")]),
    ("untouched", target(max_unavailable=1), 4, {}, [*started("web-1"), *failed("web-1", untouched=True)]),
    ("started again", target(max_unavailable=1), 4, {},
     [*started("web-1"), STOP, *failed("web-1", untouched=True), paid("web-1", "start")]),
    ("undrained later", target(max_unavailable=1, hooks=PAIR), 4, {},
     [*started("web-1"), *drained("web-1"), NOT_UNDONE, *verified("web-1"),
      paid("web-1")]),
    ("skipped", target(max_unavailable=1), 4, {},
     [*started("web-1"), *failed("web-1"), fact("Skipped", "web-1", reason="x")]),
    ("another zone", target(spread={"availability_zone": 1}), ZONES, {}, started("web-1")),
    ("opened by evidence", target(never_more_than=CAP), 9, {},
     [*started("web-4", "web-5"), *verified("web-4", "web-5"), *started("web-6", "web-7"),
      *verified("web-6", "web-7"), *started("web-8", "web-9"), *verified("web-8", "web-9"),
      *started("web-1", "web-2")]),
    ("released", target(hold_after=0, in_a_row=1), 4, {"budget": Budget(hold_after=0, in_a_row=1)},
     [*started("web-1"), *failed("web-1"), HELD, RELEASED]),
    ("not in a row", target(in_a_row=2), 4, {},
     [*started("web-1", "web-2", "web-4"), *failed("web-1"), *verified("web-2"), *failed("web-4")]),
    ("another group", target(), ZONES, {}, [held("z1")]),
    ("a group released", target(), ZONES, {},
     [held("z2"), RELEASED]),
    ("baked and approved", target(waves=(2,), bake_s=60, approve_after=(1,)), 4, {},
     [SEEN, *started("web-1", "web-2"), *verified("web-1", "web-2"), BAKED]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "servers", "settings", "before"), [case[1:] for case in GOOD], ids=[c[0] for c in GOOD]
)
def test_a_start_within_the_limits_is_no_violation(
    asked: Target, servers: Any, settings: dict[str, Any], before: list[dict[str, Any]]
) -> None:
    opened = open_run((asked, servers), **settings).opened
    found = judge(journal(opened, [*before, *started("web-3")]))
    assert found.violations == []
    assert found.checked["P4"] > 0


def test_all_targets_together() -> None:
    """The plan's concurrency is over all; the largest that a target asks for raises it."""
    opened = open_run(
        (target("db", concurrency=2), 2), (target(concurrency=2, needs=()), 2), concurrency=1
    ).opened
    facts = started("db-1", "db-2")
    assert judge(journal(opened, facts)).violations == []
    found = judge(journal(opened, [*facts, *started("web-1")]))
    words = ["3 of the plan in flight with web-1, 2 allowed"]
    assert [each.partition(": ")[2] for each in found.violations] == words


def test_a_retried_one_that_is_down_takes_no_new_room() -> None:
    opened = open_run((target(max_unavailable=1, spread={"availability_zone": 1}), 2)).opened
    facts = [*started("web-1"), *failed("web-1"), fact("Retried", "web-1", reason="x"), *started("web-1")]
    assert judge(journal(opened, facts)).violations == []


def test_targets_and_whom_they_need() -> None:
    """Without `needs` the one before; with it those that are named, their last wave baked and approved."""
    free = target("free", needs=())
    opened = open_run((target("db", bake_s=60, approve_after=(1,)), 1), (free, 1), (target("web"), 1)).opened
    facts = [*started("db-1", "free-1"), *verified("free-1")]
    assert judge(journal(opened, facts)).violations == []
    for more, words in (
        ([], "target db is through"),
        (verified("db-1"), "wave 1 of db was baked"),
        ([*verified("db-1"), fact("WaveBaked", target="db", wave=1)], "wave 1 of db was approved"),
    ):
        found = judge(journal(opened, [*facts, *more, *started("web-1")]))
        assert [each.partition(": ")[2] for each in found.violations] == [f"web-1 admitted before {words}"]
    both = [*verified("db-1"), fact("WaveBaked", target="db", wave=1)]
    both += [fact("Approved", target="db", wave=1, reason="x")]
    assert judge(journal(opened, [*facts, *both, *started("web-1")])).violations == []


@pytest.mark.parametrize("stage", ["draining", "booting"])
def test_a_stage_that_is_fuller_than_its_limit(stage: str) -> None:
    opened = open_run((target(hooks=PAIR), 2), limits=Limits(**{stage: 1})).opened
    ways = {
        "draining": [[fact("DrainStarted", name)] for name in ("web-1", "web-2")],
        "booting": [wiped(name) for name in ("web-1", "web-2")],
    }
    one, other = ways[stage]
    facts = [*started("web-1", "web-2"), *one]
    assert judge(journal(opened, facts)).violations == []
    found = judge(journal(opened, [*facts, *other]))
    assert [each.partition(": ")[2] for each in found.violations] == [f"2 {stage} with web-2, 1 allowed"]
    over = [fact("Drained", "web-1")] if stage == "draining" else verified("web-1")[3:]
    assert judge(journal(opened, [*facts, *over, *other])).violations == []


def test_a_wave_is_baked_when_it_is_over_only() -> None:
    opened = open_run((target(waves=(2,), bake_s=60), 3)).opened
    found = judge(journal(opened, [*started("web-1"), *verified("web-1"), BAKED]))
    assert [each.partition(": ")[2] for each in found.violations] == ["wave 1 baked before its end"]


def test_an_edited_plan_is_the_one_that_counts() -> None:
    run = open_run((target(concurrency=2), 4))
    edited = msgspec.to_builtins(open_run((target(concurrency=1), 4)).settings)
    facts = [*started("web-1"), fact("RunResumed", host="h", pid=2, settings=edited), *started("web-2")]
    found = judge(journal(run.opened, facts))
    assert [each.partition(": ")[2] for each in found.violations] == ["2 in flight with web-2, 1 allowed"]


def test_who_went_bad_was_verified_before_and_has_failed_since() -> None:
    opened = open_run((target(), 1)).opened
    bad = fact("WentBad", "web-1", reason="x")
    facts = [*started("web-1"), *verified("web-1"), bad]
    end = fact("RunFinished", verified=0, failed=1, skipped=0)
    assert judge(journal(opened, [*facts, end])).violations == []
    found = judge(journal(opened, [*started("web-1"), bad]))
    assert [each.partition(": ")[2] for each in found.violations] == ["web-1 bad, never verified"]
