"""Stories about servers: jobs that fail, stick and vanish, and other people who change things meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from story_support import at, calm, effect_of, reason, told

from fleet.cloud.simulator.calendar import EPOCH
from fleet.cloud.simulator.faults import fault
from fleet.core.settings import Rollout, Stop, Verify
from fleet.errors import Exit
from fleet.rehearsal.stories import Person


def test_a_failed_job_gets_a_second_attempt() -> None:
    """The cloud's job fails once; the server is reinstalled again, from the failed state."""
    night = told(calm("web-1", faults=(fault("job-fails", server="web-1", leaves="ERROR"),)))
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 2}
    assert night.world.wipes() == dict.fromkeys(night.world.servers, 1)


def test_attempts_end() -> None:
    """Two attempts are what the plan allows: the third is not made."""
    night = told(calm("web-1", faults=(fault("job-fails", server="web-1", count=9),)))
    assert night.phases() == {"web-1": "failed"}
    assert night.reinstalls() == {"web-1": 2}
    assert "failed 2 times" in reason(night, "web-1")


def test_a_stuck_job_times_out_while_the_others_go_on() -> None:
    """One server hangs for ever: it is named so after its time-out, the others are verified."""
    night = told(calm(faults=(fault("job-stuck", server="web-2"),)))
    assert night.phases() == {"web-1": "verified", "web-2": "failed", "web-3": "verified"}
    assert "not over after 45 min" in reason(night, "web-2")
    assert night.endings[0].code is Exit.FAILED


def test_a_job_that_vanishes_leaves_the_server_to_tell() -> None:
    """Nobody knows the job any more; the new system disk does."""
    night = told(calm("web-1", faults=(fault("job-vanishes", server="web-1", seconds=5.0),)))
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 1}


def test_success_without_a_change_is_never_verified() -> None:
    """The job says SUCCESS and the old disk is in place: failed, and not reinstalled again."""
    night = told(calm("web-1", faults=(fault("success-without-change", server="web-1"),)))
    assert night.phases() == {"web-1": "failed"}
    assert "system disk is still" in reason(night, "web-1")
    assert night.reinstalls() == {"web-1": 1}


def test_a_false_idle_state_is_not_the_end() -> None:
    """In the middle of it the server looks done for ten seconds, without a job to ask."""
    faults = (fault("false-idle", server="web-1", call="reinstall"), fault("answer-lost", server="web-1"))
    night = told(calm("web-1", faults=faults))
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 1}


def test_a_server_that_disappears_fails_alone() -> None:
    """Deleted by somebody in the middle of its reinstall."""
    night = told(calm(faults=(fault("server-disappears", server="web-2", from_s=60.0),)))
    assert night.phases() == {"web-1": "verified", "web-2": "failed", "web-3": "verified"}


def test_a_server_locked_after_planning_is_not_wiped() -> None:
    """Somebody locks it while it is being stopped."""
    night = told(calm(faults=(fault("locked-by-other", server="web-2", from_s=6.0),)))
    assert night.phases()["web-2"] == "failed"
    assert "locked" in reason(night, "web-2")
    assert "web-2" not in night.reinstalls()


@pytest.mark.parametrize("what", ["name", "disk"])
def test_a_server_that_is_another_one_by_now_is_not_wiped(what: str) -> None:
    """Renamed or given another system disk after the plan was made: changed since planned."""
    from fleet.rehearsal import stories  # noqa: PLC0415 - of this test alone

    story = calm("web-1")
    build = stories.Story.world

    def world(self: stories.Story) -> object:
        made = build(self)
        server = made.named("web-1")

        def meddle(now: float) -> None:
            if what == "name":
                made.change(server, now, name="db-1")
            else:
                disk = server.disks[0]
                new = replace(disk, id=made.new_uuid())
                made.change(server, now, disks=[new, *server.disks[1:]])

        made.at(8.0, meddle)
        return made

    stories.Story.world = world  # type: ignore[method-assign, assignment]
    try:
        night = told(story)
    finally:
        stories.Story.world = build  # type: ignore[method-assign]
    assert night.phases() == {"web-1": "skipped"}
    assert reason(night, "web-1").startswith("changed since planned")
    assert night.reinstalls() == {}


