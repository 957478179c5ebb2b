"""Whose servers are whose, among the runs of one state folder.

A run claims the servers that it may touch: one file for each run in ``live/``, locked as long as the run's
process lives. A dead run's claim stays for as long as it has left a server half done, that is in flight, in
doubt, or with something owed: nobody else may touch that one until the run is resumed or the server is given
up by a person. What a dead run has not begun anybody may have; the run finds out when it goes on.

Nothing here depends on names of plans, or on where a journal is: a renamed plan and ``--journal`` outside
the state folder are seen like all others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fleet.core.state import IN_FLIGHT, Run, ServerState, owes_undoing
from fleet.errors import FleetError, JournalError, LockedError
from fleet.journal import load
from fleet.runs import ELSEWHERE, JOURNAL, is_at_home, is_stillborn, make_folder


class _Claimed(msgspec.Struct):
    """What a run writes about itself.

    Attributes:
        journal: Where it is; empty in files of older versions, which means in the state folder.
        begun: The journal has its first line. Before that nothing was touched.
    """

    run: str
    holder: str
    servers: list[str]
    journal: str = ""
    begun: bool = True


@dataclass(frozen=True, slots=True)
class HalfDone:
    """What a dead run has left behind, of those that were asked about.

    Attributes:
        name: What the command line finds the run by.
        servers: Ids, sorted.
        unread: Why its journal cannot tell; then *servers* are all that it may have touched. Or empty.
    """

    run: str
    name: str
    servers: tuple[str, ...]
    unread: str = ""

    @property
    def reason(self) -> str:
        """What is the matter with each of the servers, in words."""
        if self.unread:
            return f"run {self.run} may have left it half done: {self.unread}"
        return f"run {self.run} has left it half done, and its process is dead"

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.unread:
            return (
                f"bring the journal back and `fleet resume {self.name}`; if it is gone for good, look at the "
                f"servers in the console, then delete live/{self.run}.json in the state folder"
            )
        return (
            f"`fleet resume {self.name}` finishes it; `fleet abandon {self.name} SERVER… --reason …` gives "
            "it up as it is"
        )


def is_half_done(server: ServerState) -> bool:
    """Tell whether a server must not be left as it is, and so is nobody else's.

    A claim tag that is still on it is no such thing: whoever looks at the server sees that by himself.
    """
    return server.phase in IN_FLIGHT or owes_undoing(server)


def half_done_of(run: Run) -> list[str]:
    """Return the ids of the servers that a run would leave half done if it ended now."""
    return [server.id for server in run.servers.values() if is_half_done(server)]


@dataclass(slots=True)
class Claim:
    """The servers of one life of a run. Dying gives back what was not begun, and keeps what is half done."""

    path: Path
    _fd: int
    _claimed: _Claimed

    def begun(self) -> None:
        """Note that the journal has begun: from now on a missing one is no proof that nothing was touched.

        Raises:
            JournalError: It cannot be noted.
        """
        if not self._claimed.begun:
            self._claimed.begun = True
            with _guarded(self.path.parent.parent):
                _write(self._fd, self._claimed)

    def release(self, half_done: Collection[str] = ()) -> None:
        """Give the servers back, but for those that are *half_done*."""
        if half_done:
            self._claimed.servers = sorted(half_done)
            # A full disk: the longer list protects them as well.
            with contextlib.suppress(JournalError), _guarded(self.path.parent.parent):
                _write(self._fd, self._claimed)
        else:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)


def _write(fd: int, claimed: _Claimed) -> None:
    """Write a claim in place, under the guard: the file is locked, and a lock does not follow a rename."""
    data = msgspec.json.encode(claimed)
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], written)
    os.ftruncate(fd, len(data))
    os.fsync(fd)


def _read(fd: int, path: Path, wanted: Collection[str]) -> _Claimed:
    """Read a claim. One that was torn when its writer died names all of *wanted*: the journal tells."""
    with os.fdopen(os.dup(fd), "rb") as file:  # by its name it may be gone by now
        file.seek(0)
        data = file.read()
    try:
        return msgspec.json.decode(data, type=_Claimed)
    except ValueError:
        link = path.parent.parent / ELSEWHERE / path.stem
        return _Claimed(path.stem, "unknown", sorted(wanted), str(link) if link.is_symlink() else "")


@contextlib.contextmanager
def _guarded(folder: Path) -> Iterator[Path]:
    """Have the claims of a state folder to oneself, for a moment; yield where they are."""
    live = folder / "live"
    make_folder(live)
    guard = -1
    try:
        guard = os.open(folder / "live.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield live
    except OSError as error:
        raise JournalError(
            f"cannot claim servers in {live}: {error.strerror or error}",
            hint="make room or choose another place with FLEET_STATE_DIR; nothing was touched",
        ) from error
    finally:
        if guard >= 0:
            os.close(guard)


def check_unclaimed(folder: Path, servers: Iterable[str], *, run: str = "") -> tuple[HalfDone, ...]:
    """Look who works on *servers*, or has left them half done. No promise: that is the claim.

    Args:
        folder: The state folder.
        servers: Whom one would like to have.
        run: Whose own claim does not count.

    Returns:
        What dead runs have left half done among *servers*.

    Raises:
        LockedError: A live run works on one of them.
        JournalError: The claims cannot be read.
    """
    wanted = set(servers)
    with _guarded(folder) as live:
        found = (_look(folder, path, wanted) for path in sorted(live.glob("*.json")) if path.stem != run)
        return tuple(each for each in found if each is not None)


def look_at(folder: Path, servers: Collection[str]) -> tuple[HalfDone, ...]:
    """Return what dead runs have left half done among *servers*, for a preview: claims nothing.

    Raises:
        JournalError: The claims cannot be read.
    """
    if not (folder / "live").is_dir():
        return ()
    try:
        return check_unclaimed(folder, servers)
    except LockedError:
        return ()  # a live run is for `claim_servers` to refuse


def claim_servers(
    folder: Path, run: str, servers: Iterable[str], *, journal: Path | None = None, begun: bool = True
) -> Claim:
    """Claim *servers* for *run*, so that no other run of this state folder works on one of them.

    Args:
        folder: The state folder.
        run: Its id.
        servers: Those that it may touch.
        journal: Its journal, which tells what it has left half done once it is dead.
        begun: The journal has a first line already.

    Raises:
        LockedError: A live run has one of them, or a dead one has left one half done.
        JournalError: The claim cannot be written.
    """
    wanted = list(servers)
    with _guarded(folder) as live:
        path = live / f"{run}.json"
        for other in sorted(live.glob("*.json")):
            if other != path and (found := _look(folder, other, set(wanted))) is not None:
                raise LockedError(f"{_some(found.servers)}: {found.reason}", hint=found.hint)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        where = str((journal or folder / run / JOURNAL).absolute())
        claimed = _Claimed(run, f"pid {os.getpid()} on {socket.gethostname()}", wanted, where, begun)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(fd, claimed)
        except BlockingIOError:
            holder = _read(fd, path, wanted).holder
            os.close(fd)
            raise LockedError(
                f"run {run} is being worked on by another process ({holder}), by another copy of its journal",
                hint="wait until it has ended",
            ) from None
        except OSError:
            os.close(fd)
            raise
        return Claim(path, fd, claimed)


def forget(folder: Path, run: str) -> None:
    """Drop the claim of a dead run whose servers are no more. A live run keeps its own.

    Raises:
        JournalError: The claims cannot be read.
    """
    with _guarded(folder) as live, contextlib.suppress(FileNotFoundError):
        path = live / f"{run}.json"
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        finally:
            os.close(fd)


def _look(folder: Path, path: Path, wanted: set[str]) -> HalfDone | None:
    """Say what the claim of another run has to do with *wanted*. Under the guard.

    A dead run's claim is cut down to what it has left half done, or cleared away.

    Raises:
        LockedError: It is a live run's, and names one of them.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # given back since the folder was listed
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = _read(fd, path, wanted)
            if both := sorted(wanted.intersection(other.servers)):
                raise LockedError(
                    f"{len(both)} of these servers are being worked on by run {other.run} ({other.holder}), "
                    f"among them {', '.join(both[:3])}",
                    hint="wait until it has ended",
                ) from None
            return None
        claimed = _read(fd, path, wanted)
        if wanted.isdisjoint(claimed.servers):
            return None  # its journal need not be read
        return _left_behind(folder, path, fd, claimed, wanted)
    finally:
        os.close(fd)


