"""Exactly what the limits mean: a test for each row of ``docs/limits.md``, in its order."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from rollout_support import open_run, refused, settle, start, take, target
from story_support import calm, told
from support import AT, event_for

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.outside import Outside
from fleet.core.pace import ENOUGH
from fleet.core.rollout import (
    Kind,
    allowed,
    approval_awaited,
    cut_waves,
    decide,
    why_held_again,
    why_waiting,
)
from fleet.core.select import resolve
from fleet.core.settings import (
    Around,
    Budget,
    Hooks,
    Limits,
    NeverMoreThan,
    Rollout,
    Select,
    Settings,
    Share,
)
from fleet.core.state import START, Run
from fleet.core.waves import waves_of
from fleet.machine import Machine
from fleet.report.status import next_step
from fleet.steering import Order, carry_out

DOCS = Path(__file__).parents[1] / "docs/limits.md"
HALF = Share(percent=50)


def web(number: int) -> ServerId:
    return ServerId(f"web-{number}")


def why(run: Run, name: str, outside: Outside | None = None) -> str:
    server = run.servers[ServerId(name)]
    return why_waiting(run, server, outside) if outside else why_waiting(run, server)


def test_every_row_names_a_test_that_is_here_and_every_test_has_its_row() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith(("| `", "| **"))]
    named = [re.findall(r"`(test_\w+)`", row.rsplit("|", 2)[1]) for row in rows]
    assert all(named), [row for row, tests in zip(rows, named, strict=True) if not tests]
    here = {name for name in globals() if name.startswith("test_")}
    assert here - {"test_every_row_names_a_test_that_is_here_and_every_test_has_its_row"} == {
        name for names in named for name in names
    }


# -- shares -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "servers", "limit", "wave"),
    [(25, 10, 2, 3), (10, 49, 4, 5), (28, 25, 7, 7), (33.3, 9, 2, 3), (100, 7, 7, 7), (1, 10, 0, 1)],
)
def test_a_share_rounds_down_in_a_limit_and_up_in_a_wave(
    percent: float, servers: int, limit: int, wave: int
) -> None:
    """25 % of 10: two may fail, three are a wave. 28 % of 25 is 7 sharp, whatever a float makes of it."""
    assert allowed(Share(percent=percent), servers) == limit
    assert cut_waves(servers, [Share(percent=percent)])[0] == wave


def test_a_share_is_of_the_target_as_it_was_opened() -> None:
    """Those skipped count: half of four is two, whoever is left."""
    run = open_run((target(max_unavailable=HALF, hold_after=HALF), 4))
    take(run, ev.Skipped(server=web(3), reason="no"), ev.Skipped(server=web(4), reason="no"))
    assert start(run) == ["web-1", "web-2"]
    settle(run, "lost", "web-1", "web-2")
    assert decide(run).hold is None


@pytest.mark.parametrize("limit", [{"max_unavailable": Share(percent=10)}, {"hold_after": Share(percent=10)}])
def test_a_share_that_rounds_to_nothing_is_an_error(limit: dict[str, Share]) -> None:
    """10 % of 9 servers is no server, and nobody meant that. A 0 that was written is meant."""
    from test_select import server  # noqa: PLC0415 - its maker of servers

    of_all = msgspec.structs.replace(target(**limit), select=Select(name=("*",)))
    plan = open_run((of_all, 1)).settings
    nine = [server(f"web-{number}") for number in range(1, 10)]
    assert any("rounds to nothing" in problem.message for problem in resolve(plan, nine).problems)
    ten = [*nine, server("web-10")]
    assert not any("rounds to nothing" in problem.message for problem in resolve(plan, ten).problems)


# -- how many at once -------------------------------------------------------------------------------


def test_concurrency_counts_from_admitted_to_settled() -> None:
    run = open_run((target(concurrency=2), 4))
    assert start(run) == ["web-1", "web-2"]
    assert why(run, "web-3") == "concurrency 2 is reached"
    # In doubt is in flight, so is being put back; a new life counts them from its first second.
    take(run, *(event_for(kind, web(1)) for kind in (ev.Stopped, ev.ReinstallRequested)))
    take(run, event_for(ev.ReinstallUnanswered, web(1)), event_for(ev.GivingUp, web(2)))
    take(run, ev.RunResumed(host="h", pid=2))
    assert refused(run).waits is None
    settle_put_back(run, "web-2")
    assert start(run) == ["web-3"], "whoever was put back waits behind the others of its wave"


def settle_put_back(run: Run, name: str) -> None:
    take(run, event_for(ev.PutBack, ServerId(name)))


def test_concurrency_of_the_plan_is_over_all_targets() -> None:
    run = open_run(
        (target("db", concurrency=2), 4), (target("web", concurrency=2, needs=()), 4), concurrency=3
    )
    assert start(run) == ["db-1", "web-1", "db-2"]
    assert why(run, "web-2") == "concurrency 3 of the plan is reached"


def test_a_target_that_asks_for_more_than_the_plan_raises_it() -> None:
    """It would be a dead letter otherwise: `concurrency: 2` above is a default as well."""
    run = open_run(
        (target("db", concurrency=4), 4), (target("web", concurrency=2, needs=()), 4), concurrency=2
    )
    assert start(run) == ["db-1", "web-1", "db-2", "web-2"]
    assert why(run, "db-3") == "concurrency 4 of the plan is reached"


def test_so_many_are_in_flight_as_the_rate_can_look_after() -> None:
    """Twenty for each call a second: else some wait for their turn longer than what they ask for is good."""
    run = open_run((target(concurrency=9), 9))
    cloud = msgspec.structs.replace(run.settings.cloud, requests_per_second=0.2)
    run.settings = msgspec.structs.replace(run.settings, cloud=cloud)
    assert start(run) == ["web-1", "web-2", "web-3", "web-4"]
    assert why(run, "web-5") == "requests_per_second 0.2 lets 4 be in flight"


def test_targets_side_by_side_share_what_the_run_may_have_in_flight() -> None:
    """Not the first of them alone: whoever has the fewest in flight is served first."""
    run = open_run(
        (target("big", concurrency=9), 9), (target("web", concurrency=9, needs=()), 9),
        (target("small", concurrency=2, needs=()), 9),
    )  # fmt: skip
    cloud = msgspec.structs.replace(run.settings.cloud, requests_per_second=0.4)
    run.settings = msgspec.structs.replace(run.settings, cloud=cloud)
    assert Counter(server.split("-")[0] for server in start(run)) == {"big": 3, "web": 3, "small": 2}
    settle(run, "verified", "big-1", "big-2", "web-1")
    assert Counter(server.split("-")[0] for server in start(run)) == {"big": 2, "web": 1}


def test_max_unavailable_lets_so_many_be_out_and_counts_those_left_down() -> None:
    run = open_run((target(max_unavailable=HALF), 6))
    assert start(run) == ["web-1", "web-2", "web-3"]
    settle(run, "lost", "web-1")
    settle(run, "untouched", "web-2")
    assert start(run) == ["web-4"], "the lost one stays out of service, the untouched one runs"
    assert why(run, "web-5") == "max_unavailable 3: 3 of web are out of service"
    settle(run, "verified", "web-3", "web-4")
    assert start(run) == ["web-5", "web-6"]


def test_max_unavailable_used_up_by_the_dead_holds() -> None:
    """Nobody waits for what no waiting brings: a person has to mend, retry or skip one."""
    run = open_run((target(max_unavailable=2), 6))
    start(run)
    settle(run, "lost", "web-1", "web-2")
    hold = decide(run).hold
    assert hold == "nobody else can be started: max_unavailable 2: 2 of web are out of service"
    take(run, ev.RunHeld(reason=hold))
    assert why_held_again(run) == "max_unavailable 2: 2 of web are out of service"
    assert next_step(run, None, "r") == (
        "fleet retry r --reason … (or fleet skip), then fleet release r --reason …, then fleet resume r"
    )
    done = carry_out(run, lambda event: take(run, event), Order(verb="release", reason="x", by="me"))
    assert "held again at once" in done, "it is said, and it is so"
    assert decide(run).hold == hold
    for mended in (ev.Skipped(server=web(1), reason="known"), ev.Retried(server=web(2), reason="again")):
        take(run, mended)
    # The skipped one counts no more. The retried one is out already, so it takes nobody's room.
    assert decide(run).start == ("web-3", "web-2")


def test_out_of_service_is_also_who_is_left_off_or_drained() -> None:
    """Untouched, but not started again, or not undrained: no service either, until that is paid."""
    run = open_run((target(max_unavailable=2), 6))
    start(run)
    take(run, ev.StopRequested(server=web(1)), ev.Failed(server=web(1), reason="x", untouched=True))
    debt = ev.DebtOwed(server=web(2), debt="1", undo=("undo",))
    take(run, ev.DrainStarted(server=web(2)), debt, ev.Drained(server=web(2)))
    settle(run, "verified", "web-2")  # its undo has failed
    assert decide(run).hold is not None
    take(run, ev.DebtPaid(server=web(1), debt=START))
    assert start(run) == ["web-3"]
    take(run, ev.DebtPaid(server=web(2), debt="1"))
    assert start(run) == ["web-4"]


def test_spread_counts_each_value_over_all_targets() -> None:
    zones = [{"zone": zone} for zone in ("z1", "z1", "z1", "z2", "")]
    run = open_run(
        (target("db", spread={"availability_zone": 2}), zones),
        (target("web", spread={"availability_zone": 3}, needs=()), zones),
    )
    assert start(run) == ["db-1", "web-1", "db-4", "web-2", "db-5", "web-4", "web-5"]
    assert why(run, "db-2") == "zone z1 is at its limit: 2 out of service"
    assert why(run, "web-3") == "zone z1 is at its limit: 3 out of service"
    settle(run, "verified", "web-1", "db-1")
    assert start(run) == ["db-2", "web-3"]


def test_spread_counts_the_dead_and_takes_no_value_for_a_value() -> None:
    """Evening nine: the other half of a pair whose first half is dead is not touched."""
    racks = [{"tags": {"rack": "r1"}}, {"tags": {"rack": "r1"}}, {}, {}]
    run = open_run((target(spread={"tag:rack": 1}), racks))
    assert start(run) == ["web-1", "web-3"]
    assert why(run, "web-4") == "no tag:rack is at its limit: 1 out of service"
    settle(run, "lost", "web-1")
    settle(run, "verified", "web-3")
    assert start(run) == ["web-4"]
    settle(run, "verified", "web-4")
    hold = decide(run).hold
    assert hold == "nobody else can be started: tag:rack r1 is at its limit: 1 out of service"


def test_never_more_than_opens_as_servers_are_verified() -> None:
    cap = NeverMoreThan(at_least=2, of_verified=50)
    run = open_run((target(never_more_than=cap), 20))
    started = []
    for number in range(1, 9):
        started += start(run)
        assert len(started) - number + 1 == max(2, (number - 1) // 2)
        settle(run, "verified", started[number - 1])
    run = open_run((target(never_more_than=cap), 20))
    start(run)
    settle(run, "untouched", "web-1")
    assert why(run, "web-3") == "never_more_than 2 with 0 verified: 1 failed, 1 in flight"
    settle(run, "lost", "web-2")
    assert decide(run).hold == (
        "nobody else can be started: never_more_than 2 with 0 verified: 2 failed, 0 in flight"
    )
    take(run, ev.RunHeld(reason="x"), ev.RunReleased(reason="y"))
    assert decide(run).hold is not None, "a release makes no evidence; a retry or a skip takes a failure off"
    take(run, ev.Skipped(server=web(1), reason="known"))
    assert len(start(run)) == 1


def test_never_more_than_of_the_run_counts_all_targets() -> None:
    cap = Budget(never_more_than=NeverMoreThan(at_least=2, of_verified=100))
    run = open_run((target("db"), 3), (target("web", needs=()), 3), budget=cap)
    assert start(run) == ["db-1", "web-1"]
    settle(run, "verified", "db-1", "web-1")
    settle(run, "lost", "db-3")
    assert start(run) == ["db-2"]
    assert why(run, "web-2") == "never_more_than 2 with 2 verified: 1 failed, 1 in flight"


def test_draining_bounds_those_that_run_their_do() -> None:
    pair = Hooks(around_server=(Around(do=("do",), undo=("undo",)),))
    run = open_run((target(hooks=pair), 3), (target("plain", needs=()), 2), limits=Limits(draining=1))
    assert start(run) == ["web-1", "plain-1", "plain-2"]
    assert start(run) == [], "who is about to be drained has its place already"
    take(run, ev.DrainStarted(server=web(1)))
    assert why(run, "web-2") == "1 are being drained"
    take(run, ev.Drained(server=web(1)))
    assert start(run) == ["web-2"], "it is in flight still, and drained no more"


def test_booting_bounds_those_between_wipe_and_verified() -> None:
    """They are started and stopped all the same; only the request that wipes waits."""
    story = calm("web-1", "web-2", "web-3")
    settings = msgspec.structs.replace(story.settings, limits=Limits(booting=1))
    night = told(replace(story, settings=settings))
    assert set(night.phases().values()) == {"verified"}
    booting = flying = most = together = 0
    for event in night.events():
        booting += {"ReinstallRequested": 1, "ChecksPassed": -1}.get(event["event"], 0)
        flying += {"Admitted": 1, "Verified": -1}.get(event["event"], 0)
        most, together = max(most, booting), max(together, flying)
    assert most == 1
    assert together == 3


def test_pace_is_halved_when_twice_as_many_take_twice_as_long() -> None:
    run = open_run((target(concurrency=8), 100))
    now = AT
    for number in range(2 * ENOUGH):
        several = 1 if number < ENOUGH else 8
        for server in decide(run).start[:several]:
            take(run, ev.Admitted(server=server), at=now)
        now += timedelta(seconds=100 if several == 1 else 200)
        for server in [each.id for each in run.servers.values() if each.phase == "stopping"]:
            way = (ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started)
            take(run, *(event_for(kind, server) for kind in (*way, ev.ChecksPassed, ev.Verified)), at=now)
        if (slower := decide(run).slower) is not None:
            break
    assert slower == ("web", 4, "200 s each with 8 in flight, 100 s with 4 or fewer")
    take(run, ev.PaceLowered(target="web", concurrency=4, reason="x"))
    assert len(start(run)) == 4
    last = list(run.targets["web"].waves[0].waiting)[-1]
    assert why(run, last) == "concurrency 4 is reached, lowered since more at once are slower"


def test_the_machines_limit_is_over_all_runs(tmp_path: Path) -> None:
    ours, theirs = Machine(tmp_path, 3), Machine(tmp_path, 3)
    assert [ours.take("a"), ours.take("b"), theirs.take("x"), theirs.take("y")] == [True, True, True, False]
    assert theirs.take("in flight already", anyway=True), "who was started is never held up"
    ours.give("a")
    assert theirs.take("y")
    ours.close()
    theirs.close()


# -- waves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "sizes", "waves"),
    [
        (13, (1, 5), [1, 5, 5, 2]),
        (10, (1, Share(percent=25)), [1, 3, 3, 3]),  # of the whole target, not of the rest
        (3, (Share(percent=25),), [1, 1, 1]),
        (4, (100,), [4]),
    ],
)
def test_waves_have_their_sizes_and_the_last_repeats(servers: int, sizes: tuple, waves: list[int]) -> None:
    assert cut_waves(servers, sizes) == waves


def test_cover_is_one_of_every_kind() -> None:
    assert waves_of(["a", "a", "b", "a", "c"], ["cover", 2]) == [[0, 2, 4], [1, 3]]
    assert waves_of(["a", "a", "b", "b"], ["cover"]) == [[0, 2], [1, 3]], "it repeats like any other"


def test_a_wave_begins_when_everybody_before_is_settled() -> None:
    run = open_run((target(waves=(2,)), 4))
    start(run)
    settle(run, "verified", "web-1")
    assert why(run, "web-3") == "waits for wave 1"
    settle(run, "lost", "web-2")
    assert decide(run).start == ("web-3", "web-4"), (
        "failed is settled; how many may fail is the budget's word"
    )
    take(run, ev.Retried(server=web(2), reason="again"))
    assert decide(run).start == ("web-2",), "a retried one reopens its wave; later waves wait for it"


def test_targets_follow_one_another_or_whom_they_need() -> None:
    run = open_run((target("db"), 1), (target("web"), 1), (target("other", needs=()), 1))
    assert start(run) == ["db-1", "other-1"]
    assert why(run, "web-1") == "waits for target db"
    settle(run, "lost", "db-1")
    assert start(run) == ["web-1"]


def test_bake_comes_between_a_wave_and_all_that_follows_it() -> None:
    run = open_run((target("db", waves=(1,), bake_s=600), 2), (target("web"), 1))
    start(run)
    settle(run, "verified", "db-1")
    assert decide(run).bake == (("db", 1),)
    assert why(run, "db-2") == "wave 1 of db bakes"
    take(run, ev.WaveBaked(target="db", wave=1))
    assert start(run) == ["db-2"]
    settle(run, "verified", "db-2")
    assert decide(run).bake == (("db", 2),), "the last one too, since another target follows"
    assert why(run, "web-1") == "wave 2 of db bakes"
    take(run, ev.WaveBaked(target="db", wave=2))
    assert start(run) == ["web-1"]


def test_bake_takes_its_time_after_the_last_of_the_wave() -> None:
    rollout = Rollout(waves=(2,), concurrency=2, hold_after=3, bake_s=600)
    night = told(calm("web-1", "web-2", "web-3", rollout=rollout))
    ends, begins = (
        [datetime.fromisoformat(event["at"]) for event in night.events(name)]
        for name in ("Verified", "Admitted")
    )
    assert begins[2] - ends[1] >= timedelta(seconds=600)
    assert [event["wave"] for event in night.events("WaveBaked")] == [1], "nothing follows the last wave"


def test_a_reopened_wave_bakes_again_and_a_skipped_one_hides_nothing() -> None:
    run = open_run((target(waves=(1,), bake_s=600, approve_after=(1,)), 4))
    start(run)
    settle(run, "lost", "web-1")
    take(run, ev.Skipped(server=web(2), reason="unfit"))
    assert decide(run).bake == (("web", 1), ("web", 2))
    take(run, ev.WaveBaked(target="web", wave=1), ev.WaveBaked(target="web", wave=2))
    assert why(run, "web-3") == "waits for approval after wave 1 of web"
    take(run, ev.Approved(target="web", wave=1, reason="seen"))
    settle(run, "verified", "web-3")
    take(run, ev.WaveBaked(target="web", wave=3), ev.Retried(server=web(1), reason="again"))
    settle(run, "verified", "web-1")
    assert decide(run).bake == (("web", 1),), "two waves back: whoever is new in it has not been left alone"
    take(run, ev.WaveBaked(target="web", wave=1))
    assert start(run) == ["web-4"]


def test_approve_after_stops_what_follows_until_a_person_says_so() -> None:
    run = open_run((target("db", waves=(1,), approve_after=(1, 2)), 2), (target("web"), 1))
    start(run)
    settle(run, "verified", "db-1")
    waits = refused(run).waits
    assert waits is not None
    assert (waits.kind, waits.words) == (Kind.APPROVAL, "waits for approval after wave 1 of db")
    assert approval_awaited(run) == ("db", 1)
    take(run, ev.Approved(target="db", wave=1, reason="seen"))
    settle(run, "verified", *start(run))
    assert why(run, "web-1") == "waits for approval after wave 2 of db"
    take(run, ev.Approved(target="db", wave=2, reason="seen"))
    assert start(run) == ["web-1"]
    assert approval_awaited(run) is None


# -- how many may fail ------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "may"), [(0, 0), (2, 2), (Share(percent=25), 2)])
def test_hold_after_is_exceeded_not_reached(limit: int | Share, may: int) -> None:
    run = open_run((target(hold_after=limit), 10))
    names = [f"web-{number}" for number in range(1, may + 2)]
    settle(run, "untouched", *names[:-1])
    assert decide(run).hold is None
    settle(run, "lost", names[-1])
    assert decide(run).hold == f"{may + 1} of web failed, {may} allowed"


def test_in_a_row_is_reached_and_one_verified_breaks_it() -> None:
    run = open_run((target(in_a_row=2), 9))
    settle(run, "lost", "web-1")
    settle(run, "verified", "web-2")
    settle(run, "lost", "web-3")
    assert decide(run).hold is None
    take(run, ev.Skipped(server=web(9), reason="no"))  # breaks nothing and adds nothing
    settle(run, "untouched", "web-4")
    assert decide(run).hold == "2 of web failed in a row"


@pytest.mark.parametrize(
    ("budget", "hold"),
    [
        (Budget(hold_after=1), "2 of the run failed, 1 allowed"),
        (Budget(hold_after=Share(percent=20)), "2 of the run failed, 1 allowed"),
        (Budget(in_a_row=2), "2 of the run failed in a row"),
    ],
)
def test_failures_of_the_run_are_over_all_targets(budget: Budget, hold: str) -> None:
    """20 % of the run's six servers is one. It comes on top of what each target allows."""
    run = open_run((target("db"), 3), (target("web", needs=()), 3), budget=budget)
    settle(run, "lost", "db-1")
    assert decide(run).hold is None
    settle(run, "lost", "web-1")
    assert decide(run).hold == hold


