"""How often to read: values in, seconds out."""

from __future__ import annotations

import random

import pytest

from fleet.rhythm import (
    FIRST_S,
    LATEST,
    LONGEST_S,
    MANY,
    SHARE,
    SHORTEST_S,
    SOONEST,
    UNKNOWN,
    Rhythm,
    Waiting,
)


def knowing(**usual: float) -> Rhythm:
    """Return a rhythm that has seen a hundred waits of each kind, a third longer or shorter than usual."""
    rhythm, rng = Rhythm(), random.Random(7)
    for kind, usual_s in usual.items():
        for _ in range(100):
            rhythm.learn(kind, usual_s * rng.uniform(2 / 3, 4 / 3))
    return rhythm


def in_step(rhythm: Rhythm, so_far_s: float, count: int = 20, soon: int = 0) -> float:
    return rhythm.pause_s({"reinstall": Waiting(count, [so_far_s] * min(count, MANY))}, soon)


def test_before_anything_was_seen_it_starts_in_between() -> None:
    assert Rhythm().pause_s({"stop": Waiting(1, [3.0])}, 0) == FIRST_S


def test_the_interval_is_a_share_of_the_whole_way() -> None:
    rhythm = knowing(stop=20.0, reinstall=90.0)

    rng = random.Random(3)
    evenly = [90.0 * rng.uniform(2 / 3, 4 / 3) * rng.random() for _ in range(150)]
    assert rhythm.interval_s == pytest.approx(SHARE * 110, rel=0.05)
    assert rhythm.pause_s({"reinstall": Waiting(150, evenly)}, 0) == pytest.approx(rhythm.interval_s, rel=0.3)


def test_it_reads_rarely_before_anybody_can_be_done_and_often_around_the_usual_time() -> None:
    rhythm = knowing(reinstall=100.0)

    early, usual = in_step(rhythm, 10.0), in_step(rhythm, 100.0)
    assert early > 1.5 * rhythm.interval_s
    assert usual < 0.9 * rhythm.interval_s


def test_who_waits_to_be_confirmed_brings_the_read_forward_and_several_do_more() -> None:
    rhythm = knowing(reinstall=100.0)

    pauses = [in_step(rhythm, 50.0, soon=soon) for soon in range(4)]
    assert pauses == sorted(pauses, reverse=True)
    assert pauses[1] < pauses[0] - 0.1


@pytest.mark.parametrize("soon", [0, 1, 5, 1000])
@pytest.mark.parametrize("so_far_s", [0.0, 50.0, 100.0, 5000.0])
@pytest.mark.parametrize("count", [0, 1, 50, 5000])
def test_it_stays_in_its_bounds(soon: int, so_far_s: float, count: int) -> None:
    """A look that confirms another one is no copy of it, and nobody is forgotten."""
    rhythm = knowing(reinstall=100.0)

    pause = in_step(rhythm, so_far_s, count, soon)
    assert max(SHORTEST_S, SOONEST * rhythm.interval_s) <= pause <= LATEST * rhythm.interval_s


def test_what_has_never_ended_takes_at_least_as_long_as_it_has_taken() -> None:
    """The first stops are over: that says nothing about how long the reinstalls take."""
    rhythm = knowing(stop=10.0)

    rhythm.pause_s({"reinstall": Waiting(10, [200.0] * 10)}, 0)
    assert rhythm.interval_s == pytest.approx(SHARE * (10 + UNKNOWN * 200), rel=0.05)


def test_it_follows_durations_that_change_and_has_bounds() -> None:
    rhythm = knowing(reinstall=10.0)
    for _ in range(200):
        rhythm.learn("reinstall", 100_000.0)
    assert rhythm.interval_s == LONGEST_S
    for _ in range(200):
        rhythm.learn("reinstall", 0.0)
    assert rhythm.interval_s == SHORTEST_S
    assert in_step(rhythm, 0.0) >= SHORTEST_S
