"""A maintenance over three nights, as one story: the window, the budget, the operator, the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from msgspec.structs import replace as with_fields
from story_support import calm, told

from fleet.cloud.simulator.faults import fault
from fleet.core.settings import Rollout, Stop, Verify, Window
from fleet.errors import Exit
from fleet.rehearsal.stories import Person

NIGHT = Window(start="21:00", end="21:45", timezone="Europe/Berlin")
NAMES = tuple(f"web-{number:02}" for number in range(1, 61))


def test_a_maintenance_over_three_nights() -> None:
    """Closed mid-wave, resumed by cron, held in the second night, released and retried, done in the third."""
    story = calm(
        *NAMES,
        rollout=Rollout(waves=(1, 60), concurrency=2, hold_after=1),
        stop=Stop(soft_timeout_s=60.0),
        verify=Verify(timeout_s=120.0),
        faults=tuple(fault("job-fails", server=name, count=1) for name in ("web-48", "web-50")),
        timeout_s=300.0,
        attempts=1,
    )
    story = replace(
        story,
        settings=with_fields(story.settings, windows=(NIGHT,)),
        # Cron calls some minutes past nine; in the third night the operator is there, and retries at once.
        nights_s=(23.35 * 3600, 24 * 3600, 60.0),
        person=Person(releases=1, retries=1),
    )
    found = told(story)
    codes = [ending.code for ending in found.endings]
    assert codes[:3] == [Exit.UNFINISHED, Exit.HELD, Exit.FAILED], (
        "until the two are retried, in the third night"
    )
    assert codes[-1] is Exit.OK
    assert found.phases() == dict.fromkeys(NAMES, "verified")
    assert found.reinstalls() == {name: 2 if name in {"web-48", "web-50"} else 1 for name in NAMES}

    # The timeline. Nine in the evening in Berlin is 20:00 UTC in December.
    nights: dict[str, list[str]] = {}
    for event in found.events():
        nights.setdefault(event["at"][:10], []).append(event["event"])
        at = datetime.fromisoformat(event["at"])
        opens = at.replace(hour=20, minute=0, second=0, microsecond=0)
        if event["event"] in {"Admitted", "ReinstallRequested", "ReinstallAccepted", "Verified", "Failed"}:
            assert opens <= at < opens + timedelta(minutes=45), f"{event['event']} outside the window"
    assert len(nights) == 3
    first, second, third = nights.values()
    assert first.count("Verified") > 10
    assert first.count("Admitted") == first.count("Verified"), "whoever was started was done in time"
    assert first[-1] == "RunDrained"
    (drained,) = found.events("RunDrained")[:1]
    assert "the window closes 21:45" in drained["reason"]
    assert second[0] == "RunResumed"
    assert second.count("Failed") == 2
    assert "RunHeld" in second
    assert "RunReleased" in second
    assert third.count("Retried") == 2
    (held,) = found.events("RunHeld")
    assert held["reason"] == "2 of web failed, 1 allowed"


def test_outside_its_window_a_life_does_nothing() -> None:
    story = calm(
        "web-1", "web-2", stop=Stop(soft_timeout_s=60.0), verify=Verify(timeout_s=120.0), timeout_s=300.0
    )
    noon = Window(start="12:00", end="13:00", timezone="UTC")
    found = told(
        replace(story, settings=with_fields(story.settings, windows=(noon,)), nights_s=(16.1 * 3600, 60.0))
    )
    assert found.endings[0].code is Exit.UNFINISHED
    assert found.endings[0].mutations == 0
    assert found.phases() == {"web-1": "verified", "web-2": "verified"}
    assert all(event["at"][11:13] == "12" for event in found.events("Admitted"))
