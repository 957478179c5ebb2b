"""The promises on an OpenStack cloud: the same engine and runbook, on virtual time, crashes and lost
answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from story_support import INSTANTS, at, calm, effect_of, reason, told

from fleet.cloud.simulator.faults import Fault, fault
from fleet.core.settings import Rollout
from fleet.errors import Exit
from fleet.rehearsal.stories import Story

ALL_VERIFIED = {"web-1": "verified", "web-2": "verified", "web-3": "verified"}
ONCE = {"web-1": 1, "web-2": 1, "web-3": 1}


def nova(*names: str, **fields: Any) -> Story:
    """Return a calm story on OpenStack."""
    story = calm(*names, **fields)
    cloud = msgspec.structs.replace(story.settings.cloud, provider="openstack")
    return replace(story, settings=msgspec.structs.replace(story.settings, cloud=cloud))


def test_a_calm_night() -> None:
    """Everybody is rebuilt once and verified; the job is the log's line, and nobody waits for a start in
    vain."""
    night = told(nova())
    assert night.phases() == ALL_VERIFIED
    assert night.reinstalls() == ONCE
    assert night.endings[0].code is Exit.OK
    assert all("/req-" in each["job"] for each in night.events("ReinstallAccepted"))


def test_a_server_that_was_off_is_off_again() -> None:
    night = told(nova(off=("web-2",)))
    assert night.phases() == ALL_VERIFIED
    shows = {server.name: server.show.value[0] for server in night.world.servers.values()}
    assert shows == {"web-1": "ACTIVE", "web-2": "SHUTOFF", "web-3": "ACTIVE"}


@pytest.mark.parametrize(
    "bad",
    [
        fault("answer-lost", server="web-2"),
        fault("html", server="web-2", accepted=True),
        fault("lands-late", server="web-2", seconds=30.0),
        fault("cut-before", server="web-2"),
        fault("unreachable", call="reinstall", server="web-2"),
        fault("error-burst", server="web-2", status=500, accepted=True),
        fault("error-burst", server="web-2", status=502),
        fault("error-burst", call="any", status=503, count=3, nth=20),
        fault("error-burst", call="any", status=429, retry_after_s=1, count=3, nth=25),
        fault("false-idle", server="web-2", seconds=40.0),
        fault("accepted-then-nothing", server="web-2"),
        fault("stop-hangs", server="web-2"),
        fault("token-expiry", call="reinstall", nth=2),
        fault("slow", call="reinstall", server="web-2", seconds=90.0),
        fault("error-burst", call="actions", status=500, count=4, nth=5),
        fault("error-burst", call="job", status=500, count=4),
        fault("job-fails", server="web-2"),
        fault("job-fails", server="web-2", lose_disk=True),
    ],
    ids=lambda order: f"{order.kind}-{order.status or ''}{'-taken' if order.accepted else ''}",
)
def test_a_bad_night_ends_well(bad: Fault) -> None:
    """Whatever is lost, late, hung or wrong: all are verified, and no request was taken twice for one
    attempt."""
    night = told(nova(faults=(bad,), behaviour={"soft_force_s": 60.0}))
    assert night.phases() == ALL_VERIFIED
    expected = ONCE | ({"web-2": 2} if bad.kind == "job-fails" else {})
    assert night.reinstalls() == expected


def test_a_lost_answer_is_followed_by_the_job_that_the_log_names() -> None:
    night = told(nova("web-1", faults=(fault("answer-lost", server="web-1"),)))
    (accepted,) = night.events("ReinstallAccepted")
    assert "system disk rebuild:req-" in accepted["evidence"]
    assert "/req-" in accepted["job"]
    (done,) = night.events("Reinstalled")
    assert accepted["job"] in done["evidence"]


def test_a_rebuild_that_never_ends_is_given_up_and_not_repeated() -> None:
    night = told(nova("web-1", faults=(fault("job-stuck", server="web-1"),)))
    assert night.phases() == {"web-1": "failed"}
    assert "not over after" in reason(night, "web-1")
    assert night.reinstalls() == {"web-1": 1}


@pytest.mark.parametrize("how", ["killed", "power-cut"])
@pytest.mark.parametrize("moment", ["synced", "sent"])
@pytest.mark.parametrize("night_s", [0.0, 7200.0, 259200.0])
def test_a_lost_answer_across_a_crash(how: Any, moment: str, night_s: float) -> None:
    story = replace(nova("web-1"), nights_s=(night_s,))
    number = effect_of(story, "ReinstallRequested", moment)
    night = told(story, at(number, how))
    assert night.crashes == 1
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 1}


@pytest.mark.parametrize("share", range(4))
def test_killed_at_every_instant(share: int) -> None:
    """At reads as well, from first to last: all are verified, and nobody is rebuilt twice."""
    story = nova(rollout=Rollout(waves=(1, 2), concurrency=2, hold_after=0))
    effects = told(story).endings[0].effects
    step = effects // (3 * INSTANTS) if INSTANTS else 1
    for number in range(1 + share * step, effects, 4 * step):
        night = told(replace(story, nights_s=(60.0,)), at(number, "killed"))
        assert night.phases() == ALL_VERIFIED, number
        assert night.reinstalls() == ONCE, number
