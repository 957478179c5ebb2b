"""In doubt, and right before the wipe: what the evidence says. The one place that concludes.

The request was announced, and no usable answer is known: lost, late, or we died. The cloud has no list of
jobs and no idempotency for this call, so the server itself is the witness. Facts and their sources
(``docs/reliability.md`` has the table):

- A reinstall creates a new system disk and deletes the old one: another id proves it was taken.
- While it runs, the server says REBUILD or a task ``rebuilding…``, or shows no system disk in several looks.
  Either proves it was taken, since before the call it was idle and had its disk.
- A request cannot live longer than our time-out and the gateway's together; `settle_s` is longer. A server
  that stood unchanged all that time, seen several times, was not taken.
- ``ACTIVE`` although nobody of us started it, with the old disk, proves nothing: somebody else may have
  done it, or the cloud passes through a false idle state. Nothing but more looks helps.

What cannot be told is never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from fleet.core.events import Member, ReinstallRequested
from fleet.core.model import JobId, Server
from fleet.core.select import is_protected, matches, removed_by
from fleet.core.settings import Settings, Target
from fleet.core.state import ServerState

MIN_LOOKS = 3
"""Equal looks in a row that a standing server needs: a real Nova passes through false idle states."""


class Verdict(Enum):
    """What is known about an unanswered request."""

    TAKEN = auto()
    NOT_TAKEN = auto()
    UNDECIDABLE = auto()
    KEEP_LOOKING = auto()


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A verdict, and the evidence for it in words.

    Attributes:
        job: Of a request that was taken, where the look names it.
    """

    verdict: Verdict
    evidence: str = ""
    job: JobId | None = None


def is_reinstalling(seen: Server) -> bool:
    """Tell whether this look shows a reinstall under way, beyond doubt."""
    return seen.status == "REBUILD" or (seen.task or "").startswith("rebuild")


def has_new_disk(noted: ReinstallRequested, seen: Server) -> bool:
    """Tell whether the server boots from another disk than before the request."""
    return seen.system_disk is not None and seen.system_disk != noted.system_disk


class Doubt:
    """What one life of a run has seen of a server in doubt.

    Args:
        noted: The announcement, with the installation that was there before it.
        limit_s: Watched seconds after which a server that is never idle is undecidable too.
    """

    def __init__(self, noted: ReinstallRequested, *, limit_s: float) -> None:
        self._noted = noted
        self._limit_s = limit_s
        self._last: tuple[str, str | None] | None = None
        self._steady = 0
        self._deviation = ""

    def look(self, seen: Server, *, watched_s: float) -> Conclusion:
        """Say what one more fresh read of the server tells.

        Args:
            seen: The look.
            watched_s: Seconds that the server has been watched since it was in doubt or since the run was
                resumed, whichever is later; time in which the cloud could not be asked left out.
        """
        noted = self._noted
        if has_new_disk(noted, seen):
            evidence = f"system disk {seen.system_disk} instead of {noted.system_disk}"
            return Conclusion(Verdict.TAKEN, evidence, seen.installed_by)
        if is_reinstalling(seen):
            return Conclusion(Verdict.TAKEN, f"the server is {seen.state()}")
        now = (seen.state(), seen.system_disk)
        self._steady = self._steady + 1 if now == self._last else 1
        self._last = now
        as_before = looks_as_before(noted, seen)
        if not as_before:
            self._deviation = f"{seen.state()} with system disk {seen.system_disk or 'not shown'}"
        steady = self._steady >= MIN_LOOKS
        # Answers leave fields out now and then, so it takes several looks without a system disk.
        if steady and noted.system_disk is not None and seen.system_disk is None:
            return Conclusion(Verdict.TAKEN, f"system disk {noted.system_disk} is gone")
        if not steady and not self._deviation:
            return Conclusion(Verdict.KEEP_LOOKING)
        calm = steady and seen.is_idle
        if watched_s < noted.settle_s or (not calm and watched_s < self._limit_s):
            return Conclusion(Verdict.KEEP_LOOKING)
        if not self._deviation:
            evidence = (
                f"watched for {watched_s:.0f} s: still {noted.state} with system disk {noted.system_disk}"
            )
            return Conclusion(Verdict.NOT_TAKEN, evidence)
        return Conclusion(
            Verdict.UNDECIDABLE,
            f"watched for {watched_s:.0f} s and saw {self._deviation}; before the request it was "
            f"{noted.state} with system disk {noted.system_disk}",
        )


