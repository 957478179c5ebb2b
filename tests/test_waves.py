"""How servers are cut into waves, and what the first one stands for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.model import Server, ServerId
from fleet.core.select import in_order
from fleet.core.settings import COVER, SHUFFLE, Share
from fleet.core.waves import ServerKind, cover_of, cut_waves, waves_of

KINDS = st.lists(st.sampled_from("abcde"), max_size=40)
SHARES = st.sampled_from([Share(percent=1.0), Share(percent=25.0), Share(percent=100.0)])
SIZES = st.lists(st.one_of(st.integers(1, 7), st.just(COVER), SHARES), min_size=1, max_size=4)


@given(KINDS, SIZES)
def test_everybody_is_in_exactly_one_wave_and_none_is_empty(kinds: list[str], sizes: list) -> None:
    waves = waves_of(kinds, sizes)
    assert sorted(place for wave in waves for place in wave) == list(range(len(kinds)))
    assert all(wave and wave == sorted(wave) for wave in waves)


@given(KINDS.filter(bool), SIZES)
def test_a_cover_has_every_kind_once_and_nobody_else(kinds: list[str], sizes: list) -> None:
    """Fewer could not have them all, so it is the smallest set there is."""
    first = waves_of(kinds, [COVER, *sizes])[0]
    assert sorted(kinds[place] for place in first) == sorted(set(kinds))
    assert [place for place in first if place != kinds.index(kinds[place])] == [], "the first of each kind"


def test_a_later_cover_takes_what_no_wave_before_it_had() -> None:
    assert waves_of("aabcab", [1, COVER, 10]) == [[0], [2, 3], [1, 4, 5]]


def test_a_cover_that_repeats_takes_one_of_each_kind_that_is_left() -> None:
    assert waves_of("aaabb", [COVER]) == [[0, 3], [1, 4], [2]]


def test_sizes_and_shares_as_ever() -> None:
    assert cut_waves(13, [1, 5]) == [1, 5, 5, 2]
    assert cut_waves(10, [1, Share(percent=25)]) == [1, 3, 3, 3]
    assert cut_waves(0, [1]) == []


def test_what_a_first_wave_leaves_out() -> None:
    s3, c4, m6 = (ServerKind("img", flavor) for flavor in ("s3", "c4", "m6"))
    cover = cover_of([[s3], [s3, c4], [m6, c4]])
    assert cover.kinds == 3
    assert cover.missing == ((c4, 2), (m6, 3))
    assert cover_of([[s3, c4, m6], [s3]]).missing == ()


def servers(count: int) -> list[Server]:
    return [Server(id=ServerId(f"id-{n}"), name=f"web-{n}", zone="ab"[n % 2]) for n in range(count)]


def test_a_shuffle_is_told_by_its_seed_alone() -> None:
    once = in_order(servers(30), [SHUFFLE], seed=7)
    assert once == in_order(reversed(servers(30)), [SHUFFLE], seed=7)
    assert once != in_order(servers(30), [SHUFFLE], seed=8)
    assert once != tuple(servers(30))
    assert {server.id for server in once} == {server.id for server in servers(30)}


def test_a_shuffle_within_zones() -> None:
    found = in_order(servers(20), ["availability_zone", SHUFFLE], seed=1)
    assert [server.zone for server in found] == ["a"] * 10 + ["b"] * 10
    names = [server.name for server in found[:10]]
    assert names != sorted(names, key=lambda name: int(name[4:]))


def test_two_shuffles_put_first_servers_first_equally_often() -> None:
    """Nobody is the canary every time."""
    first = {in_order(servers(10), [SHUFFLE], seed=seed)[0].name for seed in range(100)}
    assert first == {server.name for server in servers(10)}
