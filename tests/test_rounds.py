"""When a run is over, by arithmetic; held against the list schedule that `decide` makes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support import AT
from test_worst import run_of, target

from fleet.core.rounds import End, Stretch, documented_s, end_of, longest_s, stretches
from fleet.core.settings import NeverMoreThan, Share

HALF = NeverMoreThan(at_least=2, of_verified=50)


def ends(run, each_s: float, openings=None) -> End:
    return end_of(run.settings, stretches(run.settings, run.opened.members), lambda _: each_s, AT, openings)


@pytest.mark.parametrize(
    ("rollout", "servers", "rounds"),
    [
        ({"waves": (1, 5, 20), "concurrency": 10}, 26, [1, 1, 2]),
        ({"waves": (100,), "concurrency": 10}, 95, [10]),
        ({"waves": (100,), "concurrency": 10, "max_unavailable": Share(percent=4)}, 100, [25]),
        # 2, 2, 2, 3, 4, 6, 9 …: half of the verified ones, as they come.
        ({"waves": (40,), "concurrency": 40, "never_more_than": HALF}, 40, [8]),
        # Three zones, one server of each at a time; 13 are in the largest.
        ({"waves": (30,), "concurrency": 10, "spread": {"availability_zone": 1}}, 30, [13]),
    ],
)  # fmt: skip
def test_rounds(rollout: dict, servers: int, rounds: list[int]) -> None:
    run = run_of((target(**rollout), servers))
    assert [part.rounds for part in stretches(run.settings, run.opened.members)] == rounds


def test_the_end_is_that_of_all_rounds_and_the_bakes_between() -> None:
    run = run_of((target(waves=(1, 5), concurrency=5, bake_s=60.0), 11))
    assert ends(run, 100.0) == End(AT + timedelta(seconds=3 * 100 + 2 * 60), 420.0)


def test_targets_side_by_side_and_one_after_the_other() -> None:
    one, after = target("a", waves=(9,), concurrency=3), target("b", waves=(9,), concurrency=3)
    beside = target("b", (), waves=(9,), concurrency=3)
    assert ends(run_of((one, 9), (after, 9)), 10.0).busy_s == 60
    assert ends(run_of((one, 9), (beside, 9)), 10.0).busy_s == 30
    assert ends(run_of((one, 9), (beside, 9), concurrency=3), 10.0).busy_s == 60


def nights(hours: float, count: int = 5):
    return [(AT + timedelta(days=n), AT + timedelta(days=n, hours=hours)) for n in range(count)]


def test_a_round_begins_only_if_it_ends_before_the_window_does() -> None:
    run = run_of((target(waves=(100,), concurrency=10), 100))  # ten rounds
    found = ends(run, 3000.0, nights(3))  # three of 50 minutes fit
    assert found.nights == 4
    assert found.at == AT + timedelta(days=3, seconds=3000)


def test_a_server_that_takes_longer_than_any_window_never_starts() -> None:
    run = run_of((target(waves=(10,), concurrency=10), 10))
    found = ends(run, 4000.0, nights(1))
    assert (found.at, found.too_long, found.nights) == (None, "web", 0)


def test_more_rounds_than_nights_has_no_end() -> None:
    run = run_of((target(waves=(100,), concurrency=1), 100))
    assert ends(run, 3600.0, nights(1)).at is None


def test_how_long_one_server_takes() -> None:
    wanted = target()
    assert documented_s(wanted) < 600 < longest_s(wanted)
    assert longest_s(wanted) == 2 * (300 + 300 + 2 * 2700) + 600 + 900


def test_skipped_servers_take_no_time() -> None:
    run = run_of((target(waves=(1, 100), concurrency=1), 5))
    skipped = {member.id: "" for member in run.opened.members[1:]}
    assert stretches(run.settings, run.opened.members, skipped) == (Stretch("web", 1),)
