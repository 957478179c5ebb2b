"""Hooks around runs and waves, on failures and on holds: when each is run, and what its failure means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from story_support import INSTANTS, at, calm, effect_of, told

from fleet.cloud.simulator.faults import fault
from fleet.core.settings import Hooks, Rollout
from fleet.errors import Exit
from fleet.rehearsal.hooks import Outcome
from fleet.rehearsal.rehearse import crash_everywhere
from fleet.rehearsal.stories import Person, Story, Told
from fleet.rehearsal.tales import plan, target

ALL = Hooks(
    before_run=("a",),
    after_run=("b",),
    before_wave=("c",),
    after_wave=("d",),
    on_failure=("e",),
    on_hold=("f",),
)
TWO_WAVES = Rollout(waves=(1, 2), concurrency=2, hold_after=3)


def hooked(
    outcomes: dict[str, tuple[Outcome, ...]] | None = None, hooks: Hooks = ALL, **fields: Any
) -> Story:
    story = calm(**({"rollout": TWO_WAVES} | fields))
    [target] = story.settings.targets
    settings = msgspec.structs.replace(
        story.settings, targets=(msgspec.structs.replace(target, hooks=hooks),)
    )
    return replace(story, settings=settings, hooks=outcomes or {})


def first_life(found: Told) -> list[str]:
    """Return the hooks up to the end of the first life: the story resumes a finished run once more."""
    calls = found.book.calls
    return calls[: calls.index("run/after_run") + 1]


def failures(found: Told) -> list[str]:
    return [event["hook"] for event in found.events("HookFailed")]


def test_each_at_its_time() -> None:
    night = told(hooked())
    assert first_life(night) == [
        "run/before_run",
        *("web/before_wave", "web/after_wave"),
        *("web/before_wave", "web/after_wave"),
        "run/after_run",
    ]
    assert set(night.phases().values()) == {"verified"}
    assert failures(night) == []


@pytest.mark.parametrize("outcome", ["fails", "hangs", "missing"])
def test_before_run_fails_and_nothing_is_started(outcome: Outcome) -> None:
    night = told(hooked({"run/before_run": (outcome,) * 9}))
    assert set(night.phases().values()) == {"waiting"}
    assert night.endings[-1].code is Exit.HELD
    assert night.run is not None
    assert "before_run" in str(night.run.held)
    assert night.world.ledger.calls() == []
    assert "run/on_hold" in night.book.calls


def test_a_person_releases_it_and_it_is_asked_again() -> None:
    night = told(replace(hooked({"run/before_run": ("fails",)}), person=Person(releases=1)))
    assert set(night.phases().values()) == {"verified"}
    assert night.book.calls.count("run/before_run") >= 2


def test_before_wave_fails_and_the_wave_is_not_started() -> None:
    night = told(hooked({"web/before_wave": ("good", "fails")}))
    assert night.phases() == {"web-1": "verified", "web-2": "waiting", "web-3": "waiting"}
    assert night.endings[-1].code is Exit.HELD
    assert night.reinstalls() == {"web-1": 1}


@pytest.mark.parametrize("hook", ["web/after_wave", "run/after_run"])
def test_a_failure_afterwards_is_told_and_changes_nothing(hook: str) -> None:
    night = told(hooked({hook: ("fails",)}))
    assert set(night.phases().values()) == {"verified"}
    assert night.endings[0].code is Exit.OK
    assert failures(night) == [hook.partition("/")[2]]


def test_a_failed_server_is_told_about_once_and_a_failure_of_that_changes_nothing() -> None:
    broken = fault("job-fails", server="web-2", count=9)
    night = told(hooked({"web-2/on_failure": ("hangs",)}, faults=(broken,)))
    assert night.phases() == {"web-1": "verified", "web-2": "failed", "web-3": "verified"}
    assert night.book.calls.count("web-2/on_failure") == 1
    assert failures(night) == ["on_failure of web-2"]
    assert night.endings[0].code is Exit.FAILED


def test_a_hold_is_told_about() -> None:
    broken = fault("job-fails", server="web-1", count=9)
    rollout = Rollout(waves=(1, 2), concurrency=2, hold_after=0)
    night = told(hooked({"run/on_hold": ("fails",)}, faults=(broken,), rollout=rollout))
    assert night.endings[0].code is Exit.HELD
    assert night.book.calls.count("run/on_hold") == 1
    assert failures(night) == ["on_hold"]


def test_the_next_life_asks_again_before_it_starts_anybody() -> None:
    story = hooked()
    night = told(story, at(effect_of(story, "Verified"), "killed"))
    assert set(night.phases().values()) == {"verified"}
    assert night.book.calls.count("run/before_run") == 2
    assert night.book.calls.count("web/before_wave") == 2, "once for each wave"


def test_killed_at_every_instant() -> None:
    found = crash_everywhere(hooked(), kinds=("killed",), at_most=INSTANTS)
    assert found.failures == []
    assert found.crashes == found.told > 50


def test_a_wave_whose_hook_takes_its_time_holds_up_no_target_beside_it() -> None:
    """Targets take turns: behind a server of a wave that may not start yet come those of the others."""
    few = Rollout(waves=(3,), concurrency=3, hold_after=3)
    web, db = (
        msgspec.structs.replace(target(name, rollout=few), needs=(), hooks=hooks)
        for name, hooks in (("web", Hooks()), ("db", Hooks(before_wave=("c",), timeout_s=600.0)))
    )
    names = [f"{name}-{number}" for name in ("web", "db") for number in (1, 2, 3)]
    story = replace(calm(*names), settings=plan(web, db, rate=2.0), hooks={"db/before_wave": ("hangs",)})
    night = told(story)
    assert night.run is not None
    admitted = {night.run.servers[each["server"]].label: each["at"] for each in night.events("Admitted")}
    assert admitted.keys() == {"web-1", "web-2", "web-3"}
    assert len(set(admitted.values())) == 1, admitted
