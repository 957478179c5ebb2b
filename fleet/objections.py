"""What speaks against a server that the cloud does not show: other runs, and what this machine stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.claims import look_at
from fleet.core.claimtag import read, tail_of
from fleet.core.model import Server, ServerId
from fleet.core.preflight import Objection
from fleet.core.settings import Settings
from fleet.core.state import Phase, Run
from fleet.errors import PlanError, Problem
from fleet.runs import journals
from fleet.whereami import OVERRIDE, stood_on


@dataclass(frozen=True, slots=True)
class Objections:
    """For `fleet.survey.survey`.

    Attributes:
        state: The state folder.
        settings: The plan.
    """

    state: Path
    settings: Settings

    def of(self, servers: Sequence[Server]) -> Mapping[ServerId, Sequence[Objection]]:
        """Return the objections to *servers*. Reads, and nothing else."""
        found: dict[ServerId, list[Objection]] = {}
        for left in look_at(self.state, [server.id for server in servers]):
            for server_id in left.servers:
                found.setdefault(ServerId(server_id), []).append(Objection(left.reason, left.hint))
        for server in servers:
            for key, value in server.claims.items():
                found.setdefault(server.id, []).append(self._claimed(key, value))
        beneath = stood_on((self.state, Path(self.settings.folder)))
        for server in servers:
            for address in (*server.addresses, *server.public_addresses):
                if address in beneath:
                    found.setdefault(server.id, []).append(_beneath(address, beneath[address]))
        return found

    def _claimed(self, key: str, value: str) -> Objection:
        claim = read(key, value)
        if claim is None:
            return Objection(
                f"another run works on it, by a claim that this fleet cannot read: {key}={value}",
                "use the version of fleet that has made it",
            )
        for filed in journals(self.state):
            if tail_of(filed.run) == claim.run:
                return Objection(f"run {filed.run} has claimed it", f"`fleet resume {filed.run}` first")
        return Objection(
            f"another run works on it: {claim}",
            "wait until that run has ended; if it is dead and nobody will resume it, `fleet unclaim PLAN "
            f"--run {claim.run}` takes its claims off",
        )


def check_ground(run: Run, state: Path) -> None:
    """Refuse to go on with a run that would wipe what this machine stands on; it may have come from another.

    By the private addresses that servers had when the run was opened.

    Raises:
        PlanError: One of those that wait has such an address.
    """
    beneath = stood_on((state, Path(run.settings.folder)))
    hint = f"resume the run on another machine, or `fleet skip` it; {OVERRIDE} names what really counts"
    problems = [
        Problem(f"{server.label}: {_beneath(address, beneath[address]).message}", hint=hint)
        for server in run.servers.values()
        if server.phase is Phase.WAITING
        for address in server.member.addresses
        if address in beneath
    ]
    if problems:
        raise PlanError(*problems)


def _beneath(address: str, why: str) -> Objection:
    return Objection(
        f"this machine stands on it: {address} is {why}",
        f"run fleet elsewhere; where that is another network's address, name those that count in {OVERRIDE}, "
        "or `none`",
    )
