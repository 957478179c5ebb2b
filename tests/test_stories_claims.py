"""Claims on servers, on virtual time: made before anything is done, alone at the last look, then gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from story_support import INSTANTS, calm, reason, told

from fleet.cloud.simulator.faults import fault
from fleet.cloud.simulator.things import DEFAULT_USER
from fleet.cloud.simulator.world import Estate
from fleet.core.claimtag import PREFIX
from fleet.errors import Exit
from fleet.rehearsal.incidents import Incident
from fleet.rehearsal.rehearse import crash_everywhere
from fleet.rehearsal.stories import Story, Told

DENIED = msgspec.structs.replace(DEFAULT_USER, denied=("ecs:cloudServers:batchSetServerTags",))
STALE = f"{PREFIX}0123456789abcdef=20261101T200000Z-7k3f_1_90_bastion-1"


def claiming(
    *names: str, tags: tuple[str, ...] = (), claim: bool = True, estate: Estate | None = None, **fields: Any
) -> Story:
    """Return a calm story whose plan claims; *tags* are on its first server."""
    story = calm(*names, **fields)
    first, *others = story.servers
    return replace(
        story,
        settings=msgspec.structs.replace(story.settings, claim=claim),
        estate=estate,
        servers=(msgspec.structs.replace(first, tags=(*first.tags, *tags)), *others),
    )


def claims_left(found: Told) -> list[str]:
    return [tag for server in found.world.servers.values() for tag in server.tags if tag.startswith(PREFIX)]


def order_of(found: Told, name: str) -> list[str]:
    """Return what was asked of a server, in order: tag, stop, reinstall …"""
    server = found.world.named(name).id
    return [entry.kind for entry in found.world.ledger.calls() if server in entry.servers]


def test_a_server_is_claimed_before_anything_is_done_and_given_back_after() -> None:
    found = told(claiming("web-1", "web-2", off=("web-2",)))
    assert set(found.phases().values()) == {"verified"}
    for name in ("web-1", "web-2"):
        order = order_of(found, name)
        assert order[0] == order[-1] == "tag"
        assert order.count("tag") == 2
        assert "reinstall" in order
    assert claims_left(found) == []
    assert len(found.events("Claimed")) == len(found.events("Unclaimed")) == 2


def test_without_it_nothing_is_tagged() -> None:
    found = told(claiming("web-1", claim=False))
    assert found.world.ledger.calls("tag") == []
    assert found.events("Claimed") == []


def test_what_it_costs() -> None:
    """Two calls that write and one more look for each server."""
    without, claimed = told(claiming("web-1", claim=False)), told(claiming("web-1"))
    more = sum(claimed.world.ledger.requests.values()) - sum(without.world.ledger.requests.values())
    assert claimed.world.ledger.requests["tag"] == 2
    assert more <= 5


@pytest.mark.parametrize("claim", [True, False])
def test_a_claim_of_another_run_is_honoured_also_by_who_makes_none(claim: bool) -> None:  # noqa: FBT001
    """The pre-flight of these stories knows no claims, so this is the runbook's own look."""
    found = told(claiming("web-1", "web-2", tags=(STALE,), claim=claim))
    assert found.phases() == {"web-1": "skipped", "web-2": "verified"}
    assert "run …-20261101T200000Z-7k3f on bastion-1 since 2026-11-01 21:30Z" in reason(found, "web-1")
    assert order_of(found, "web-1") == [], "it was neither stopped nor tagged"
    assert claims_left(found) == [STALE], "however old, it is not taken off"


def test_a_failed_server_is_given_back_as_well() -> None:
    found = told(claiming("web-1", faults=(fault("job-fails", server="web-1"),), attempts=1))
    assert found.phases() == {"web-1": "failed"}
    assert claims_left(found) == []


def test_no_room_for_a_tag() -> None:
    found = told(claiming("web-1", tags=tuple(f"k{number}=v" for number in range(10))))
    assert found.phases() == {"web-1": "failed"}
    assert "Ecs.0905" in reason(found, "web-1")
    assert order_of(found, "web-1")[0] == "tag"
    assert "stop" not in order_of(found, "web-1")