def _left_behind(folder: Path, path: Path, fd: int, claimed: _Claimed, wanted: set[str]) -> HalfDone | None:
    """Ask a dead run's journal what it has left half done."""
    journal = Path(claimed.journal) if claimed.journal else folder / claimed.run / JOURNAL
    at_home = is_at_home(folder, claimed.run, journal)
    left, unread = _half_done_in(journal, claimed, at_home=at_home)
    if not left:
        path.unlink(missing_ok=True)
        return None
    if not unread and len(left) < len(claimed.servers):
        claimed.servers = sorted(left)
        with contextlib.suppress(OSError):  # only to save the next one's time
            _write(fd, claimed)
    both = tuple(sorted(wanted.intersection(left)))
    return HalfDone(claimed.run, claimed.run if at_home else str(journal), both, unread) if both else None


def _half_done_in(journal: Path, claimed: _Claimed, *, at_home: bool) -> tuple[Sequence[str], str]:
    """Return the servers that are half done by a dead run's journal, and why it cannot tell, if so."""
    if not journal.exists():
        # In the state folder a person has deleted it, with the run. Elsewhere its disk may not be there.
        if at_home or not claimed.begun:
            return (), ""
        return claimed.servers, f"its journal {journal} is not there"
    try:
        if is_stillborn(journal):
            return (), ""
        run, _ = load(journal)
    except FleetError as error:
        return claimed.servers, error.message
    if run.id != claimed.run:
        return claimed.servers, f"{journal} is the journal of another run by now"
    known = set(claimed.servers)
    return [server for server in half_done_of(run) if server in known], ""


def _some(servers: Sequence[str]) -> str:
    names = ", ".join(servers[:3])
    return f"{names} and {len(servers) - 3} more" if len(servers) > 3 else names
