"""The state folder: a folder for each run, where to find a run again, and the lock on each.

Locks are ``flock`` on files of their own that are never renamed, held for the life of the process. The
kernel lets go of them when the process dies, however it dies; nothing is ever stolen on a guess. Which
servers are whose is in `fleet.claims`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from fleet.errors import JournalError, LockedError, RunNotFoundError
from fleet.journal import sync_folder

JOURNAL = "journal.jsonl"
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letter that reads like a digit
_LOCK_PATIENCE_S = 0.5
"""`is_locked` has a run's lock for microseconds. A look of somebody else's must not refuse a run."""


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return where runs live: $FLEET_STATE_DIR, else $XDG_STATE_HOME/fleet, else ~/.local/state/fleet.

    Raises:
        JournalError: There is no such place.
    """
    environ = os.environ if environ is None else environ
    if chosen := environ.get("FLEET_STATE_DIR"):
        return Path(chosen).absolute()
    if base := environ.get("XDG_STATE_HOME"):
        return Path(base).absolute() / "fleet"
    try:
        return Path.home() / ".local" / "state" / "fleet"
    except RuntimeError as error:  # a container's user that is only a number
        raise JournalError(
            "there is no place for runs: HOME is not set, and this user has no home",
            hint="choose a lasting place with FLEET_STATE_DIR; nothing was touched",
        ) from error


def make_folder(folder: Path) -> None:
    """Create *folder* for its owner only, its parents as needed, and make its name last."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise JournalError(
            f"cannot create the folder {folder}: {error.strerror or error}",
            hint="choose a writable place with FLEET_STATE_DIR; nothing was touched",
        ) from error


def new_run_id(plan: str, now: datetime) -> str:
    """Return an id that sorts by time, reads well and fits a folder's name."""
    tail = "".join(secrets.choice(_LETTERS) for _ in range(4))
    return f"{plan}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{tail}"


def started_at(run_id: str) -> str:
    """Return the part of a run id that sorts by time."""
    parts = run_id.rsplit("-", 2)
    return "-".join(parts[1:]) if len(parts) == 3 else run_id


_BEGINNING = b'{"seq":1,"at":"'
"""How every journal begins."""


def plan_of(run_id: str) -> str:
    """Return the part of a run id that names its plan."""
    return run_id.rsplit("-", 2)[0]


def is_stillborn(journal: Path) -> bool:
    """Tell whether a journal has no whole first line: its run died before it touched anything.

    Raises:
        JournalError: It cannot be read.
    """
    try:
        with journal.open("rb") as file:
            first = file.readline()
    except OSError as error:
        raise JournalError(f"cannot read the journal {journal}: {error.strerror or error}") from error
    # The beginning of a first line, or nothing. Anything else was a journal once.
    return not first.endswith(b"\n") and (_BEGINNING.startswith(first) or first.startswith(_BEGINNING))


class Filed(NamedTuple):
    """A run that the state folder knows of, by its name alone: nothing has been read."""

    run: str
    journal: Path


ELSEWHERE = "elsewhere"
"""The folder of links to journals outside the state folder (``--journal``), named by their runs."""


def is_at_home(folder: Path, run: str, journal: Path) -> bool:
    """Tell whether a run's journal is where runs live, so that it is found without a link."""
    return journal.absolute() == folder.absolute() / run / JOURNAL


def keep_link(folder: Path, run: str, journal: Path) -> None:
    """Note where a journal is that lies outside the state folder, so that later runs come upon it.

    Raises:
        JournalError: It cannot be noted.
    """
    if is_at_home(folder, run, journal):
        return
    links = folder / ELSEWHERE
    make_folder(links)
    link, target = links / run, journal.absolute()
    try:
        if link.is_symlink() and link.readlink() == target:
            return
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        sync_folder(links)
    except OSError as error:
        raise JournalError(
            f"cannot note in {links} where the journal is: {error.strerror or error}",
            hint="choose a writable place with FLEET_STATE_DIR; nothing was touched",
        ) from error