def test_who_went_bad_after_it_was_verified_counts_as_failed_and_down() -> None:
    run = open_run((target(hold_after=0, max_unavailable=1), 2))
    settle(run, "verified", "web-1")
    take(run, ev.WentBad(server=web(1), reason="poisoned"))
    assert decide(run).hold == "1 of web failed, 0 allowed"
    assert run.targets["web"].out == 1


def test_a_release_forgives_and_a_retry_or_skip_takes_off() -> None:
    run = open_run((target(hold_after=0, in_a_row=2), 9), budget=Budget(hold_after=0))
    settle(run, "lost", "web-1")
    take(run, ev.RunHeld(reason="x"), ev.RunReleased(reason="mended"))
    assert decide(run).hold is None
    settle(run, "lost", "web-2")
    assert decide(run).hold == "1 of web failed since the release, 0 allowed"
    take(run, ev.Retried(server=web(2), reason="again"))
    assert decide(run).hold is None
    settle(run, "lost", "web-2")
    take(run, ev.Skipped(server=web(2), reason="known"))
    assert decide(run).hold == "2 of web failed in a row", (
        "what happened in a row has happened: released only"
    )


def test_a_cause_holds_its_group_or_everybody() -> None:
    flavors = [
        {"flavor": flavor, "zone": f"z{place}", "image": f"i{place}"}
        for place, flavor in enumerate("aabbabcd")
    ]
    run = open_run((target(), flavors))
    settle(run, "verified", "web-3")
    settle(run, "lost", "web-1", "web-2", reason="no boot")
    assert decide(run).group == ({"flavor": "a"}, "2 failed alike: no boot")
    take(run, ev.GroupHeld(group={"flavor": "a"}, reason="2 failed alike: no boot"))
    assert why(run, "web-5") == "flavor a is held: 2 failed alike: no boot"
    assert "web-5" not in decide(run).start
    assert "web-6" in decide(run).start
    settle(run, "lost", "web-7", reason="no boot")
    # Three that share none of the three: whoever comes next would meet it too.
    assert decide(run).hold == ("3 servers that share neither zone, flavor nor image failed alike: no boot")


