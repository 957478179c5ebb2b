"""Stories about what has to be undone again: drained, stopped, given back; crossed with crashes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from story_support import INSTANTS, at, calm, effect_of, reason, told

from fleet.cloud.simulator.faults import Fault, fault
from fleet.core.settings import Around, Hooks, Limits, Rollout, Stop, Verify
from fleet.errors import Exit
from fleet.rehearsal.hooks import Outcome
from fleet.rehearsal.rehearse import crash_everywhere
from fleet.rehearsal.stories import Person, Story, Told

PAIRS = (
    Around(do=("drain",), undo=("undrain",), timeout_s=60.0),
    Around(do=("silence",), undo=("unsilence",), timeout_s=60.0),
)
DONE_AND_UNDONE = ["do-1", "do-2", "undo-2", "undo-1"]


def hooked(
    *names: str,
    outcomes: dict[str, tuple[Outcome, ...]] | None = None,
    faults: tuple[Fault, ...] = (),
    **fields: Any,
) -> Story:
    """Return a calm story whose plan drains and silences every server."""
    story = calm(*names, faults=faults, **fields)
    targets = tuple(
        msgspec.structs.replace(target, hooks=Hooks(around_server=PAIRS)) for target in story.settings.targets
    )
    settings = msgspec.structs.replace(story.settings, targets=targets)
    return replace(story, settings=settings, hooks=outcomes or {})


def calls(found: Told, name: str) -> list[str]:
    """Return the hooks that were run about a server, in order."""
    return [call.removeprefix(f"{name}/") for call in found.book.calls if call.startswith(f"{name}/")]


def status(found: Told, name: str) -> str:
    return str(found.world.named(name).show.value[0])


def owed(found: Told, name: str) -> dict[str, bool]:
    assert found.run is not None
    return next(server.owed for server in found.run.servers.values() if server.label == name)


def order(found: Told, name: str) -> list[str]:
    """Return the events of a server that hooks and calls belong to, in order."""
    server = found.world.named(name).id
    wanted = {
        "DrainStarted",
        "DebtOwed",
        "DebtMade",
        "Drained",
        "StopRequested",
        "ReinstallRequested",
        "GivingUp",
    }
    wanted |= {"ChecksPassed", "DebtPaid", "Verified", "Failed", "PutBack"}
    return [
        each["event"] for each in found.events() if each.get("server") == server and each["event"] in wanted
    ]


def test_it_is_drained_before_it_is_stopped_and_given_back_after_it_is_verified() -> None:
    night = told(hooked("web-1", "web-2"))
    assert set(night.phases().values()) == {"verified"}
    for name in ("web-1", "web-2"):
        assert calls(night, name) == DONE_AND_UNDONE
        assert order(night, name) == [
            *("DrainStarted", "DebtOwed", "DebtMade", "DebtOwed", "DebtMade", "Drained"),
            *("StopRequested", "ReinstallRequested", "ChecksPassed", "DebtPaid", "DebtPaid", "Verified"),
        ]
    assert night.endings[0].code is Exit.OK


def test_no_more_are_drained_at_once_than_the_plan_allows() -> None:
    story = hooked("web-1", "web-2", "web-3")
    settings = msgspec.structs.replace(story.settings, limits=Limits(draining=1))
    night = told(replace(story, settings=settings))
    assert set(night.phases().values()) == {"verified"}
    drained, most, flying, together = 0, 0, 0, 0
    for event in night.events():
        drained += {"DrainStarted": 1, "Drained": -1}.get(event["event"], 0)
        flying += {"Admitted": 1, "Verified": -1}.get(event["event"], 0)
        most, together = max(most, drained), max(together, flying)
    assert most == 1
    assert together > 1, "and they are in flight at the same time all the same"


def test_a_second_attempt_does_not_drain_again() -> None:
    night = told(hooked("web-1", faults=(fault("job-fails", server="web-1"),)))
    assert night.phases() == {"web-1": "verified"}
    assert night.reinstalls() == {"web-1": 2}
    assert calls(night, "web-1") == DONE_AND_UNDONE


@pytest.mark.parametrize("outcome", ["fails", "half-done", "hangs"])
def test_a_do_that_fails_leaves_the_server_alone_and_what_may_have_been_done_is_undone(
    outcome: Outcome,
) -> None:
    """Whoever ends with an error, or not at all, may have done half of it."""
    night = told(hooked("web-1", "web-2", outcomes={"web-1/do-2": (outcome,)}))
    assert night.phases() == {"web-1": "failed", "web-2": "verified"}
    assert calls(night, "web-1") == DONE_AND_UNDONE
    assert night.world.ledger.calls("stop") != []
    assert all(night.world.named("web-1").id not in call.servers for call in night.world.ledger.calls())
    assert night.events("Failed")[0]["untouched"] is True
    assert "do-2" in reason(night, "web-1")
    assert owed(night, "web-1") == {}


@pytest.mark.parametrize("outcome", ["missing", "nothing-done"])
def test_a_do_that_has_done_nothing_is_not_undone(outcome: Outcome) -> None:
    """It could not be started; or it says that somebody else has drained the server, who will undrain it."""
    night = told(hooked("web-1", outcomes={"web-1/do-2": (outcome,)}))
    assert night.phases() == {"web-1": "failed"}
    assert calls(night, "web-1") == ["do-1", "do-2", "undo-1"]
    assert owed(night, "web-1") == {}


def test_an_undo_that_fails_is_tried_again() -> None:
    night = told(hooked("web-1", outcomes={"web-1/undo-2": ("fails", "hangs")}))
    assert night.phases() == {"web-1": "verified"}
    assert calls(night, "web-1") == ["do-1", "do-2", "undo-2", "undo-2", "undo-2", "undo-1"]
    assert night.endings[0].code is Exit.OK


def test_an_undo_that_goes_on_failing_stays_owed_and_the_run_does_not_end_well() -> None:
    """The server is verified; the other debt is paid all the same; a later life pays what is left."""
    night = told(hooked("web-1", outcomes={"web-1/undo-2": ("fails",) * 3}))
    assert night.phases() == {"web-1": "verified"}
    assert night.endings[0].code is Exit.FAILED
    assert calls(night, "web-1")[:6] == ["do-1", "do-2", "undo-2", "undo-2", "undo-2", "undo-1"]
    assert calls(night, "web-1")[6:] == ["undo-2"], "by the resume"
    assert night.endings[1].code is Exit.OK
    assert owed(night, "web-1") == {}


def test_who_was_stopped_since_it_was_verified_gets_no_traffic() -> None:
    """A later life would pay what is left; somebody has switched the server off between the two."""
    story = hooked(
        "web-1",
        outcomes={"web-1/undo-2": ("fails",) * 3},
        faults=(fault("stopped-by-other", server="web-1", from_s=600.0),),
    )
    night = told(replace(story, nights_s=(3600.0,)))
    assert night.phases() == {"web-1": "verified"}
    assert calls(night, "web-1")[6:] == [], "the resume has looked first"
    assert night.endings[1].code is Exit.FAILED
    assert owed(night, "web-1") == {"2": False}


def test_what_failed_to_be_undone_is_undone_and_done_again_before_a_retry_wipes() -> None:
    """It may have been undone all the same, and then the server has its traffic."""
    story = hooked(
        "web-1",
        outcomes={f"web-1/undo-{number}": ("half-done",) * 3 for number in (1, 2)},
        faults=(fault("rejected", call="reinstall", server="web-1", code="Common.0002"),),
    )
    night = told(replace(story, person=Person(retries=1)))
    assert night.phases() == {"web-1": "verified"}
    assert calls(night, "web-1")[:8] == ["do-1", "do-2", *["undo-2"] * 3, *["undo-1"] * 3]
    assert calls(night, "web-1")[8:] == ["undo-1", "do-1", "undo-2", "do-2", "undo-2", "undo-1"]


def test_who_went_bad_with_something_not_undone_is_neither_wiped_nor_given_traffic_by_a_retry() -> None:
    """It may have its traffic, and to undo first would give it to a server that is not well."""
    story = hooked(
        "web-1",
        "web-2",
        rollout=Rollout(waves=(1, 1), concurrency=1, hold_after=2, bake_s=900.0),
        outcomes={"web-1/undo-2": ("half-done",) * 3},
        faults=(fault("stopped-by-other", server="web-1", from_s=300.0),),
    )
    night = told(replace(story, person=Person(retries=1)))
    assert night.phases() == {"web-1": "failed", "web-2": "verified"}
    assert "could not be undone" in reason(night, "web-1")
    assert night.reinstalls() == {"web-1": 1, "web-2": 1}
    assert calls(night, "web-1")[6:] == ["do-1"]


def test_who_was_stopped_since_it_was_started_again_gets_no_traffic() -> None:
    """A life dies while it puts a server back; somebody has switched the server off before the next one."""
    story = hooked(
        "web-1",
        faults=(
            fault("locked-by-other", server="web-1", call="stop"),
            fault("stopped-by-other", server="web-1", from_s=600.0),
        ),
    )
    first_undone = at(effect_of(story, "DebtPaid", nth=2), "killed")
    night = told(replace(story, nights_s=(3600.0,)), first_undone)
    assert "undo-1" not in calls(night, "web-1")
    assert owed(night, "web-1") == {"1": False}


def test_who_cannot_be_looked_at_gets_no_traffic_and_ends_no_run() -> None:
    """The cloud refuses to tell of one verified server: that is no reason to end a life for all."""
    sick = fault("rejected", call="show", server="web-1", code="Common.0002", from_s=600.0, count=None)
    story = hooked("web-1", outcomes={"web-1/undo-2": ("fails",) * 3}, faults=(sick,))
    night = told(replace(story, nights_s=(3600.0,)))
    assert night.phases() == {"web-1": "verified"}
    assert night.endings[1].code is Exit.FAILED
    assert owed(night, "web-1") == {"2": False}


def test_a_server_that_failed_after_its_wipe_gets_no_traffic() -> None:
    """Its debts stay owed, however often the run is resumed."""
    night = told(hooked("web-1", "web-2", faults=(fault("job-fails", server="web-1", count=9),)))
    assert night.phases() == {"web-1": "failed", "web-2": "verified"}
    assert calls(night, "web-1") == ["do-1", "do-2"]
    assert owed(night, "web-1") == {"1": True, "2": True}
    assert {ending.code for ending in night.endings} == {Exit.FAILED}


def test_a_retry_after_the_wipe_does_not_drain_a_second_time() -> None:
    story = hooked("web-1", faults=(fault("job-fails", server="web-1", count=2),))
    night = told(replace(story, person=Person(retries=1)))
    assert night.phases() == {"web-1": "verified"}
    assert calls(night, "web-1") == DONE_AND_UNDONE
    assert owed(night, "web-1") == {}


def test_a_server_that_is_refused_is_put_back() -> None:
    """Locked between the stop and the wipe: it is unlocked, started, and gets its traffic back."""
    locked = fault("locked-by-other", server="web-1", call="stop")
    night = told(hooked("web-1", faults=(locked,)))
    assert night.phases() == {"web-1": "failed"}
    assert "locked" in reason(night, "web-1")
    assert night.reinstalls() == {}


def test_a_server_that_does_not_stop_is_put_back() -> None:
    stop = Stop(soft_timeout_s=60.0, then="fail")
    night = told(hooked("web-1", stop=stop, behaviour={"soft_hangs": 1.0, "soft_force_s": 300.0}))
    assert night.phases() == {"web-1": "failed"}
    assert calls(night, "web-1") == DONE_AND_UNDONE
    assert status(night, "web-1") == "ACTIVE"


def test_a_stop_that_may_still_come_true_keeps_the_traffic_away() -> None:
    """The guest neither stops nor goes on, and the plan forbids to cut the power: it stays owed."""
    stop = Stop(soft_timeout_s=60.0, then="fail")
    night = told(hooked("web-1", stop=stop, behaviour={"soft_hangs": 1.0}))
    assert night.phases() == {"web-1": "failed"}
    assert calls(night, "web-1") == ["do-1", "do-2"]
    assert owed(night, "web-1") == {"1": True, "2": True}
    assert night.run is not None
    assert "could not be put back" in next(iter(night.run.servers.values())).hint


def test_a_key_pair_that_is_gone_puts_everybody_back() -> None:
    """The first refusal is everybody's: nobody else is started, those stopped run again, as they were."""
    gone = fault("key-pair-deleted", call="stop", nth=1)
    night = told(hooked(faults=(gone,)))
    assert set(night.phases().values()) <= {"failed", "waiting"}
    assert night.reinstalls() == {}
    for name in ("web-1", "web-2", "web-3"):
        assert status(night, name) == "ACTIVE"
        assert calls(night, name) in ([], DONE_AND_UNDONE)