def test_without_the_permission_nothing_is_touched() -> None:
    found = told(claiming("web-1", "web-2", estate=Estate(users=(DENIED,))))
    assert "stop" not in {entry.kind for entry in found.world.ledger.calls()}
    assert found.run is not None
    assert found.run.held is not None, "everybody would meet it"


@pytest.mark.parametrize("how", ["answer-lost", "cut-before", "error-burst"])
def test_a_lost_answer_to_a_tag_is_asked_again(how: str) -> None:
    fields: dict[str, Any] = {"status": 502, "accepted": True} if how == "error-burst" else {}
    found = told(claiming("web-1", faults=(fault(how, call="tag", **fields),)))
    assert found.phases() == {"web-1": "verified"}
    assert claims_left(found) == []


def test_a_claim_that_cannot_be_taken_off_stays_owed_and_the_next_life_pays() -> None:
    """The cloud takes no tags from the second call on, for an hour."""
    bad = fault("error-burst", call="tag", nth=2, count=None, for_s=3600.0, status=500)
    story = replace(claiming("web-1", faults=(bad,)), nights_s=(7200.0,))
    found = told(story)
    assert found.phases() == {"web-1": "verified"}
    assert [ending.code for ending in found.endings] == [Exit.UNFINISHED, Exit.OK, Exit.OK]
    assert claims_left(found) == []
    assert found.run is not None
    assert not found.run.owes


def test_killed_at_every_instant_nothing_is_left_behind() -> None:
    """A crash at each write, sync and call: once each, and no claim of ours is left on any server."""
    found = crash_everywhere(claiming("web-1", "web-2"), at_most=INSTANTS)
    assert found.failures == []  # the judge of the stories looks at the tags as well
    assert (found.wiped_twice, found.limits_broken) == (0, 0)
    assert found.crashes == found.told > 100


def test_the_claim_of_an_earlier_life_is_ours() -> None:
    story = claiming("web-1")
    for number in range(10, 60, 5):
        found = told(story, Incident(number, "killed"))
        assert found.phases() == {"web-1": "verified"}
        assert claims_left(found) == []
        assert found.reinstalls() == {"web-1": 1}


def test_a_claim_that_somebody_has_taken_off_is_no_claim() -> None:
    """A person clears claims that are not stale: the run notices before it wipes."""
    cleared = fault("untagged-by-other", call="stop", server="web-1", text=PREFIX)
    found = told(claiming("web-1", faults=(cleared,)))
    assert found.phases() == {"web-1": "skipped"}
    assert "somebody has taken it off" in reason(found, "web-1")
    assert found.reinstalls() == {}
    assert claims_left(found) == []


@pytest.mark.parametrize("claim", [True, False])
def test_who_claims_between_the_stop_and_the_wipe_is_left_alone(claim: bool) -> None:  # noqa: FBT001
    later = fault("tagged-by-other", call="stop", server="web-1", text=STALE)
    found = told(claiming("web-1", claim=claim, faults=(later,)))
    assert found.phases() == {"web-1": "skipped"}
    assert "on bastion-1 since" in reason(found, "web-1")
    assert found.reinstalls() == {}
    assert claims_left(found) == [STALE]


def test_who_comes_later_and_gives_way_is_waited_for() -> None:
    later = fault("tagged-by-other", call="stop", server="web-1", text=STALE)
    gone = fault("untagged-by-other", call="stop", server="web-1", text=STALE, seconds=30.0)
    found = told(claiming("web-1", faults=(later, gone)))
    assert found.phases() == {"web-1": "verified"}
    assert claims_left(found) == []


def test_two_at_the_same_time_and_the_other_is_dead() -> None:
    """It had tagged before we looked, and died: we have written nothing else, and take ours off again."""
    other = fault("tagged-by-other", call="tag", server="web-1", text=STALE.replace("0123", "ffff"))
    found = told(claiming("web-1", faults=(other,)))
    assert found.phases() == {"web-1": "skipped"}
    assert set(order_of(found, "web-1")) == {"tag"}, "not stopped"
    assert claims_left(found) == [STALE.replace("0123", "ffff")]