def test_a_spent_limit_holds_only_if_nobody_waits_for_something_else() -> None:
    """A held group is no reason to hold the others, who wait for the next window or for a person's word."""
    flavors = [{"flavor": "a"}, {"flavor": "b"}]
    run = open_run((target(), flavors))
    take(run, ev.GroupHeld(group={"flavor": "a"}, reason="x"))
    closes = AT + timedelta(minutes=10)
    outside = Outside(AT, closes_at=closes, expected_s=lambda _: 3600)
    waits = refused(run, outside).waits
    assert waits is not None
    assert (waits.kind, waits.words) == (Kind.WINDOW, "would end 21:00, the window closes 20:10")
    assert refused(run, outside).hold is None
    settle(run, "verified", "web-2")
    assert decide(run, outside).hold == "nobody else can be started: flavor a is held: x"
    assert why_held_again(run) is None, "a release lets the group go on as well"


def test_a_lower_limit_in_an_edited_plan_stops_nobody_in_flight() -> None:
    run = open_run((target(concurrency=3), 6))
    start(run)
    edited = msgspec.structs.replace(run.settings, targets=(target(concurrency=1),))
    assert isinstance(edited, Settings)
    take(run, ev.RunResumed(host="h", pid=2, settings=edited))
    settle(run, "verified", "web-1", "web-2")
    assert refused(run).waits is None
    settle(run, "verified", "web-3")
    assert start(run) == ["web-4"]