def test_without_hooks_who_was_stopped_and_refused_runs_again() -> None:
    gone = fault("key-pair-deleted", call="stop", nth=1)
    night = told(calm("web-1", faults=(gone,)))
    assert night.phases() == {"web-1": "failed"}
    assert order(night, "web-1") == ["StopRequested", "ReinstallRequested", "GivingUp", "DebtPaid", "Failed"]
    assert night.events("Failed")[0]["untouched"] is True
    assert status(night, "web-1") == "ACTIVE"


def test_who_was_off_before_is_not_started_when_it_is_refused() -> None:
    gone = fault("key-pair-deleted", call="show", nth=2)
    night = told(hooked("web-1", off=("web-1",), faults=(gone,)))
    assert night.phases() == {"web-1": "failed"}
    assert calls(night, "web-1") == DONE_AND_UNDONE
    assert status(night, "web-1") == "SHUTOFF"


@pytest.mark.parametrize("how", ["killed", "power-cut"])
@pytest.mark.parametrize("event", ["DebtOwed", "DebtMade", "Drained", "GivingUp", "DebtPaid"])
def test_a_crash_at_each_step_of_it(event: str, how: str) -> None:
    story = hooked("web-1", outcomes={"web-1/do-2": ("hangs",)}) if event == "GivingUp" else hooked("web-1")
    night = told(story, at(effect_of(story, event), how))  # type: ignore[arg-type]
    assert night.crashes == 1
    assert owed(night, "web-1") == {}
    assert night.book.done[night.world.named("web-1").id] == []


@pytest.mark.parametrize("kind", ["killed", "power-cut"])
@pytest.mark.parametrize(
    ("outcomes", "faults"),
    [
        ({}, ()),
        ({"web-1/do-2": ("hangs",)}, ()),
        ({"web-1/do-1": ("missing",), "web-2/undo-1": ("fails", "fails", "fails")}, ()),
        ({}, (fault("job-fails", server="web-1", count=9),)),
        ({}, (fault("key-pair-deleted", call="stop", nth=1),)),
        ({"web-1/undo-1": ("hangs", "fails")}, (fault("answer-lost", server="web-2"),)),
    ],
)
def test_killed_at_every_instant_nothing_is_forgotten_and_nothing_is_undone_twice(
    outcomes: dict[str, tuple[Outcome, ...]], faults: tuple[Fault, ...], kind: Any
) -> None:
    story = hooked("web-1", "web-2", outcomes=outcomes, faults=faults, verify=Verify(timeout_s=300.0))
    found = crash_everywhere(story, kinds=(kind,), at_most=INSTANTS)
    assert found.failures == []
    assert found.crashes == found.told > 50
    assert found.wiped_twice == 0
