"""What may follow what: the phases of a server, and the table of transitions.

A phase answers "where is it?". The next thing done to a server depends on its phase alone, so a resumed run
is no special case, and a lost answer is the same case as a crash: the phase is REQUESTED.

::

    waiting → stopping → stopped → requested → reinstalling → reinstalled → starting → verifying → returning
                 ↑________________________|____________|           |____________↑                       ↓
             (not taken, refused, job failed)                   (runs already)                       verified

    failed: from anywhere.  skipped: from waiting or failed; who changed and is not wiped: from in flight.
    A person's retry: from failed, and from skipped as changed, back to waiting.
"""

from __future__ import annotations

from enum import StrEnum

from fleet.core import events as ev


class Phase(StrEnum):
    """Where a server is."""

    WAITING = "waiting"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REQUESTED = "requested"
    REINSTALLING = "reinstalling"
    REINSTALLED = "reinstalled"
    STARTING = "starting"
    VERIFYING = "verifying"
    RETURNING = "returning"
    VERIFIED = "verified"
    FAILED = "failed"
    SKIPPED = "skipped"


SETTLED = frozenset({Phase.VERIFIED, Phase.FAILED, Phase.SKIPPED})
IN_FLIGHT = frozenset(Phase) - SETTLED - {Phase.WAITING}

TRANSITIONS: dict[Phase, dict[type, Phase]] = {
    Phase.WAITING: {
        ev.Admitted: Phase.STOPPING,
        ev.Skipped: Phase.SKIPPED,
    },
    Phase.DRAINING: {
        ev.DebtOwed: Phase.DRAINING,
        ev.DebtMade: Phase.DRAINING,
        ev.Drained: Phase.STOPPING,
    },
    Phase.STOPPING: {
        ev.DrainStarted: Phase.DRAINING,
        ev.StopRequested: Phase.STOPPING,
        ev.StopUnanswered: Phase.STOPPING,
        ev.Stopped: Phase.STOPPED,
    },
    Phase.STOPPED: {
        ev.ReinstallRequested: Phase.REQUESTED,
    },
    Phase.REQUESTED: {
        ev.ReinstallAccepted: Phase.REINSTALLING,
        ev.ReinstallUnanswered: Phase.REQUESTED,
        ev.ReinstallRefused: Phase.STOPPING,
        ev.ReinstallNotTaken: Phase.STOPPING,
    },
    Phase.REINSTALLING: {
        ev.JobVanished: Phase.REINSTALLING,
        ev.Reinstalled: Phase.REINSTALLED,
        ev.ReinstallFailed: Phase.STOPPING,
    },
    Phase.REINSTALLED: {
        ev.StartRequested: Phase.STARTING,
        ev.Started: Phase.VERIFYING,
    },
    Phase.STARTING: {
        ev.StartRequested: Phase.STARTING,
        ev.Started: Phase.VERIFYING,
    },
    Phase.VERIFYING: {
        ev.StartRequested: Phase.STARTING,
        ev.ChecksPassed: Phase.RETURNING,
    },
    Phase.RETURNING: {
        ev.StopRequested: Phase.RETURNING,
        ev.StopUnanswered: Phase.RETURNING,
        ev.StartRequested: Phase.RETURNING,
        ev.PutBack: Phase.WAITING,
        ev.Verified: Phase.VERIFIED,
    },
    Phase.VERIFIED: {
        ev.WentBad: Phase.FAILED,
    },
    Phase.FAILED: {
        ev.Retried: Phase.WAITING,
        ev.Skipped: Phase.SKIPPED,
    },
    Phase.SKIPPED: {
        ev.Retried: Phase.WAITING,  # only who was skipped because it had changed: see `may_follow`
    },
}
for _phase in IN_FLIGHT:
    TRANSITIONS[_phase][ev.Failed] = Phase.FAILED
    TRANSITIONS[_phase][ev.Claimed] = _phase
    TRANSITIONS[_phase][ev.GivingUp] = Phase.RETURNING
    TRANSITIONS[_phase][ev.Skipped] = Phase.SKIPPED
for _phase in Phase:
    TRANSITIONS[_phase][ev.DebtPaid] = _phase
    TRANSITIONS[_phase][ev.UndoFailed] = _phase
    TRANSITIONS[_phase][ev.Unclaimed] = _phase  # also after it is settled: it is owed until it is done