def looks_as_before(noted: ReinstallRequested, seen: Server) -> bool:
    """Tell whether a look shows the server just as it was right before the request."""
    return (
        noted.system_disk is not None
        and seen.system_disk == noted.system_disk
        and seen.state() == noted.state
        and seen.is_idle
    )


def may_wipe(server: ServerState, seen: Server, settings: Settings, target: Target) -> str | None:
    """Say why *seen*, read right before the announcement, is not the server that was planned for.

    Args:
        server: The server as the run knows it.
        seen: A fresh read of it.
        settings: The plan in force, for whom it protects.
        target: The server's target, for whom it selects; its power does not count, that is our doing.

    Returns:
        None when it may be wiped, else the difference in words.
    """
    member = server.member
    if seen.id != member.id:
        return f"the cloud answered with another server, {seen.id}"
    if seen.name != member.name:
        return f"its name is {seen.name!r}, it was {member.name!r} when the run was opened"
    if member.flavor and seen.flavor and seen.flavor != member.flavor:
        return f"its flavor is {seen.flavor}, it was {member.flavor} when the run was opened"
    if seen.locked:
        return "it has been locked since the run was opened"
    if seen.bare_metal:
        return "it is a bare metal server"
    if seen.system_disk is None:
        return "it shows no system disk, so there is nothing to reinstall"
    # That it is off is our doing: to whoever selects, excludes or protects by status it is as it was found.
    found = msgspec.structs.replace(seen, status=member.status)
    if (protected := is_protected(settings, found)) is not None:
        return protected
    if target.exclude is not None and (removed := removed_by(target.exclude, found)) is not None:
        return f"it is excluded by now: {removed}"
    if (unselected := matches(target.select, found)) is not None:
        return f"it is not selected any more: {unselected}"
    # After a reinstall that the cloud took from us, also before a person's retry, it may be another one.
    # After a request that was refused or not taken it may not, however many were taken before that.
    expected = server.noted.system_disk if server.noted else member.system_disk
    if not server.disk_may_differ and expected is not None and seen.system_disk != expected:
        who = "our last request, after all, or somebody else" if server.noted else "somebody"
        return f"its system disk is {seen.system_disk}, it was {expected}: {who} has reinstalled it"
    return None


def differences(
    member: Member, noted: ReinstallRequested | None, seen: Server, *, key_pair: str | None = None
) -> list[str]:
    """Say what a reinstall changed that it should not have. Empty is good.

    Only what the cloud showed before is compared; it leaves fields out now and then.

    Args:
        member: The server as it was when the run was opened.
        noted: … and right before its latest request.
        seen: A look at it now.
        key_pair: What it was reinstalled with. Whether the cloud shows the new one then, or goes on showing
            the one that the server was made with, its documentation does not say: a third one is wrong.
    """
    found: list[str] = []

    def compare(what: str, before: object, after: object) -> None:
        if before and before != after:
            found.append(f"{what} was {_words(before)}, is {_words(after)}")

    compare("name", member.name, seen.name)
    compare("flavor", member.flavor, seen.flavor)
    compare("availability zone", member.zone, seen.zone)
    compare("addresses", sorted(member.addresses), sorted(seen.addresses))
    compare("security groups", sorted(member.security_groups), sorted(seen.security_groups))
    compare("tags", _own(member.tags), _own(seen.tags))
    if key_pair and member.key_pair and seen.key_pair not in {"", key_pair, member.key_pair}:
        compare("key pair", key_pair, seen.key_pair)
    compare("data disks", sorted(noted.data_disks if noted else member.data_disks), list(seen.data_disks))
    return found


def _own(tags: dict[str, str]) -> dict[str, str]:
    """Leave out the platform's own tags, which come and go."""
    return {key: value for key, value in tags.items() if not key.startswith("_")}


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in sorted(value.items())) or "none"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or "none"
    return str(value) or "none"
