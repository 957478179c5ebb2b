"""Many servers and few calls: a slow cloud, or a careful plan, makes a run late and fails no server."""

from __future__ import annotations

from dataclasses import replace

from msgspec.structs import replace as with_fields
from story_support import calm, told

from fleet.core.settings import Rollout
from fleet.rehearsal.stories import Told


def many(servers: int, *, concurrency: int, rate: float, **behaviour: float) -> Told:
    story = calm(
        *(f"web-{number:03}" for number in range(servers)),
        rollout=Rollout(waves=(servers,), concurrency=concurrency, hold_after=0),
        behaviour=behaviour,
    )
    cloud = with_fields(story.settings.cloud, requests_per_second=rate)
    return told(replace(story, settings=with_fields(story.settings, cloud=cloud)))


def test_a_plan_with_few_calls_a_second() -> None:
    """Announcements are good for 30 s; 120 of them at a call a second would outlive themselves in a queue."""
    found = many(120, concurrency=120, rate=1.0)
    assert found.phases() == dict.fromkeys(found.phases(), "verified")
    assert found.events("ReinstallRefused") == []


def test_a_cloud_that_takes_few_reinstalls_a_minute() -> None:
    """Everything else is quick, so they come in a crowd: each waits for its turn before it is announced."""
    found = many(200, concurrency=200, rate=20.0, throttle=True)
    assert found.phases() == dict.fromkeys(found.phases(), "verified")
    late = [event for event in found.events("ReinstallRefused") if "send-by" in event["reason"]]
    assert late == []


def test_a_cloud_that_takes_no_two_calls_at_once() -> None:
    """A wipe that goes right behind its last look is refused there, and would be every time."""
    found = many(8, concurrency=8, rate=10.0, rate_limit=1.0)
    assert found.phases() == dict.fromkeys(found.phases(), "verified")
    assert len(found.events("ReinstallRefused")) <= 4
