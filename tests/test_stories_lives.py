"""Stories about lives: crashes, disks, logins, outages, signals, clocks; and what a resume may do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from story_support import INSTANTS, at, calm, effect_of, reason, told

from fleet.cloud.simulator.faults import fault
from fleet.core.events import SYNCED
from fleet.core.settings import Rollout
from fleet.errors import CloudUnusable, Exit, JournalError
from fleet.rehearsal.incidents import Incident
from fleet.rehearsal.rehearse import crash_everywhere
from fleet.rehearsal.soak import SPACING, soak
from fleet.rehearsal.stories import tell
from fleet.rehearsal.tales import reference, tale

ALL_VERIFIED = {"web-1": "verified", "web-2": "verified", "web-3": "verified"}
ONE_BY_ONE = Rollout(waves=(1,), concurrency=1, hold_after=0)


def test_a_drain_brings_those_in_flight_to_an_end() -> None:
    """The first Ctrl-C: nobody new is started, the one in flight is verified; the next life does the rest."""
    story = calm(rollout=ONE_BY_ONE)
    night = told(story, at(effect_of(story, "ReinstallAccepted"), "drain"))
    assert night.endings[0].code is Exit.UNFINISHED
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == dict.fromkeys(ALL_VERIFIED, 1)


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing() -> None:
    """The cloud goes on with what it was asked; the next life finds it."""
    story = calm()
    night = told(story, at(effect_of(story, "ReinstallAccepted"), "stop-now"))
    assert night.endings[0].code is Exit.INTERRUPTED
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == dict.fromkeys(ALL_VERIFIED, 1)


def test_a_resume_counts_those_in_flight() -> None:
    """Two were in flight when it died, two are allowed: the third waits its turn in the next life as well."""
    story = replace(calm(rollout=Rollout(waves=(3,), concurrency=2, hold_after=0)), nights_s=(0.0,))
    night = told(story, at(effect_of(story, "ReinstallAccepted", nth=2), "killed"))
    assert night.world.max_down == 2
    assert night.phases() == ALL_VERIFIED


def test_servers_do_not_wait_for_each_others_syncs() -> None:
    """A hundred are stopped in one call: one sync is enough for it. The rest comes as the pacer lets it."""
    names = [f"web-{number:03}" for number in range(100)]
    story = calm(*names, rollout=Rollout(waves=(100,), concurrency=100, hold_after=0))
    stops = b'"event":"StopRequested"'
    night = told(story)
    assert night.journal.count(stops) == 100
    facts = sum(night.journal.count(b'"event":"%s"' % kind.__name__.encode()) for kind in SYNCED)
    assert night.endings[0].by_kind["synced"] <= facts - 99


def test_a_finished_run_resumed_sends_nothing() -> None:
    """The last life of every story is one more resume; here it is looked at."""
    night = told(calm())
    assert night.endings[-1].was_settled
    assert night.endings[-1].mutations == 0
    assert night.endings[-1].code is Exit.OK


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 86400.0 * 400])
def test_the_wall_clock_decides_nothing(seconds: float) -> None:
    """It jumps in the middle of a reinstall, there and back: no time-out notices."""
    story = calm()
    number = effect_of(story, "ReinstallAccepted")
    night = told(story, at(number, "wall-jump", seconds), at(number + 40, "wall-jump", -seconds))
    assert night.phases() == ALL_VERIFIED
    assert night.endings[0].took_s == told(story).endings[0].took_s


def test_a_token_that_ends_in_the_middle() -> None:
    """Revoked again and again: a new login each time, and no wipe twice."""
    faults = tuple(fault("token-expiry", from_s=float(at_s)) for at_s in range(10, 300, 20))
    night = told(calm(faults=faults))
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == dict.fromkeys(ALL_VERIFIED, 1)
    assert night.world.ledger.requests["token"] > 5


def test_a_token_that_ends_right_before_the_wipe() -> None:
    """The 401 proves that nobody looked at the request: it is sent again with a new token, once."""
    night = told(calm(faults=(fault("token-expiry", call="reinstall", nth=2),)))
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == dict.fromkeys(ALL_VERIFIED, 1)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_outage_of_ten_minutes_fails_nobody(status: int) -> None:
    """Time in which the cloud cannot be read is not watched time: the run is late, and that is all."""
    burst = fault("error-burst", call="any", status=status, from_s=40.0, for_s=600.0)
    night = told(calm(faults=(burst,)))
    assert night.phases() == ALL_VERIFIED


@pytest.mark.parametrize("status", [429, 503])
def test_a_cloud_that_asks_for_an_hour_is_asked_again_sooner(status: int) -> None:
    """Who is stopped is down: one refusal is no reason to leave it so for its whole time, and to fail it."""
    burst = fault("error-burst", call="reinstall", status=status, retry_after_s=999999.0)
    night = told(calm(faults=(burst,)))
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == dict.fromkeys(ALL_VERIFIED, 1)


def test_an_outage_without_end_ends_the_life_and_not_the_run() -> None:
    """After half an hour of silence the life ends with its own exit code; a later one goes on."""
    burst = fault("error-burst", call="any", status=503, from_s=40.0, for_s=9000.0)
    night = told(replace(calm(faults=(burst,)), nights_s=(7200.0,)))
    assert isinstance(night.endings[0].error, CloudUnusable)
    assert night.phases() == ALL_VERIFIED


BAKES = Rollout(waves=(1, 1), concurrency=1, hold_after=2, bake_s=900.0)


def test_an_outage_while_a_wave_bakes_ends_the_life_as_any_other_does() -> None:
    """The second look has its own tasks: what ended one of them was told as a defect of ours."""
    burst = fault("error-burst", call="any", status=503, from_s=700.0, until_s=7000.0, count=None)
    night = told(replace(calm("web-1", "web-2", rollout=BAKES, faults=(burst,)), nights_s=(7200.0,)))
    assert isinstance(night.endings[0].error, CloudUnusable)
    assert night.endings[0].error.exit_code is Exit.CLOUD
    assert night.phases() == {"web-1": "verified", "web-2": "verified"}


def test_who_cannot_be_looked_at_again_has_gone_bad_and_ends_no_life() -> None:
    sick = fault("rejected", call="show", server="web-1", code="Common.0002", from_s=700.0, count=None)
    night = told(calm("web-1", "web-2", rollout=BAKES, faults=(sick,)))
    assert night.endings[0].code is Exit.FAILED
    assert night.phases() == {"web-1": "failed", "web-2": "verified"}
    assert "no answer about it" in reason(night, "web-1")


def test_a_login_that_is_refused_for_good_keeps_the_state() -> None:
    """The password was changed in the night: CloudUnusable, everybody as the journal has them."""
    story = calm()
    refused = fault(
        "error-burst", call="any", status=401, code="APIGW.0301", from_s=40.0, until_s=200.0, count=None
    )
    night = told(replace(story, faults=(refused,), nights_s=(600.0,)))
    assert isinstance(night.endings[0].error, CloudUnusable)
    assert night.endings[0].error.exit_code is Exit.CLOUD
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == dict.fromkeys(ALL_VERIFIED, 1)


@pytest.mark.parametrize("how", ["write-fails", "sync-fails", "disk-full"])
@pytest.mark.parametrize("number", range(30, 200, 17))
def test_after_a_failed_write_nothing_is_changed_any_more(how: str, number: int) -> None:
    """Wherever the disk says no, no call that changes anything follows; room made, the next life goes on."""
    night = told(calm(), Incident(number, how))
    assert isinstance(night.endings[0].error, JournalError)
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == dict.fromkeys(ALL_VERIFIED, 1)


def test_the_same_seed_tells_the_same_story() -> None:
    """To the byte of its journal."""
    for number in range(20):
        first, second = tell(tale(number)), tell(tale(number))
        assert first.journal == second.journal
        assert [ending.effects for ending in first.endings] == [ending.effects for ending in second.endings]


TELL = """\
import hashlib
from fleet.rehearsal.stories import tell
from fleet.rehearsal.tales import tale
print([hashlib.sha256(tell(tale(number)).journal).hexdigest() for number in (17, 18, 19)])
"""


def test_the_same_seed_tells_the_same_story_in_any_process() -> None:
    """Text hashes differ from process to process, and with them the order of sets: nothing may follow it."""
    told = {
        subprocess.run(
            [sys.executable, "-c", TELL], env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(told) == 1


def test_killed_at_every_instant_of_the_reference_plan() -> None:
    """Eight servers, three at a time: a crash at each write, sync and call, both kinds of it."""
    found = crash_everywhere(reference(), at_most=INSTANTS and 2 * INSTANTS)
    assert found.failures == []
    assert found.told == 2 * (2 * INSTANTS if INSTANTS else found.effects)
    assert found.effects > 250
    assert (found.wiped_twice, found.limits_broken) == (0, 0)
    assert found.crashes >= found.told - 2


@pytest.mark.parametrize("how", ["answer-lost", "lands-late", "cut-before", "error-burst", "job-fails"])
def test_killed_at_every_instant_with_something_wrong_as_well(how: str) -> None:
    """A crash alone finds little: crossed with a lost or late answer of the same server it would."""
    fields = {"status": 502, "accepted": True} if how == "error-burst" else {}
    if how == "lands-late":
        fields = {"seconds": 30.0}
    bad = fault(how, call="reinstall", server="web-1", **fields)
    story = calm("web-1", "web-2", faults=(bad,), settle_s=60.0)
    found = crash_everywhere(story, at_most=INSTANTS, night_s=0.0)
    assert found.failures == []


def test_a_soak_of_the_size_of_a_coffee() -> None:
    """Some hundreds of made-up stories; `python -m fleet.rehearsal.soak` tells as many as you like."""
    tally = soak(range(SPACING * 2, SPACING * 2 + 250))
    assert tally.failures == []
    assert tally.stories == 250
    assert sum(tally.crashes.values()) > 100