def test_a_server_started_by_somebody_else_is_not_wiped() -> None:
    """Right before any of our looks at it somebody brings it back: that is respected, and said."""
    reasons = set()
    for look in range(1, 40):
        again = fault("started-by-other", server="web-1", call="show", nth=look)
        night = told(calm("web-1", faults=(again,)))
        if night.phases() == {"web-1": "skipped"}:
            reasons.add(reason(night, "web-1"))
            assert night.reinstalls() == {}
    assert reasons == {"changed since planned: somebody has started it after it was stopped"}


def test_a_soft_stop_that_hangs_becomes_a_hard_one() -> None:
    """The guest ignores the request; after the soft time-out the power is cut."""
    night = told(calm("web-1", stop=Stop(soft_timeout_s=60.0), behaviour={"soft_hangs": 1.0}))
    assert night.phases() == {"web-1": "verified"}
    assert [event["force"] for event in night.events("StopRequested")][-1] is True


def test_a_hanging_stop_may_fail_instead() -> None:
    """The plan forbids to cut the power: the server is given up, untouched."""
    stop = Stop(soft_timeout_s=60.0, then="fail")
    night = told(calm("web-1", stop=stop, behaviour={"soft_hangs": 1.0}))
    assert night.phases() == {"web-1": "failed"}
    assert night.events("Failed")[0]["untouched"] is True
    assert night.reinstalls() == {}


@pytest.mark.parametrize("how", [None, "killed", "power-cut"])
def test_what_was_off_stays_off(how: str | None) -> None:
    """A server that was off when we came is off when we go, also when a crash came between."""
    story = calm("web-1", off=("web-1",))
    incidents = () if how is None else (at(effect_of(story, "ReinstallAccepted"), how),)
    night = told(story, *incidents)
    assert night.phases() == {"web-1": "verified"}
    assert night.world.named("web-1").show.value[0] == "SHUTOFF"


def test_a_start_that_comes_to_nothing_is_asked_for_again() -> None:
    """The reinstall leaves the server off, and the first start is accepted and does nothing."""
    night = told(
        calm(
            "web-1", faults=(fault("accepted-then-nothing", server="web-1"),), behaviour={"ends_shutoff": 1.0}
        )
    )
    assert night.phases() == {"web-1": "verified"}


def test_a_server_caught_in_passing_is_started() -> None:
    """One look showed it running, and before the second it was off: nobody else will start it."""
    started = next(event for event in told(calm("web-1")).events() if event["event"] == "Started")
    from_s = (datetime.fromisoformat(started["at"]) - EPOCH).total_seconds() + 0.1
    night = told(calm("web-1", faults=(fault("stopped-by-other", server="web-1", from_s=from_s),)))
    assert [event["event"] for event in night.events()].index("Started") < [
        event["event"] for event in night.events()
    ].index("StartRequested")
    assert night.phases() == {"web-1": "verified"}
    assert night.world.named("web-1").show.value[0] == "ACTIVE"


def test_a_retry_after_a_failed_verification_reinstalls() -> None:
    """It was reinstalled and not verified; a person gives it another try, and its new disk is no obstacle."""
    bad = fault("success-without-change", server="web-1")
    story = replace(calm("web-1", faults=(bad,), verify=Verify(timeout_s=60.0)), person=Person(retries=1))
    night = told(story)
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 2}


def test_the_first_wave_fails_and_the_rest_is_not_touched() -> None:
    """The canary fails, no failure is allowed: held, and the others were never touched."""
    rollout = Rollout(waves=(1, 2), concurrency=2, hold_after=0)
    night = told(calm(rollout=rollout, faults=(fault("job-fails", server="web-1", count=9),)))
    assert night.phases() == {"web-1": "failed", "web-2": "waiting", "web-3": "waiting"}
    assert night.endings[0].code is Exit.HELD
    assert set(night.reinstalls()) == {"web-1"}


def test_a_released_run_goes_on() -> None:
    """A person releases the held run; the failure so far no longer counts."""
    rollout = Rollout(waves=(1, 2), concurrency=2, hold_after=0)
    story = calm(rollout=rollout, faults=(fault("job-fails", server="web-1", count=9),))
    night = told(replace(story, person=Person(releases=1)))
    assert night.phases() == {"web-1": "failed", "web-2": "verified", "web-3": "verified"}
