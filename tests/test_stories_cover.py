"""The bad image: one kind of server does not boot it. Found in the first wave, at the price of one server."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from story_support import calm, told

from fleet.cloud.simulator.faults import fault
from fleet.cloud.simulator.things import ServerSpec
from fleet.core.settings import COVER, SHUFFLE, Rollout
from fleet.rehearsal.stories import Story, Told


def evening(*waves, order: tuple[str, ...] = ("name",)) -> Story:
    names = [f"web-{n:02d}" for n in range(1, 31)]
    rollout = Rollout(waves=waves, concurrency=10, hold_after=0, order=order)
    bad = tuple(
        fault("job-fails", server=name, count=None, code="Ecs.0605", text="does not boot")
        for name in names[20:]
    )
    story = calm(*names, rollout=rollout, attempts=1, faults=bad)
    flavors = {name: "s3.large.2" if name in names[20:] else "c4.xlarge.2" for name in names}
    return replace(story, servers=tuple(ServerSpec(name=name, flavor=flavors[name]) for name in names))


def lost(found: Told) -> int:
    return sum(phase == "failed" for phase in found.phases().values())


def test_a_first_wave_of_one_tests_one_kind() -> None:
    found = told(evening(1, 30))
    assert found.phases()["web-01"] == "verified"
    assert lost(found) > 1


def test_a_wave_that_covers_loses_one() -> None:
    found = told(evening(COVER, 30))
    [opened] = found.events("RunOpened")
    assert [member["name"] for member in opened["members"] if member["wave"] == 1] == ["web-01", "web-21"]
    assert lost(found) == 1
    assert list(found.phases().values()).count("waiting") == 28


def test_a_shuffled_run_is_the_one_in_its_journal() -> None:
    story = evening(30, order=(SHUFFLE,))
    found = told(replace(story, faults=()))
    [opened] = found.events("RunOpened")
    assert opened["seed"] == 0
    names = [member["name"] for member in opened["members"]]
    assert names != sorted(names)
    assert set(found.phases().values()) == {"verified"}
    assert msgspec.json.encode(names)
