"""Stories about the one call that must not be made twice: answers lost, late and wrong, and crashes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from story_support import at, calm, effect_of, reason, told

from fleet.cloud.simulator.faults import fault
from fleet.errors import Exit

ALL_VERIFIED = {"web-1": "verified", "web-2": "verified", "web-3": "verified"}
ONCE = {"web-1": 1, "web-2": 1, "web-3": 1}


def test_a_calm_night() -> None:
    """Everybody is reinstalled once and verified, three at a time."""
    night = told(calm())
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == ONCE
    assert night.world.max_down == 3
    assert night.endings[0].code is Exit.OK


@pytest.mark.parametrize("how", ["answer-lost", "html", "garbage"])
def test_an_answer_that_is_lost_is_found_by_looking(how: str) -> None:
    """The cloud took the call and nobody knows: the server tells, and is not asked for again."""
    night = told(calm(faults=(fault(how, call="reinstall", server="web-2", accepted=how != "answer-lost"),)))
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == ONCE
    assert len(night.events("ReinstallUnanswered")) == 1
    assert [each["job"] for each in night.events("ReinstallAccepted")].count(None) == 1


@pytest.mark.parametrize("status", [500, 502, 504])
@pytest.mark.parametrize("accepted", [True, False])
def test_a_5xx_says_nothing(status: int, accepted: bool) -> None:  # noqa: FBT001
    """Carried out or not, the answer looks the same; each server is wiped once."""
    bad = fault("error-burst", call="reinstall", server="web-2", status=status, accepted=accepted)
    night = told(calm(faults=(bad,)))
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == ONCE
    assert night.world.wipes() == dict.fromkeys(night.world.servers, 1)


def test_a_request_that_lands_after_its_sender_gave_up() -> None:
    """Half a minute late, when everybody has hung up: it is waited out, and recognised."""
    night = told(calm(faults=(fault("lands-late", server="web-1", seconds=30.0),)))
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == ONCE


def test_a_request_that_never_arrived_is_sent_again_after_the_settle_time() -> None:
    """Cut before the cloud saw it. Only the settle time tells, and then it is asked again."""
    night = told(calm(faults=(fault("cut-before", server="web-1"),)))
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == ONCE
    (event,) = night.events("ReinstallNotTaken")
    assert "watched for 300 s" in event["evidence"] or "watched for 3" in event["evidence"]


@pytest.mark.parametrize("seconds", [30.0, 212.0, 220.0, 290.0])
def test_a_stop_that_lands_after_the_reinstall_does_not_leave_a_verified_server_off(seconds: float) -> None:
    """The lost stop is asked for again, and lands when the server is up: until then nobody is verified."""
    night = told(calm("web-1", faults=(fault("lands-late", call="stop", server="web-1", seconds=seconds),)))
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 1}
    assert night.events("StopUnanswered")
    assert [server.show.value[0] for server in night.world.servers.values()] == ["ACTIVE"]


def test_a_stop_that_a_dead_process_may_have_sent_is_held_against_its_server_too() -> None:
    story = replace(
        calm("web-1", faults=(fault("lands-late", call="stop", server="web-1", seconds=240.0),)),
        nights_s=(0.0,),
    )
    number = effect_of(story, "StopRequested")
    night = told(story, at(number + 3, "killed"))
    assert night.phases() == {"web-1": "verified"}
    assert [server.show.value[0] for server in night.world.servers.values()] == ["ACTIVE"]


def test_a_refused_connection_needs_no_doubt() -> None:
    """Nothing left the machine, so it is asked again within seconds."""
    night = told(calm(faults=(fault("unreachable", call="reinstall", server="web-1"),)))
    assert night.phases() == ALL_VERIFIED
    assert len(night.events("ReinstallRefused")) == 1
    assert not night.events("ReinstallUnanswered")


@pytest.mark.parametrize("how", ["killed", "power-cut"])
@pytest.mark.parametrize("moment", ["synced", "sent"])
@pytest.mark.parametrize("night_s", [0.0, 7200.0, 259200.0])
def test_a_lost_answer_across_a_crash(how: str, moment: str, night_s: float) -> None:
    """Killed between the announcement and the answer: the next life looks, and wipes nobody twice."""
    story = replace(calm("web-1"), nights_s=(night_s,))
    number = effect_of(story, "ReinstallRequested", moment)
    night = told(story, at(number, how))
    assert night.crashes == 1
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 1}


def test_a_crash_while_it_lands_late() -> None:
    """Lost answer, crash and late arrival together, the next life begun before it lands."""
    story = calm("web-1", faults=(fault("lands-late", server="web-1", seconds=30.0),))
    story = replace(story, nights_s=(0.0,))
    number = effect_of(story, "ReinstallUnanswered")
    night = told(story, at(number, "power-cut"), later=((at(20, "killed"),),))
    assert night.crashes == 2
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 1}


def test_what_everybody_would_meet_holds_at_the_first() -> None:
    """The key pair is gone: the first refusal holds the run, the others are not even stopped."""
    night = told(calm(faults=(fault("key-pair-deleted", from_s=5.0),), rollout=None, settle_s=60.0))
    phases = sorted(night.phases().values())
    assert night.run is not None
    assert night.run.held or phases == ["failed"] * 3
    assert night.reinstalls() == {}


def test_with_stop_server_is_never_sent_on_a_repeat() -> None:
    """The mode that takes away the cloud's own guard is sent for the first request only."""
    story = calm("web-1", mode="with-stop-server", faults=(fault("cut-before", server="web-1"),))
    night = told(story)
    assert night.phases() == {"web-1": "verified"}
    stopped = night.events("Stopped")
    assert [event["running"] for event in stopped] == [True, False]
    assert night.reinstalls() == {"web-1": 1}


def test_a_process_that_was_paused_does_not_send() -> None:
    """Stopped by SIGSTOP between announcement and sending: too old when it wakes, so it is not sent."""
    story = calm("web-1")
    number = effect_of(story, "ReinstallRequested", "synced")
    night = told(story, at(number, "pause", 900.0))
    assert night.events("ReinstallRefused")[0]["reason"].endswith("has passed")
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 1}


def test_a_machine_that_slept_does_not_send() -> None:
    """The loop's clock slept as well; the boot time did not."""
    story = calm("web-1")
    night = told(story, at(effect_of(story, "ReinstallRequested", "synced"), "suspend", 3600.0))
    assert "has passed" in night.events("ReinstallRefused")[0]["reason"]
    assert night.reinstalls() == {"web-1": 1}


def test_undecidable_is_never_guessed() -> None:
    """Taken, answer lost, over before anybody looked, nothing changed: nobody can tell, a person must."""
    faults = (fault("answer-lost", server="web-1"), fault("success-without-change", server="web-1"))
    story = replace(calm("web-1", faults=faults), nights_s=(7200.0,))
    night = told(story, at(effect_of(story, "ReinstallRequested", "sent"), "killed"))
    assert night.phases() == {"web-1": "failed"}
    assert reason(night, "web-1").startswith("undecidable")
    assert night.reinstalls() == {"web-1": 1}
