"""Runs made from values, for tests of who may be started: fleets with zones and tags, and outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from support import AT, event_for

from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.model import Call, ServerId
from fleet.core.outside import ANY_TIME, Outside
from fleet.core.rollout import Decision, decide
from fleet.core.settings import CloudSettings, Hooks, Rollout, Select, Settings, Target
from fleet.core.state import Phase, Run
from fleet.core.waves import waves_of

Outcome = Literal["verified", "lost", "untouched"]
"""``lost``: it failed after its wipe; ``untouched``: before, and it runs as it was."""

TO_INSTALLED = (
    ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started,
)  # fmt: skip


def target(
    name: str = "web", *, needs: tuple[str, ...] | None = None, hooks: Hooks | None = None, **rollout: object
) -> Target:
    """Make a target; what is not said about its rollout is no limit."""
    given = {"waves": (1000,), "concurrency": 1000, "hold_after": 1000} | rollout
    return Target(
        name=name,
        select=Select(),
        needs=needs,
        hooks=hooks or Hooks(),
        rollout=Rollout(**given),  # type: ignore[arg-type]
    )


def open_run(*targets: tuple[Target, int | Sequence[dict[str, object]]], **settings: object) -> Run:
    """Open a run of so many servers of each target, or of servers with the given attributes."""
    members: list[ev.Member] = []
    for settings_of, given in targets:
        fields = [{}] * given if isinstance(given, int) else list(given)
        kinds = [str(sorted(each.items())) for each in fields]
        for number, wave in enumerate(waves_of(kinds, settings_of.rollout.waves), start=1):
            for place in wave:
                name = f"{settings_of.name}-{place + 1}"
                members.append(
                    ev.Member(
                        id=ServerId(name),
                        name=name,
                        target=settings_of.name,
                        wave=number,
                        call=Call.REINSTALL_CLOUD_INIT,
                        **fields[place],  # type: ignore[arg-type]
                    )
                )
    opened = ev.RunOpened(
        format=ev.FORMAT,
        run="r",
        fleet="0",
        settings=Settings(
            plan="p",
            digest="d",
            folder="/",
            cloud=CloudSettings(provider="simulator"),
            targets=tuple(target for target, _ in targets),
            **settings,  # type: ignore[arg-type]
        ),
        members=tuple(members),
        cloud="c",
        project="p",
        user="u",
        plan_path="/p.yaml",
        host="h",
        pid=1,
    )
    return Run(opened, AT)


def take(run: Run, *events: ev.Event, at: datetime = AT) -> None:
    """Fold facts into a run."""
    for event in events:
        apply(run, event, at)


def settle(run: Run, outcome: Outcome, *names: str, reason: str = "") -> None:
    """Bring servers to an end, from waiting or in flight. Reasons differ, unless one is given."""
    for name in names:
        server = ServerId(name)
        if run.servers[server].phase is Phase.WAITING:
            take(run, ev.Admitted(server=server))
        why = reason or f"broken {name}"
        if outcome == "untouched":
            take(run, ev.Failed(server=server, reason=why, untouched=True))
            continue
        take(run, *(event_for(kind, server) for kind in TO_INSTALLED))
        if outcome == "lost":
            take(run, ev.Failed(server=server, reason=why))
        else:
            take(run, event_for(ev.ChecksPassed, server), ev.Verified(server=server))


def start(run: Run, outside: Outside = ANY_TIME) -> list[str]:
    """Admit whom `decide` lets through, as the engine does; return their names."""
    decision = decide(run, outside)
    assert decision.hold is None, decision.hold
    for server in decision.start:
        take(run, ev.Admitted(server=server))
    return [str(server) for server in decision.start]


def refused(run: Run, outside: Outside = ANY_TIME) -> Decision:
    """Return what was decided, if it starts nobody."""
    decision = decide(run, outside)
    assert decision.start == ()
    return decision