def _elsewhere(folder: Path) -> Iterator[Filed]:
    """Yield the runs whose journals lie outside, as far as they are still there."""
    try:
        entries = sorted(os.scandir(folder / ELSEWHERE), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_symlink():
            # A journal that somebody has deleted is as gone as a deleted folder of a run. Whom its run left
            # half done, should there be anybody, is in its claim.
            target = Path(entry.path).readlink()
            if target.is_file():
                yield Filed(entry.name, target)


def journals_of(folder: Path, plan: str) -> list[Filed]:
    """Return a plan's runs, the newest first.

    Raises:
        JournalError: One of its folders has no journal that can be read. What cannot be read may be a run
            that has wiped servers, so it is never taken for none.
    """
    found = []
    try:
        # A preview may be the first command ever: no state folder, no runs.
        for entry in os.scandir(folder) if folder.exists() else ():
            if entry.is_dir() and plan_of(entry.name) == plan and entry.name.count("-") >= 2:
                journal = Path(entry.path) / JOURNAL
                try:
                    regular = stat.S_ISREG(journal.stat().st_mode)
                except FileNotFoundError:
                    if journal.is_symlink():
                        regular = False
                    else:
                        continue  # it died before it had a journal
                if not regular:
                    raise JournalError(f"{journal} is no file", hint="restore it, or move its folder away")
                found.append(Filed(entry.name, journal))
        found += [filed for filed in _elsewhere(folder) if plan_of(filed.run) == plan]
    except OSError as error:
        raise JournalError(
            f"cannot read the runs of plan {plan!r}: {error.strerror or error}",
            hint="run as the user who owns the state folder",
        ) from error
    return sorted(found, key=lambda filed: started_at(filed.run), reverse=True)


def journals(folder: Path) -> list[Filed]:
    """Return all runs, the newest first."""
    found = [Filed(path.parent.name, path) for path in folder.glob(f"*/{JOURNAL}") if path.is_file()]
    known = {filed.run for filed in found}
    found += [filed for filed in _elsewhere(folder) if filed.run not in known]
    return sorted(found, key=lambda filed: started_at(filed.run), reverse=True)


def find(name: str | None, folder: Path) -> Path:
    """Return the journal that *name* means: a run id, a unique prefix, a path, or nothing for the newest.

    A plan's name means its newest run: who types it in an incident does not have the id at hand.

    Raises:
        RunNotFoundError: None or several do.
    """
    if name is not None and (os.sep in name or name.endswith(".jsonl")):
        path = Path(name)
        path = path / JOURNAL if path.is_dir() else path
        if not path.is_file():
            raise RunNotFoundError(f"no journal at {path}")
        return path
    known = journals(folder)
    if not known:
        raise RunNotFoundError(f"there are no runs in {folder}", hint="FLEET_STATE_DIR says where runs live")
    if name is None:
        return known[0].journal
    if exact := [filed for filed in known if filed.run == name]:
        return exact[0].journal
    if of_plan := [filed for filed in known if plan_of(filed.run) == name]:
        return of_plan[0].journal
    matching = [filed for filed in known if filed.run.startswith(name)]
    if len(matching) == 1:
        return matching[0].journal
    if not matching:
        raise RunNotFoundError(f"no run is called {name!r}", hint="`fleet runs` lists them")
    some = ", ".join(filed.run for filed in matching[:5])
    raise RunNotFoundError(f"{len(matching)} runs begin with {name!r}: {some}", hint="give more of the id")


def files_folder(journal: Path) -> Path:
    """Return where a run keeps what the journal must not hold: its user data, for its owner only."""
    return journal.with_suffix(".files")


def keep_files(journal: Path, contents: Mapping[str, bytes]) -> None:
    """Keep user data by digest beside the journal, so that a resume needs nothing but the run's folder."""
    if not contents:
        return
    folder = files_folder(journal)
    make_folder(folder)
    for digest, content in contents.items():
        path = folder / digest
        if path.exists():
            continue
        aside = folder / f".{digest}.new"
        try:
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(path)
            sync_folder(folder)
        except OSError as error:
            raise JournalError(f"cannot write {path}: {error.strerror or error}") from error


def read_files(journal: Path) -> dict[str, bytes]:
    """Return what `keep_files` kept."""
    folder = files_folder(journal)
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


class Lock:
    """An exclusive lock on a file of its own.

    Args:
        path: The file; created if need be, never renamed, never deleted.
        what: What is locked, for the one who finds it taken.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._what = what
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(
                f"cannot open the lock {path}: {error.strerror or error}",
                hint="choose a writable place with FLEET_STATE_DIR; nothing was touched",
            ) from error
        try:
            self._take()
        except BlockingIOError:
            holder = self.holder()
            os.close(self._fd)
            raise LockedError(
                f"{what} is being worked on by another process{f' ({holder})' if holder else ''}",
                hint="`fleet status` shows how far it is",
            ) from None
        except OSError as error:
            os.close(self._fd)
            words = "this file system has no locks" if error.errno in {errno.ENOLCK, errno.ENOSYS} else error
            raise JournalError(
                f"cannot lock {path}: {words}", hint="put the state folder on a local disk (FLEET_STATE_DIR)"
            ) from error
        me = f"pid {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        with contextlib.suppress(OSError):  # a full disk: the lock is ours all the same, only without a name
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, me.encode(), 0)

    def _take(self) -> None:
        """Lock the file, or raise BlockingIOError when somebody keeps it."""
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.02)

    def holder(self) -> str:
        """Return who wrote itself into the file last."""
        return os.pread(self._fd, 200, 0).decode(errors="replace").strip()

    def release(self) -> None:
        """Let go. Dying does the same."""
        os.close(self._fd)


def lock_run(journal: Path) -> Lock:
    """Lock a run by its journal."""
    return Lock(journal.with_name(journal.name + ".lock"), f"run {journal.parent.name}")


def is_locked(journal: Path) -> str | None:
    """Return who works on a run at the moment, or None. A look, no promise."""
    path = journal.with_name(journal.name + ".lock")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 200, 0).decode(errors="replace").strip() or "another process"
    except OSError:
        return None
    finally:
        os.close(fd)
    return None
