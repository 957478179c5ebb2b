"""The stories can fail: bugs planted in the engine are found by some hundreds of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet import context, engine, journal, runbook
from fleet.core import events as ev
from fleet.core.doubt import Conclusion, Doubt, Verdict
from fleet.core.rollout import Decision
from fleet.core.rollout import decide as rightly
from fleet.core.state import Phase, Run, ServerState
from fleet.rehearsal.soak import soak

Patch = pytest.MonkeyPatch


async def _repost(server: ServerState, ctx: context.Context) -> None:
    ctx.record(ev.ReinstallNotTaken(server=server.id, evidence="surely"))


def repost(patch: Patch) -> None:
    """An unknown outcome is taken for none."""
    patch.setitem(runbook.RUNBOOK, Phase.REQUESTED, _repost)


def hasty(patch: Patch) -> None:
    """The settle time is not waited for."""
    look = Doubt.look
    patch.setattr(Doubt, "look", lambda self, seen, **_: look(self, seen, watched_s=1e6))


def gullible(patch: Patch) -> None:
    """Whoever is in doubt was taken."""
    taken = Conclusion(Verdict.TAKEN, "surely")
    patch.setattr(Doubt, "look", lambda *_, **__: taken)


def unsynced(patch: Patch) -> None:
    """The announcement is not on the disk when the call is made."""
    patch.setattr(journal, "SYNCED", journal.SYNCED - {ev.ReinstallRequested})


def trusting(patch: Patch) -> None:
    """Accepted is done: the system disk is not looked at."""

    async def nothing(*_: object) -> None:
        return None

    patch.setattr(runbook, "_what_is_wrong", nothing)


def greedy(patch: Patch) -> None:
    """Who is in flight from an earlier life is not counted."""

    def decide(run: Run) -> Decision:
        decision = rightly(run)
        target = next((each for each in run.targets.values() if not each.finished), None)
        if run.lives > 1 and target is not None and run.held is None and run.drained is None:
            return Decision(start=tuple(target.waves[target.current].waiting), hold=decision.hold)
        return decision

    patch.setattr(engine, "decide", decide)


def deaf(patch: Patch) -> None:
    """After a failed write it goes on."""
    patch.setattr(engine.Engine, "_abort", lambda *_: None)
    patch.setattr(engine.Engine, "record", _record_anyhow)


def _record_anyhow(self: engine.Engine, event: ev.Event) -> None:
    try:
        self._recorder.record(event)
    except journal.JournalError:
        self._recorder.journal.broken = None
        journal.apply(self.run, event, self._recorder._now())


def blind(patch: Patch) -> None:
    """The last look before the wipe is left out."""
    patch.setattr(runbook, "may_wipe", lambda *_: None)


@pytest.mark.parametrize("mutant", [repost, hasty, gullible, unsynced, trusting, greedy, deaf])
def test_a_planted_bug_is_found(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """By the referee or the cloud's record, not by chance: within the first hundreds."""
    mutant(monkeypatch)
    for first in range(0, 600, 50):
        if soak(range(30_000_000 + first, 30_000_000 + first + 50)).failures:
            return
    pytest.fail("600 stories, and nobody noticed")
