"""What the stories share: a small calm plan, and ways to tell it with something going wrong."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from fleet import secrets
from fleet.cloud.simulator.faults import Fault
from fleet.cloud.simulator.things import ServerSpec
from fleet.core.settings import Reinstall, Rollout, Stop, Target, Verify
from fleet.rehearsal.incidents import Incident, Kind
from fleet.rehearsal.stories import Story, Told, tell
from fleet.rehearsal.tales import DURATIONS, plan, target

KEY = "demo-key"
INSTANTS = None if os.environ.get("FLEET_TEST_INSTANTS") == "every" else 60
"""So many instants of a story see a crash, evenly spread; None: every one, as in `make crashes`."""


def calm(
    *names: str,
    faults: tuple[Fault, ...] = (),
    off: tuple[str, ...] = (),
    rollout: Rollout | None = None,
    stop: Stop | None = None,
    verify: Verify | None = None,
    seed: int = 1,
    behaviour: dict[str, Any] | None = None,
    **reinstall: Any,
) -> Story:
    """Return the story of some servers, three at a time, one failure allowed."""
    names = names or ("web-1", "web-2", "web-3")
    web: Target = target(
        rollout=rollout or Rollout(waves=(len(names),), concurrency=3, hold_after=len(names)),
        stop=stop,
        reinstall=Reinstall(key_pair=KEY, **reinstall),
        verify=verify,
    )
    story = Story(
        seed=seed,
        settings=plan(web, rate=2.0),
        servers=tuple(ServerSpec(name=name, status="SHUTOFF" if name in off else "ACTIVE") for name in names),
        faults=faults,
        durations=DURATIONS,
    )
    if behaviour:
        from msgspec.structs import replace as with_fields  # noqa: PLC0415 - of this test alone

        story = replace(story, behaviour=with_fields(story.behaviour, **behaviour))
    return story


def told(story: Story, *incidents: Incident, later: tuple[tuple[Incident, ...], ...] = ()) -> Told:
    """Tell a story with incidents in its first life, and in *later* ones; no promise may break."""
    if incidents or later:
        story = replace(story, incidents=(incidents, *later))
    with secrets.set_aside():
        found = tell(story)
    assert found.violations == [], found.violations
    return found


def reason(found: Told, name: str) -> str:
    """Return why a server failed."""
    assert found.run is not None
    return next(server.reason for server in found.run.servers.values() if server.label == name)


def effect_of(story: Story, event: str, kind: str = "written", nth: int = 1) -> int:
    """Return the number of the effect at which the *nth* line of *event* reaches the disk."""
    numbers: list[int] = []
    from fleet.rehearsal import disk as module  # noqa: PLC0415 - of this test alone

    class Spy(module.DiskSink):
        def write(self, data: bytes) -> None:
            super().write(data)
            if b'"event":"%s"' % event.encode() in data and self._fate is not None:
                numbers.append(self._fate.count + (kind == "synced") + (kind == "sent") * 3)

    from fleet.rehearsal import life  # noqa: PLC0415 - of this test alone

    before = life.DiskSink
    life.DiskSink = Spy
    try:
        with secrets.set_aside():
            tell(story)
    finally:
        life.DiskSink = before
    return numbers[nth - 1]


def at(number: int, kind: Kind, seconds: float = 0.0) -> Incident:
    """Make an incident."""
    return Incident(number, kind, seconds)
