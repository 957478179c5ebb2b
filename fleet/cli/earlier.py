"""The runs of a plan that are on the disk: which one is gone on with, and whom they have done already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet import runs
from fleet.cli.common import say
from fleet.core.edits import same_content
from fleet.core.model import Identity, ServerId
from fleet.core.state import Run
from fleet.journal import Tail, load
from fleet.report.digest import Digest, digest_of
from fleet.survey import Survey


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run that is on the disk already."""

    journal: Path
    run: Run
    tail: Tail


def runs_of(state: Path, plan: str, identity: Identity) -> Iterator[tuple[Path, Digest]]:
    """Yield the runs of *plan* on this cloud and project, the newest first.

    The same plan on another one (its region may come from the environment) is another matter.
    """
    for name, journal in runs.journals_of(state, plan):
        if runs.is_stillborn(journal):
            continue
        found = digest_of(journal)
        if found.run != name:
            say(f"warning: {journal} is a copy of run {found.run}, and is ignored")
        elif (found.plan, found.project, found.cloud) == (plan, identity.project_id, identity.cloud):
            yield journal, found


def latest(state: Path, plan: str, identity: Identity) -> Earlier | None:
    """Return the run of *plan* to go on with: an unfinished one before a newer one that is finished."""
    newest: Path | None = None
    for journal, found in runs_of(state, plan, identity):
        if not found.settled:
            return Earlier(journal, *load(journal))
        newest = newest or journal
    return Earlier(newest, *load(newest)) if newest else None


def is_over(found: Run) -> bool:
    """Tell whether nothing is left to do: everybody is settled, and nothing is owed."""
    return found.is_settled and not found.owes


def reinstalled_before(state: Path, found: Survey) -> dict[ServerId, str]:
    """Return whom a run of this plan has reinstalled with the same contents, and what became of it, in words.

    A failed server that may have been wiped is no different: that is for a person to decide. Whatever else
    was edited since (waves, expectations, who else is selected), or narrowed by ``--limit``: to be wiped once
    more takes ``--again``.
    """
    targets = {target.name: target.reinstall for target in found.settings.targets}
    wanted = {member.id: targets[member.target] for member in found.members}
    done: dict[ServerId, str] = {}
    for _, earlier in runs_of(state, found.settings.plan, found.identity):
        for tried in earlier.tried:
            for words, servers in (("reinstalled by", tried.verified), ("failed in", tried.failed)):
                for server in servers:
                    if server in wanted and same_content(tried.reinstall, wanted[server]):
                        done.setdefault(server, f"{words} run {earlier.run}")
    return done


def leave_out(state: Path, found: Survey) -> None:
    """Skip whom an earlier run of this very plan has tried: a canary is not wiped once more."""
    for server, why in reinstalled_before(state, found).items():
        if server not in found.skipped:
            found.done[server] = found.skipped[server] = f"{why}; --again does it anew"


def tell_left_out(found: Survey) -> None:
    """Say how many were left out for that, and what changes it."""
    names = [member.name or member.id for member in found.members if member.id in found.done]
    if names:
        some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        say(f"{len(names)} of these servers are left out: an earlier run of this plan did them ({some})")
        say("hint: --again reinstalls them once more")
