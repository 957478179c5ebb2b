"""A run in a few lines, kept beside its journal, so that nobody reads a whole journal for a list of runs.

It is made from the journal and from nothing else, and holds only as long as the journal ends where it ended
then. Whenever it does not, or cannot be read, it is made anew: deleting it is always right.
"""

from __future__ import annotations

import contextlib
import os
from datetime import datetime
from pathlib import Path

import msgspec

from fleet import __version__
from fleet.core.model import ServerId
from fleet.core.settings import Reinstall
from fleet.core.state import Phase, Run
from fleet.journal import load
from fleet.report.figures import Miscounted, add_up, figures
from fleet.report.status import state_word

_END = 40
"""Bytes of the journal's end: the last line's checksum, which is chained over all lines, is in them."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """Servers of one target that have been reinstalled, or that may have been.

    Attributes:
        reinstall: With what.
        verified: Ids of those that were verified.
        failed: Ids of those that failed and may have been wiped.
    """

    reinstall: Reinstall
    verified: tuple[ServerId, ...] = ()
    failed: tuple[ServerId, ...] = ()


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of runs shows, and what later runs ask an earlier one.

    Attributes:
        fleet: Version that made it: words may change from one to the next.
        size, end: Of the journal: its bytes, and the last few of them.
        state: What it is doing, in words, when nobody works on it.
        settled: Nobody waits, nobody is in flight, and nothing is owed.
        manifest: Digest of the manifest that it has used up, or empty.
    """

    fleet: str
    size: int
    end: str
    run: str
    plan: str
    cloud: str
    project: str
    opened_at: datetime
    state: str
    settled: bool
    figures: dict[str, int]
    tried: tuple[Tried, ...] = ()
    manifest: str = ""


def path_of(journal: Path) -> Path:
    """Return where a journal's digest is."""
    return journal.with_name(f"{journal.name.removesuffix('.jsonl')}.digest.json")


def make(run: Run, size: int, end: str) -> Digest:
    """Make a digest of *run*, whose journal has *size* bytes."""
    tried = []
    for target in run.settings.targets:
        verified, failed = [], []
        for server in run.servers.values():
            if server.member.target == target.name:
                if server.phase is Phase.VERIFIED:
                    verified.append(server.id)
                elif server.phase is Phase.FAILED and server.wiped is not False:
                    failed.append(server.id)
        if verified or failed:
            tried.append(Tried(reinstall=target.reinstall, verified=tuple(verified), failed=tuple(failed)))
    return Digest(
        fleet=__version__,
        size=size,
        end=end,
        run=run.id,
        plan=run.settings.plan,
        cloud=run.opened.cloud,
        project=run.opened.project,
        opened_at=run.opened_at,
        state=state_word(run, None),
        settled=run.is_settled and not run.owes,
        figures=figures(run),
        tried=tuple(tried),
        manifest=run.opened.manifest,
    )


def _end_of(journal: Path) -> tuple[int, str]:
    with journal.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END))
        return size, file.read().decode("ascii", "backslashreplace")


def digest_of(journal: Path) -> Digest:
    """Return the digest of a run, from its file or from the journal; keeps what it made, if that is possible.

    Raises:
        JournalError: The journal cannot be read.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, Miscounted):
        found = msgspec.json.decode(path_of(journal).read_bytes(), type=Digest)
        if found.fleet == __version__ and (found.size, found.end) == _end_of(journal):
            add_up(found.figures)
            return found
    run, tail = load(journal)
    return _made(run, journal, tail.size)


def keep_of(run: Run, journal: Path) -> None:
    """Make a digest of a run that this process has written to its journal, and keep it."""
    with contextlib.suppress(OSError):
        _made(run, journal, journal.stat().st_size)


def _made(run: Run, journal: Path, read: int) -> Digest:
    try:
        size, end = _end_of(journal)
    except OSError:
        size, end = -1, ""
    made = make(run, size, end)
    if size == read:  # nothing was written meanwhile, and nothing is torn
        _keep(journal, made)
    return made


def _keep(journal: Path, digest: Digest) -> None:
    """Write a digest down. Nothing depends on it, so nothing is said when that fails."""
    path = path_of(journal)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(digest))
        aside.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
